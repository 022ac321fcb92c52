"""Where a decision is made: which steps to ask before, and the mode, order and why after.

The breakers themselves are asked in between, in one call, by whoever holds them: Redis through
`breaker`, or `machine` while Redis is away. Pure: values in, values out.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fallback.domain import (
    ADMITTING_VERDICTS,
    Asked,
    Breaker,
    Cause,
    Decision,
    Finding,
    Given,
    MidCallAction,
    Mode,
    Next,
    NextAction,
    OutcomeKind,
    Provider,
    Question,
    Reason,
    Route,
    Step,
    Verdict,
    Walk,
    Why,
)
from fallback.errors import NoUsableProvider

_LAST = {Verdict.FORCED_OPEN: 1, Verdict.FAILED_IN_CALL: 2}  # of those that do not admit


def ask(question: Question, route: Route) -> Asked:
    """Return what to ask the breakers: the steps this agent could use for this call at all.

    Raises NoUsableProvider, saying why for each step, when there is none.
    """
    excluded = [(step.provider.slug, _excluded(step.provider, question)) for step in route.steps]
    left_out = tuple((slug, verdict) for slug, verdict in excluded if verdict)
    usable = tuple((slug, slug in question.failed) for slug, verdict in excluded if not verdict)
    if not usable:
        raise NoUsableProvider(_nobody(question, route, left_out), _lines_of(question, route))
    return Asked(
        call_id=question.call_id,
        route=route.slug,
        steps=usable,
        excluded=left_out,
        may_probe=question.probe,
        last_resort=route.last_resort,
        bypass=not route.fallback_enabled,
        keep=bool(excluded[0][1]),
        host=question.host,
    )


def conclude(question: Question, route: Route, walk: Walk, *, degraded: bool = False) -> Decision:
    """Turn what the breakers said into the answer: whom, the whole order to try, and why."""
    steps = {step.provider.slug: step for step in route.steps}
    chosen = walk.findings[walk.chosen].provider
    return Decision(
        call_id=question.call_id,
        route=route,
        mode=_mode(route, walk, chosen),
        order=tuple(steps[slug] for slug in _order(walk)),
        why=_why(question, route, walk),
        lease=walk.lease,
        lease_until_ms=walk.lease_until_ms,
        degraded=degraded,
        version=walk.version,
        decided_at_ms=walk.now_ms,
    )


def next_action(kind: OutcomeKind, reason: str, route: Route | None, swap_to: str) -> Next:
    """Return what an agent should do after the outcome it reported.

    A failure in the middle of a call ends it where the route says so; any other failure swaps to
    `swap_to`, or, where nobody is left, stays: its own provider may yet heal.
    """
    is_failure = kind in {
        OutcomeKind.INIT_FAILURE,
        OutcomeKind.MID_CALL_FAILURE,
        OutcomeKind.STALL,
    }
    if not is_failure or reason == Reason.CANCELLED:
        return Next(NextAction.CONTINUE)
    is_mid_call = kind != OutcomeKind.INIT_FAILURE
    if is_mid_call and route and route.on_mid_call_failure == MidCallAction.END:
        return Next(NextAction.END)
    return Next(NextAction.SWAP, swap_to) if swap_to else Next(NextAction.CONTINUE)


def speaks(provider: Provider, language: str) -> bool:
    """Whether a provider takes a call in this language (BCP 47). `hi` and `hi-IN` match each other;
    a provider that names no language takes any."""
    if not language or not provider.languages:
        return True
    wanted = language.lower()
    return any(
        wanted == known or wanted.startswith(known + "-") or known.startswith(wanted + "-")
        for known in (tag.lower() for tag in provider.languages)
    )


def excluded_from(text: str) -> list[dict[str, str]]:
    """Return the steps that were not asked, as a call's record keeps them: slug and verdict."""
    pairs = json.loads(text) if text else []
    return [{"provider": slug, "verdict": verdict} for slug, verdict in pairs]


def describe(breaker: Breaker) -> str:
    """Say in one line why a breaker does not admit: the proof of its trip, or the order."""
    if breaker.override:
        return f"by {breaker.override.by}: {breaker.override.reason}"
    proof = breaker.evidence
    if breaker.cause == Cause.TIME_UP and breaker.state == "half_open":
        return "half open: waiting for a probe to prove it well"
    sentences = {
        Cause.FAILURE_THRESHOLD: _count_sentence,
        Cause.FAILURE_RATE: _rate_sentence,
        Cause.SLOW_RATE: _slow_sentence,
        Cause.TRIP_AT_ONCE: lambda proof: f"{proof.get('at_once', 'a failure')} trips at once",
        Cause.PROBE_FAILURE: lambda proof: f"probe failed: {proof.get('reason', 'unknown')}",
    }
    sentence = sentences.get(breaker.cause)  # type: ignore[call-overload]
    return sentence(proof) if sentence else ""


def _count_sentence(proof: Mapping[str, Any]) -> str:
    return (
        f"{proof.get('failures', '?')} failures in {proof.get('failure_window_s', '?')} s "
        f"(threshold {proof.get('failure_threshold', '?')})"
    )


def _rate_sentence(proof: Mapping[str, Any]) -> str:
    return (
        f"{proof.get('failed_calls', '?')} of {proof.get('sampled_calls', '?')} calls failed in "
        f"{proof.get('rate_window_s', '?')} s (limit {proof.get('failure_rate_percent', '?')} %)"
    )


def _slow_sentence(proof: Mapping[str, Any]) -> str:
    return (
        f"{proof.get('slow_calls', '?')} of {proof.get('sampled_calls', '?')} calls slower than "
        f"{proof.get('slow_after_ms', '?')} ms (limit {proof.get('slow_rate_percent', '?')} %)"
    )


def _excluded(provider: Provider, question: Question) -> Verdict | None:
    """Why this agent cannot use a provider for this call, whatever its breaker says."""
    if not provider.enabled:
        return Verdict.DISABLED
    if question.can_use is not None and provider.slug not in question.can_use:
        return Verdict.NOT_USABLE
    return None if speaks(provider, question.language) else Verdict.WRONG_LANGUAGE


def _excluded_detail(provider: Provider, verdict: Verdict, question: Question) -> str:
    if verdict == Verdict.DISABLED:
        return "disabled in the admin"
    if verdict == Verdict.NOT_USABLE:
        return "the agent did not name it in can_use"
    return f"takes {', '.join(provider.languages)}; the call is {question.language}"


def _nobody(question: Question, route: Route, excluded: tuple[tuple[str, Verdict], ...]) -> str:
    if not excluded:
        return f"route {route.slug} has no steps: add a provider to it in the admin"
    providers = {step.provider.slug: step.provider for step in route.steps}
    reasons = "; ".join(
        f"{slug}: {verdict} ({_excluded_detail(providers[slug], verdict, question)})"
        for slug, verdict in excluded
    )
    return f"route {route.slug} has no provider that this call could use: {reasons}"


def _mode(route: Route, walk: Walk, chosen: str) -> Mode:
    if walk.given in {Given.BYPASS, Given.PROBE, Given.LAST_RESORT}:
        return Mode(walk.given)
    return Mode.PRIMARY if route.steps[0].provider.slug == chosen else Mode.FALLBACK


def _order(walk: Walk) -> list[str]:
    """The chosen first, then those that admit, then the others, each in chain order."""

    def place(item: tuple[int, Finding]) -> tuple[int, int, int]:
        index, finding = item
        if index == walk.chosen:
            return 0, 0, 0
        if finding.verdict in ADMITTING_VERDICTS or finding.verdict == Verdict.BYPASS:
            return 1, 0, index
        return 2, _LAST.get(finding.verdict, 0), index

    return [finding.provider for _, finding in sorted(enumerate(walk.findings), key=place)]


def _why(question: Question, route: Route, walk: Walk) -> tuple[Why, ...]:
    found = {finding.provider: finding for finding in walk.findings}
    chosen = walk.findings[walk.chosen].provider
    lines = [_line(step, found.get(step.provider.slug), question) for step in route.steps]
    if walk.given == Given.STICKY:
        lines = [
            Why(line.provider, line.verdict, line.until_ms, "this call stays where it is")
            if line.provider == chosen
            else line
            for line in lines
        ]
    return (*lines, *_strangers(question, route))


def _lines_of(question: Question, route: Route) -> list[dict[str, str]]:
    """Return why as a decision says it, where no breaker was asked."""
    lines = [_line(step, None, question) for step in route.steps]
    return [
        {"provider": line.provider, "verdict": str(line.verdict), "detail": line.detail}
        for line in (*lines, *_strangers(question, route))
    ]


def _strangers(question: Question, route: Route) -> Iterator[Why]:
    """Yield a line for each name that the agent gave and that is no step of the route."""
    known = {step.provider.slug for step in route.steps}
    for slug in dict.fromkeys((*(question.can_use or ()), *question.failed)):
        if slug not in known:
            yield Why(slug, Verdict.NOT_USABLE, detail=f"not a step of route {route.slug}")


def _line(step: Step, finding: Finding | None, question: Question) -> Why:
    provider = step.provider
    if finding is None:
        verdict = _excluded(provider, question) or Verdict.NOT_USABLE
        return Why(provider.slug, verdict, detail=_excluded_detail(provider, verdict, question))
    return Why(provider.slug, finding.verdict, finding.until_ms, _finding_detail(finding))


def _finding_detail(finding: Finding) -> str:
    if finding.verdict in {Verdict.OPEN, Verdict.FORCED_OPEN}:
        return describe(finding.breaker)
    if finding.verdict == Verdict.PROBES_BUSY:
        return f"half open, {len(finding.breaker.leases)} probes under way; none for this call"
    if finding.verdict == Verdict.PROBE:
        return "half open: this call is the probe"
    if finding.verdict == Verdict.FAILED_IN_CALL:
        return "it already failed in this call"
    if finding.verdict == Verdict.BYPASS:
        return "the route's fallback is switched off"
    return ""
