"""Suggest: a search over the thresholds, and the trade-off between its points.

What a threshold buys is paid for twice: callers hurt before it trips, and callers moved while the
provider would have heard them. No point is right for everybody, so the front of both is shown: the
points of which none is better in one and no worse in the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from fallback.backtest.replay import Progress, Span, Subject, run, shares
from fallback.domain import EventName, Policy

TODAY: Final = "today"
THRESHOLDS: Final = (1, 2, 3, 5, 8)
WINDOWS_S: Final = (60, 600)  # beside today's
RATES_PERCENT: Final = (20, 35, 50)
OPEN_SHARES: Final = (1.0, 0.2)  # of today's open time
SHORTEST_OPEN_S: Final = 15
SEARCHED: Final = (
    "failure_threshold", "failure_window_s", "failure_rate_percent", "minimum_calls",
    "rate_window_s", "open_duration_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One set of thresholds, and what it would have cost."""

    policy: Policy
    hurt: int
    moved_for_nothing: int
    trips: int

    def is_beaten_by(self, other: "Point") -> bool:
        """Whether the other is better in one and no worse in both."""
        return (
            other.hurt <= self.hurt
            and other.moved_for_nothing <= self.moved_for_nothing
            and (other.hurt, other.moved_for_nothing) != (self.hurt, self.moved_for_nothing)
        )


def suggest(
    subjects: Sequence[Subject], policy: Policy, span: Span, *, progress: Progress
) -> dict[str, Any]:
    """Return {"points": […]}: every distinct outcome of the search, today's among them.

    Each point: "values" (the fields of the policy to set), "hurt", "moved_for_nothing", "trips",
    "is_best" (on the front) and "is_today". Raises Stopped.
    """
    policies = {TODAY: policy} | {str(n): one for n, one in enumerate(candidates(policy))}
    totals = {name: [0, 0, 0] for name in policies}
    for (kind, provider), share in shares(progress, subjects):
        replay = run(kind, provider, policies, span, share)
        for name, lane in replay.lanes.items():
            trips = sum(event.name == EventName.TRIPPED for event in lane.moves)
            for place, number in enumerate((lane.counts.hurt, lane.counts.diverted_healthy, trips)):
                totals[name][place] += number
    points = [Point(policies[name], *numbers) for name, numbers in totals.items()]
    return {"points": list(_shown(policy, points))}


def candidates(policy: Policy) -> Iterator[Policy]:
    """Yield the policies that are tried: the count rule over its range, or the failure rate
    instead of it; each with shorter open times."""
    rates = {policy.failure_rate_percent, *RATES_PERCENT} - {0}
    counted = [
        {"failure_threshold": threshold, "failure_window_s": window_s}
        for threshold, window_s in product(
            THRESHOLDS, sorted({policy.failure_window_s, *WINDOWS_S})
        )
        if threshold >= max(policy.distinct_hosts, policy.distinct_keys)
    ]
    rated = [
        {
            "failure_threshold": 0,
            "failure_rate_percent": percent,
            "minimum_calls": max(1, policy.minimum_calls),
        }
        for percent in sorted(rates)
    ]
    for values, share in product([*counted, *rated], OPEN_SHARES):
        open_s = max(min(SHORTEST_OPEN_S, policy.open_duration_s), policy.open_duration_s * share)
        changes: dict[str, Any] = values | {"open_duration_s": round(open_s)}
        yield replace(policy, **changes)


def _shown(today: Policy, points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    """Of points that cost the same the one nearest to today's is shown."""
    shown: dict[tuple[int, int], Point] = {}
    for point in sorted(points, key=lambda point: _distance(today, point.policy)):
        shown.setdefault((point.hurt, point.moved_for_nothing), point)
    for point in sorted(shown.values(), key=lambda point: (point.hurt, point.moved_for_nothing)):
        yield {
            "values": {name: getattr(point.policy, name) for name in SEARCHED},
            "hurt": point.hurt,
            "moved_for_nothing": point.moved_for_nothing,
            "trips": point.trips,
            "is_best": not any(point.is_beaten_by(other) for other in shown.values()),
            "is_today": point.policy == today,
        }


def _distance(today: Policy, other: Policy) -> float:
    """How much would change: fields first, then how far each goes."""
    pairs: list[tuple[int, int]] = [
        (getattr(today, name), getattr(other, name)) for name in SEARCHED
    ]
    return sum(1 + abs(a - b) / max(a, b) for a, b in pairs if a != b)
