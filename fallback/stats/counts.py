"""The numbers of one provider in one span of time, and what they say of its latency."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

# Upper bounds in ms of how long first transcripts took; the last count is of those beyond.
BOUNDS_MS: Final = (100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000, 5000, 10_000)


def no_latencies() -> list[int]:
    """Return the counts of no transcript at all."""
    return [0] * (len(BOUNDS_MS) + 1)


@dataclass(slots=True)
class Counts:
    """Calls that began on a provider, failures in it, calls sent elsewhere; first transcripts."""

    calls: int = 0
    failures: int = 0
    diverted: int = 0
    latencies: list[int] = field(default_factory=no_latencies)

    def took(self, latency_ms: int) -> None:
        """Count one first transcript."""
        self.latencies[bisect_left(BOUNDS_MS, latency_ms)] += 1

    def add(self, other: "Counts") -> None:
        """Add another's numbers to these."""
        self.calls += other.calls
        self.failures += other.failures
        self.diverted += other.diverted
        self.latencies = [a + b for a, b in zip(self.latencies, other.latencies, strict=True)]

    def percentile_ms(self, percent: int) -> int | None:
        """Return within what time so many of a hundred first transcripts came; None without any.

        Exact to its bound, and a straight line between two; beyond the last bound, that bound.
        """
        wanted = sum(self.latencies) * percent / 100
        if not wanted:
            return None
        low_ms, seen = 0, 0
        for high_ms, count in zip(BOUNDS_MS, self.latencies, strict=False):
            if count and seen + count >= wanted:
                return round(low_ms + (high_ms - low_ms) * (wanted - seen) / count)
            low_ms, seen = high_ms, seen + count
        return BOUNDS_MS[-1]

    def numbers(self) -> list[int]:
        """Return everything as one list, for storage."""
        return [self.calls, self.failures, self.diverted, *self.latencies]


def counts_from(numbers: Any) -> Counts:
    """Return what `numbers` gave; nothing for what is no such list."""
    size = 3 + len(BOUNDS_MS) + 1
    if not isinstance(numbers, list) or len(numbers) != size:
        return Counts()
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return Counts()
    calls, failures, diverted, *latencies = numbers
    return Counts(calls, failures, diverted, latencies)


def total(all_counts: Iterable[Counts]) -> Counts:
    """Return the sum of them."""
    summed = Counts()
    for counts in all_counts:
        summed.add(counts)
    return summed
