"""Which steps are asked, and what is made of the answers: mode, order, why and what comes next."""

from dataclasses import replace

import pytest

from fallback import decision
from fallback.domain import (
    Breaker,
    Finding,
    Given,
    Kind,
    LastResort,
    MidCallAction,
    Mode,
    NextAction,
    OutcomeKind,
    Override,
    Provider,
    Question,
    Reason,
    Route,
    State,
    Step,
    Verdict,
    Walk,
)
from fallback.errors import NoUsableProvider

SONIOX = Provider("soniox", Kind.STT, "Soniox", True, ("en", "hi-IN"), {}, "", "default")
DEEPGRAM = replace(SONIOX, slug="deepgram", languages=())
SARVAM = replace(SONIOX, slug="sarvam", enabled=False)
ROUTE = Route(
    "main", "Main", Kind.STT, True, MidCallAction.SWAP, LastResort.PRIMARY,
    tuple(Step(one, {}) for one in (SONIOX, DEEPGRAM, SARVAM)),
)  # fmt: skip
ASKED = Question(route="main", call_id="one")
OPEN = Breaker(
    state=State.OPEN,
    cause="failure_threshold",
    evidence={"failures": 2, "failure_window_s": 240, "failure_threshold": 2},
)


def walk(*verdicts: Verdict, chosen: int = 0, given: Given = Given.FIRST) -> Walk:
    """Return what the breakers of soniox and deepgram said."""
    findings = [
        Finding(slug, verdict, OPEN if verdict == Verdict.OPEN else Breaker())
        for slug, verdict in zip(("soniox", "deepgram"), verdicts, strict=False)
    ]
    return Walk(tuple(findings), chosen, given, "", None, 1000, 7, 1)


@pytest.mark.parametrize(
    ("language", "speaks"),
    [("", True), ("en", True), ("en-GB", True), ("EN-us", True), ("hi", True), ("ta-IN", False)],
)
def test_a_language_matches_by_its_subtags(language: str, speaks: bool) -> None:
    assert decision.speaks(SONIOX, language) is speaks


def test_steps_that_cannot_be_used_are_not_asked() -> None:
    asked = decision.ask(replace(ASKED, language="ta-IN"), ROUTE)

    assert asked.steps == (("deepgram", False),)
    assert dict(asked.excluded) == {"soniox": "wrong_language", "sarvam": "disabled"}
    assert asked.keep


def test_a_call_that_nobody_can_take_is_told_why_for_each_step() -> None:
    with pytest.raises(NoUsableProvider, match=r"soniox: not_usable .* sarvam: disabled"):
        decision.ask(replace(ASKED, can_use=("google",)), ROUTE)


@pytest.mark.parametrize(
    ("chosen", "given", "mode"),
    [
        (0, Given.FIRST, Mode.PRIMARY),
        (1, Given.FIRST, Mode.FALLBACK),
        (1, Given.STICKY, Mode.FALLBACK),
        (0, Given.PROBE, Mode.PROBE),
        (0, Given.LAST_RESORT, Mode.LAST_RESORT),
        (0, Given.BYPASS, Mode.BYPASS),
    ],
)
def test_the_mode_says_how_the_provider_was_found(chosen: int, given: Given, mode: Mode) -> None:
    found = walk(Verdict.ADMITTED, Verdict.ADMITTED, chosen=chosen, given=given)

    assert decision.conclude(ASKED, ROUTE, found).mode == mode


def test_the_order_is_whole_and_those_that_do_not_admit_come_last() -> None:
    made = decision.conclude(ASKED, ROUTE, walk(Verdict.OPEN, Verdict.ADMITTED, chosen=1))

    assert [step.provider.slug for step in made.order] == ["deepgram", "soniox"]


def test_why_names_every_step_and_every_stranger() -> None:
    asked = replace(ASKED, can_use=("soniox", "deepgram", "acme"), failed=("beta",))
    made = decision.conclude(asked, ROUTE, walk(Verdict.OPEN, Verdict.ADMITTED, chosen=1))

    assert [(line.provider, line.verdict) for line in made.why] == [
        ("soniox", "open"),
        ("deepgram", "admitted"),
        ("sarvam", "disabled"),
        ("acme", "not_usable"),
        ("beta", "not_usable"),
    ]
    assert made.why[0].detail == "2 failures in 240 s (threshold 2)"


def test_an_order_is_explained_by_its_author_and_reason() -> None:
    order = Override(State.FORCED_OPEN, "ana", "their status page is red {oops}", 0)

    assert decision.describe(Breaker(override=order)) == "by ana: their status page is red {oops}"


@pytest.mark.parametrize(
    ("kind", "reason", "route", "swap_to", "action"),
    [
        ("init_failure", Reason.TIMEOUT, ROUTE, "deepgram", NextAction.SWAP),
        ("mid_call_failure", Reason.STREAM, ROUTE, "deepgram", NextAction.SWAP),
        ("stall", Reason.STALL, ROUTE, "", NextAction.CONTINUE),
        ("mid_call_failure", Reason.CANCELLED, ROUTE, "deepgram", NextAction.CONTINUE),
        ("first_transcript", "", ROUTE, "deepgram", NextAction.CONTINUE),
        (
            "mid_call_failure", Reason.STREAM,
            replace(ROUTE, on_mid_call_failure=MidCallAction.END), "deepgram", NextAction.END,
        ),
        (
            "init_failure", Reason.STREAM,
            replace(ROUTE, on_mid_call_failure=MidCallAction.END), "deepgram", NextAction.SWAP,
        ),
    ],
)  # fmt: skip
def test_what_comes_next_follows_the_route(
    kind: str, reason: str, route: Route, swap_to: str, action: NextAction
) -> None:
    assert decision.next_action(OutcomeKind(kind), reason, route, swap_to).action == action
