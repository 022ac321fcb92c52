"""A rehearsal under the policy of the day finds what happened: each transition, at its time."""

import os

import pytest

from fallback import backtest
from fallback.backtest import Span
from fallback.domain import Event, Policy
from fallback.models import Policy as PolicyRow
from fallback.models import Transition, rules_of
from tests.configuration import make_policy, make_route
from tests.drills import CHAIN, KIND, START, Drill, carry_all, publish, virtual_time

pytestmark = pytest.mark.django_db(transaction=True)

THOROUGH = bool(os.environ.get("TEST_THOROUGH"))
CALLS, SEEDS = (2_000, range(10)) if THOROUGH else (400, range(1))
POLICIES = {
    "by default": {},
    "quick to trip, quick to return": {
        "failure_threshold": 1, "open_duration_s": 20, "open_backoff": 2.0,
        "open_duration_max_s": 400, "probe_lease_s": 30,
    },
    "by the timer": {"recovery": "timer", "open_duration_s": 45, "failure_threshold": 3},
    "several probes": {
        "open_duration_s": 30, "probe_slots": 3, "probe_successes": 2, "retrip_threshold": 2,
        "probe_lease_s": 5,
    },
    "by rates": {
        "failure_threshold": 0, "failure_rate_percent": 30, "minimum_calls": 5,
        "rate_window_s": 120, "slow_rate_percent": 40, "slow_after_ms": 2000,
        "open_duration_s": 60,
    },
    "by all rules, with a quorum of keys": {
        "failure_threshold": 3, "failure_rate_percent": 50, "minimum_calls": 3,
        "slow_rate_percent": 60, "distinct_keys": 2, "open_duration_s": 90,
    },
    "by all rules, with a quorum": {
        "failure_threshold": 4, "failure_window_s": 600, "failure_rate_percent": 50,
        "minimum_calls": 3, "rate_window_s": 61, "slow_rate_percent": 60, "distinct_hosts": 2,
        "distinct_calls_for_stall": 3, "open_duration_s": 90,
    },
}  # fmt: skip


def plain(row: PolicyRow) -> Policy:
    return row.as_value(rules_of(row.reasons.all()))


def happened(provider: str) -> list[tuple[object, ...]]:
    """What history holds of the live breakers."""
    rows = Transition.objects.filter(provider=provider).order_by("version", "id")
    return [
        (row.name, row.before, row.after, round(row.at.timestamp() * 1000), row.cause, row.reason,
         row.actor, row.evidence.get("failures"), row.evidence.get("trips"))
        for row in rows
    ]  # fmt: skip


def rehearsed(events: list[Event]) -> list[tuple[object, ...]]:
    return [
        (one.name, one.before, one.after, one.at_ms, one.cause, one.reason,
         one.actor, one.evidence.get("failures"), one.evidence.get("trips"))
        for one in events
        if one.is_transition
    ]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("has_orders", [False, True], ids=["alone", "with operators"])
@pytest.mark.parametrize("name", POLICIES)
def test_the_past_through_its_own_policy_is_what_happened(
    name, has_orders, seed, redis_client, monkeypatch
):
    row = make_policy(**POLICIES[name])
    make_route("breeze-buddy", *CHAIN)
    with virtual_time(redis_client, monkeypatch) as world:
        publish()
        Drill(world, seed=seed, has_orders=has_orders).live(CALLS)
        carry_all()
        span = Span(START, world.now_ms + 1)

    moves = 0
    for provider in CHAIN:
        lane = backtest.run(KIND, provider, {"today": plain(row)}, span).lanes["today"]
        expected = happened(provider)
        assert rehearsed(lane.moves)[: len(expected)] == expected
        moves += len(expected)
    assert moves > 10  # else nothing was compared
