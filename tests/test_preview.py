"""A preview says what saving does, to the letter, and does nothing itself."""

import random
from typing import Any

import pytest
from django.db import transaction

from fallback import breaker, catalog, models, services, status
from fallback.domain import (
    BreakerView,
    Kind,
    Outcome,
    OutcomeKind,
    Policy,
    Question,
    Reason,
    ReasonRule,
    State,
)
from fallback.errors import BreakerUnavailable
from fallback.models import PolicyReason
from fallback.preview import Preview, preview
from tests.configuration import make_policy, make_provider, make_route
from tests.events import STREAM

pytestmark = pytest.mark.django_db(transaction=True)

STT = Kind.STT
BOTH = [(STT, "soniox"), (STT, "deepgram")]


@pytest.fixture(autouse=True)
def fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run soniox under `default`, deepgram under `other`, and a route over both."""
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    policy = make_policy(failure_threshold=5)
    other = make_policy("other", failure_threshold=5)
    make_route(
        "breeze", make_provider("soniox", policy=policy), make_provider("deepgram", policy=other)
    )
    catalog.reload()
    services.publish_configuration()


def fail(calls: int, provider: str = "soniox", reason: Reason = Reason.CONNECTION) -> None:
    for number in range(calls):
        call = f"{provider}-{reason}-{number}"
        report = Outcome(call, call, provider, OutcomeKind.INIT_FAILURE, reason, host=f"h{number}")
        services.report_outcomes([report])


def sentences(seen: Preview) -> list[str]:
    return [one.sentence() for one in seen.breakers]


def test_a_lower_threshold_would_open_now_and_says_with_which_failures(fleet: None) -> None:
    fail(3)
    seen = preview(Policy(failure_threshold=3), [(STT, "soniox")])

    [said] = sentences(seen)
    assert said.startswith("soniox would be open now, until ")
    assert said.endswith("UTC, instead of closed: 3 failures in 240 s (threshold 3)")


def test_a_route_that_would_start_elsewhere_is_named(fleet: None) -> None:
    fail(3)
    [route] = preview(Policy(failure_threshold=3), [(STT, "soniox")]).routes

    assert (route.route, route.starts_elsewhere) == ("breeze", True)
    assert (route.before, route.after) == (("soniox", "deepgram"), ("deepgram", "soniox"))


def test_a_breaker_that_stays_closed_says_how_far_it_is(fleet: None) -> None:
    fail(1)
    seen = preview(Policy(failure_threshold=3), [(STT, "soniox")])

    assert sentences(seen) == ["soniox stays closed: 1 of 3 failures in 240 s"]
    assert not seen.breakers[0].is_changed
    assert seen.routes == ()


def test_a_shorter_open_time_says_both_ends(fleet: None) -> None:
    fail(5)
    [one] = preview(Policy(failure_threshold=5, open_duration_s=600), [(STT, "soniox")]).breakers

    assert one.before.until_ms - one.after.until_ms == 1_200_000
    assert " instead of " in one.sentence()
    assert one.sentence().startswith("soniox stays open until ")


def test_an_open_time_that_would_be_over_is_a_half_open_breaker(fleet: None) -> None:
    fail(5)
    when = breaker.look(STT, ["soniox"]).breakers["soniox"].since_ms
    seen = preview(Policy(open_duration_s=1), [(STT, "soniox")])
    while seen.now_ms < when + 1000:
        seen = preview(Policy(open_duration_s=1), [(STT, "soniox")])

    assert sentences(seen)[0].startswith("soniox would be half open now instead of open: ")


def test_shadow_would_only_say_what_it_would_do(fleet: None) -> None:
    fail(3)
    [one] = preview(Policy(failure_threshold=3, shadow=True), [(STT, "soniox")]).breakers

    assert one.after.breaker.state == State.SHADOW
    assert "would_trip" in [event.name for event in one.events]


def test_what_a_reason_counts_is_judged_too(fleet: None) -> None:
    fail(1, reason=Reason.TIMEOUT)
    at_once = {Reason.TIMEOUT: ReasonRule(trips_at_once=True)}
    seen = preview(Policy(failure_threshold=0, what_counts=at_once), [(STT, "soniox")])

    assert "timeout trips at once" in sentences(seen)[0]


def test_a_preview_writes_and_tells_nothing(fleet: None, redis_client: Any) -> None:
    fail(3)
    before = {key: redis_client.dump(key) for key in redis_client.keys("*:stt}:*")}
    preview(Policy(failure_threshold=1), BOTH)

    assert STREAM.encode() in before
    assert {key: redis_client.dump(key) for key in redis_client.keys("*:stt}:*")} == before


def test_redis_away_is_said_and_not_guessed(fleet: None, redis_client: Any) -> None:
    redis_client.execute_command("CLIENT", "PAUSE", 3_000, "ALL")
    with pytest.raises(BreakerUnavailable):
        preview(Policy(), BOTH)
    redis_client.ping()  # until it answers again


@pytest.mark.parametrize("seed", range(12))
def test_saving_for_real_does_what_the_preview_said(fleet: None, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(chance.choice([3, 5, 12])):
        happen(chance, number)
    values = proposed(chance)
    rules = {"timeout": {"weight": chance.choice([0, 1, 4]), "trips_at_once": seed % 3 == 0}}
    rows = {reason: PolicyReason(reason=reason, **row).as_rule() for reason, row in rules.items()}
    what_counts = catalog.current().policies[STT, "soniox"].what_counts | rows
    order = order_now()
    said = preview(Policy(**values, what_counts=what_counts), [(STT, "soniox")])
    save(values, rules)

    [one], seen = said.breakers, breaker.snapshot(STT, ["soniox"]).views[0]
    assert abs((seen.until_ms or 0) - (one.after.until_ms or 0)) < 2000  # saved a moment later
    assert gist(seen) == gist(one.after)
    assert order_now() == (said.routes[0].after if said.routes else order)


def gist(view: BreakerView) -> tuple[Any, ...]:
    kept = view.breaker
    return kept.state, kept.cause, kept.reason, kept.trips, kept.evidence, view.failures


def order_now() -> tuple[str, ...]:
    route = next(it for it in status.build()["routes"] if it["route"] == "breeze")
    return tuple(step["provider"] for step in route["order"])


def happen(chance: random.Random, number: int) -> None:
    """Have one call begin, and most of them fail somehow."""
    call = f"c{number}"
    services.make_decision(Question("breeze", call))
    kind = chance.choice([*[OutcomeKind.INIT_FAILURE] * 3, OutcomeKind.FIRST_TRANSCRIPT])
    reason = chance.choice([Reason.CONNECTION, Reason.TIMEOUT, Reason.STALL])
    host = f"h{chance.randrange(3)}"
    latency_ms = chance.choice([100, 9000])
    report = Outcome(call, call, "soniox", kind, reason, host=host, latency_ms=latency_ms)
    services.report_outcomes([report])


def proposed(chance: random.Random) -> dict[str, Any]:
    """Return values that somebody may try."""
    return {
        "failure_threshold": chance.choice([0, 1, 2, 3, 8]),
        "failure_window_s": chance.choice([60, 240]),
        "failure_rate_percent": chance.choice([0, 30]),
        "minimum_calls": chance.choice([1, 20]),
        "distinct_hosts": 1,
        "open_duration_s": chance.choice([60, 1800]),
        "shadow": chance.random() < 0.2,
    }


def save(values: dict[str, Any], rules: dict[str, Any]) -> None:
    """Save the policy as its form does."""
    with transaction.atomic():
        row = models.Policy.objects.get(name="default")
        for name, value in values.items():
            setattr(row, name, value)
        row.save()
        for reason, columns in rules.items():
            PolicyReason.objects.create(policy=row, reason=reason, **columns)
