"""Evidence: what is remembered of a provider's failures and calls, and what that proves.

The twin of lua/evidence.lua. Failures are keyed by (reason, host, call, API key); samples by (width
of a slice in ms, slice) and hold [calls, failures, slow calls].
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fallback.domain import (
    LIMITS,
    Breaker,
    Cause,
    Effect,
    EventName,
    Outcome,
    Policy,
    Reason,
    State,
)
from fallback.machine.state import Turn, notice, transition

SLOW = "slow"  # the reason under which a slow call is remembered; it weighs nothing


@dataclass(frozen=True)
class Failure:
    """One remembered failure."""

    reason: str
    host: str
    key: str  # the API key that reported it; empty where that was not remembered yet
    at_ms: int


@dataclass
class Tally:
    """What lies in one window."""

    weight: int = 0
    calls: int = 0
    hosts: set[str] = field(default_factory=set)
    keys: Counter[str] = field(default_factory=Counter)
    at_once_reason: str = ""
    at_once_hosts: set[str] = field(default_factory=set)
    at_once_keys: Counter[str] = field(default_factory=Counter)
    slow_hosts: set[str] = field(default_factory=set)
    slow_keys: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, int] = field(default_factory=dict)
    silent_stalls: int = 0


@dataclass
class Trip:
    """A proof that a breaker must open, and why."""

    cause: Cause
    evidence: dict[str, Any]
    reason: str = ""


def window_ms(policy: Policy) -> int:
    """Return how long a failure is remembered, in ms."""
    window_s = policy.failure_window_s
    return 1000 * (max(window_s, policy.rate_window_s) if policy.samples_calls else window_s)


def failures_in(turn: Turn, name: str, from_ms: int) -> list[Failure]:
    """Return the failures after `from_ms`, oldest first."""
    rows = turn.fleet.failures.get(name, {})
    kept = sorted((at, _member(key), key) for key, at in rows.items() if at > from_ms)
    return [Failure(reason=key[0], host=key[1], key=key[3], at_ms=at) for at, _, key in kept]


def _member(key: tuple[str, str, str, str]) -> str:
    """Return how Redis stores a failure, which orders those of the same time."""
    return "\x1f".join(key if key[3] else key[:3])


def add_failure(
    turn: Turn, name: str, policy: Policy, outcome: Outcome, reason: str, at_ms: int
) -> None:
    """Remember a failure; forget those that left the window, and the oldest of too many."""
    rows = turn.fleet.failures.setdefault(name, {})
    for key in [key for key, at in rows.items() if at <= turn.now_ms - window_ms(policy)]:
        del rows[key]
    rows[(reason, outcome.host, outcome.call_id, outcome.key)] = at_ms
    oldest = sorted(rows, key=lambda key: (rows[key], _member(key)))
    for key in oldest[: max(0, len(rows) - LIMITS["evidence"])]:
        del rows[key]


def tally(failures: list[Failure], policy: Policy, from_ms: int) -> Tally:
    """Sum up one window. Stalls speak only when enough calls saw one: a caller's television looks
    like speech that nobody transcribes."""
    inside = [failure for failure in failures if failure.at_ms > from_ms]
    stalls = sum(failure.reason == Reason.STALL for failure in inside)
    counts_stalls = stalls >= policy.distinct_calls_for_stall
    found = Tally(silent_stalls=0 if counts_stalls else stalls)
    for failure in inside:
        if failure.reason == SLOW:
            found.slow_hosts.add(failure.host)
            found.slow_keys[failure.key] += 1
        else:
            _add(found, failure, policy, counts_stalls=counts_stalls)
    return found


def _add(found: Tally, failure: Failure, policy: Policy, *, counts_stalls: bool) -> None:
    rule = policy.rule(failure.reason)
    if rule.is_neutral:
        return
    found.reasons[failure.reason] = found.reasons.get(failure.reason, 0) + 1
    if failure.reason == Reason.STALL and not counts_stalls:
        return
    found.weight += rule.weight
    found.calls += 1
    found.hosts.add(failure.host)
    found.keys[failure.key] += 1
    if rule.trips_at_once:
        found.at_once_reason = failure.reason
        found.at_once_hosts.add(failure.host)
        found.at_once_keys[failure.key] += 1


def told_keys(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the named keys with how many failures each reported, the busiest of too many."""
    named = sorted((-count, key) for key, count in counts.items() if key)
    return {key: -count for count, key in named[: LIMITS["keys_told"]]}


def is_quorum(policy: Policy, hosts: set[str], keys: Mapping[str, int]) -> bool:
    """Whether enough hosts and enough API keys saw it. Failures without a key (of before keys were
    remembered) are no key beside those with one: it may be the same."""
    named = sum(key != "" for key in keys)
    return len(hosts) >= policy.distinct_hosts and max(1, named) >= policy.distinct_keys


def slice_ms(policy: Policy) -> int:
    """Return the width of one slice of the rate window, in ms."""
    return -(-policy.rate_window_s * 1000 // LIMITS["rate_slices"])


def rate_span_ms(policy: Policy) -> int:
    """Return how far back the rate rules look, in ms: all slices of the rate window."""
    return slice_ms(policy) * LIMITS["rate_slices"]


def least_bad_calls(policy: Policy) -> int:
    """Return how many calls of the rate window must have failed or been slow before a rate rule
    can trip at all: its share of the minimum of calls."""
    limits = [limit for limit in (policy.failure_rate_percent, policy.slow_rate_percent) if limit]
    shares = [math.ceil(limit * policy.minimum_calls / 100) for limit in limits]
    return max(1, min(shares, default=1))


def add_sample(
    turn: Turn, name: str, policy: Policy, at_ms: int, *, calls: int, failures: int, slow: int
) -> None:
    """Count a call, a failed call or a slow call in the slice of `at_ms`."""
    width = slice_ms(policy)
    rows = turn.fleet.samples.setdefault(name, {})
    place = width, at_ms // width
    sums = rows.get(place)
    if sums is None:
        sums = rows[place] = [0, 0, 0]
    sums[0] += calls
    sums[1] += failures
    sums[2] += slow


def samples_in(turn: Turn, name: str, policy: Policy) -> tuple[int, int, int]:
    """Return (calls, failures, slow calls) of the rate window and forget what has left it."""
    width = slice_ms(policy)
    first = turn.now_ms // width - LIMITS["rate_slices"] + 1
    rows = turn.fleet.samples.get(name, {})
    for row_width, index in list(rows):
        if row_width != width or index < first:
            del rows[(row_width, index)]
    if not rows:
        turn.fleet.samples.pop(name, None)
    calls, failures, slow = (sum(row[i] for row in rows.values()) for i in range(3))
    return calls, failures, slow


def judge(turn: Turn, name: str, policy: Policy) -> tuple[Trip | None, dict[str, Any], int]:
    """Return what the evidence proves, the count to be told, and how many calls failed."""
    failures = failures_in(turn, name, turn.now_ms - window_ms(policy))
    trip, proof = _by_count(turn, policy, failures)
    if trip is None and policy.samples_calls:
        trip = _by_rate(turn, name, policy, failures)
    if trip and failures:
        trip.evidence["first_failure_ms"] = failures[0].at_ms
    return trip, proof, sum(failure.reason != SLOW for failure in failures)


def _by_count(
    turn: Turn, policy: Policy, failures: list[Failure]
) -> tuple[Trip | None, dict[str, Any]]:
    found = tally(failures, policy, turn.now_ms - policy.failure_window_s * 1000)
    proof: dict[str, Any] = {
        "failures": found.weight, "failure_threshold": policy.failure_threshold,
        "failure_window_s": policy.failure_window_s, "calls": found.calls,
        "hosts": len(found.hosts), "keys": told_keys(found.keys), "reasons": found.reasons,
    }  # fmt: skip
    if found.at_once_reason and is_quorum(policy, found.at_once_hosts, found.at_once_keys):
        proof["at_once"] = found.at_once_reason
        return Trip(Cause.TRIP_AT_ONCE, proof, found.at_once_reason), proof
    is_enough = 0 < policy.failure_threshold <= found.weight
    if is_enough and is_quorum(policy, found.hosts, found.keys):
        return Trip(Cause.FAILURE_THRESHOLD, proof), proof
    if (is_enough or found.at_once_reason) and len(proof["keys"]) < policy.distinct_keys > 1:
        proof["distinct_keys"] = policy.distinct_keys  # what it waits for
    return None, proof


def _by_rate(turn: Turn, name: str, policy: Policy, failures: list[Failure]) -> Trip | None:
    found = tally(failures, policy, turn.now_ms - policy.rate_window_s * 1000)
    calls, failed, slow = samples_in(turn, name, policy)
    failed = max(0, failed - found.silent_stalls)
    if calls < policy.minimum_calls:
        return None
    proof: dict[str, Any] = {
        "sampled_calls": calls, "failed_calls": failed, "slow_calls": slow,
        "rate_window_s": policy.rate_window_s, "minimum_calls": policy.minimum_calls,
        "reasons": found.reasons,
    }  # fmt: skip
    limit = policy.failure_rate_percent
    is_reached = limit and failed * 100 >= limit * calls
    if is_reached and is_quorum(policy, found.hosts, found.keys):
        thresholds = {"failure_rate_percent": limit, "keys": told_keys(found.keys)}
        return Trip(Cause.FAILURE_RATE, proof | thresholds)
    limit = policy.slow_rate_percent
    is_reached = limit and slow * 100 >= limit * calls
    if is_reached and is_quorum(policy, found.slow_hosts, found.slow_keys):
        thresholds = {
            "slow_rate_percent": limit, "slow_after_ms": policy.slow_after_ms,
            "keys": told_keys(found.slow_keys),
        }  # fmt: skip
        return Trip(Cause.SLOW_RATE, proof | thresholds, SLOW)
    return None


def conclude(
    turn: Turn,
    name: str,
    breaker: Breaker,
    policy: Policy,
    *,
    reason: str = "",
    retry_after_ms: int = 0,
    seen: dict[str, Any] | None = None,
) -> tuple[Effect | None, dict[str, Any] | None]:
    """Act on what was proven: trip a closed breaker, say what a shadowed one would have done.

    `reason`, `retry_after_ms`, `seen`: of the outcome that brought the proof, where one did.
    Returns the effect, or None, and the count.
    """
    if breaker.state not in {State.CLOSED, State.SHADOW}:
        return None, None
    trip, proof, hurt = judge(turn, name, policy)
    if trip is None:
        return None, proof
    why = trip.reason or reason or _newest_reason(turn, name, policy)
    evidence = trip.evidence | (seen or {})
    if breaker.state == State.SHADOW:
        if turn.now_ms - breaker.would_trip_ms < policy.open_duration_s * 1000:
            return None, proof
        breaker.would_trip_ms = turn.now_ms
        said = {"cause": trip.cause, "reason": why, "evidence": evidence}
        notice(turn, name, breaker, EventName.WOULD_TRIP, **said)
        return Effect.WOULD_TRIP, proof
    breaker.trips += 1
    breaker.retry_after_ms = retry_after_ms
    transition(
        turn, name, breaker, State.OPEN,
        cause=trip.cause, reason=why, evidence=evidence, hurt=hurt,
    )  # fmt: skip
    turn.fleet.failures.pop(name, None)
    turn.fleet.samples.pop(name, None)
    return Effect.TRIPPED, proof


def _newest_reason(turn: Turn, name: str, policy: Policy) -> str:
    failures = failures_in(turn, name, turn.now_ms - window_ms(policy))
    return failures[-1].reason if failures else Reason.UNKNOWN
