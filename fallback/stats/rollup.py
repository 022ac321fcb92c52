"""From Redis into the database: what the pump does every few seconds, and what it forgets."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from fallback import spells
from fallback.domain import Kind
from fallback.models import ProviderMinute
from fallback.stats import minutes
from fallback.stats.counts import Counts
from fallback.stats.minutes import KEPT_MINUTES, Place

KEEP_DAYS: Final = 14
SETTLING_MINUTES: Final = 3  # a minute may still be added to for this long


class RollUp:
    """Adds up all processes. After a while away it takes all that Redis still has."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._done_until = 0
        self._written: dict[Place, list[int]] = {}

    def run(self) -> int:
        """Bring the rows up to what Redis has; return how many were written.

        Raises BreakerUnavailable or a database error; then the next run does it.
        """
        now = int(self._clock()) // 60
        first = max(self._done_until - SETTLING_MINUTES, now - KEPT_MINUTES + 1)
        found: dict[Place, Counts] = {}
        for kind in Kind:
            found |= minutes.read(kind, range(first, now + 2))  # clocks differ a little
        news = {
            place: counts
            for place, counts in found.items()
            if self._written.get(place) != counts.numbers()
        }
        _write(news)
        self._written = {place: counts.numbers() for place, counts in found.items()}
        self._done_until = now
        return len(news)


def _write(news: dict[Place, Counts]) -> None:
    rows = [
        ProviderMinute(
            kind=place.kind,
            provider=place.provider[:63],
            at=datetime.fromtimestamp(place.minute * 60, UTC),
            calls=counts.calls,
            failures=counts.failures,
            diverted=counts.diverted,
            latencies=counts.latencies,
        )
        for place, counts in news.items()
    ]
    spells.store_all(rows, _store)


def _store(rows: Sequence[ProviderMinute]) -> None:
    ProviderMinute.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["kind", "provider", "at"],
        update_fields=["calls", "failures", "diverted", "latencies"],
    )


def forget(now: datetime, *, at_most: int) -> int:
    """Delete minutes older than `KEEP_DAYS`, `at_most` at once; return how many went."""
    old = ProviderMinute.objects.filter(at__lt=now - timedelta(days=KEEP_DAYS)).order_by("at")
    ids = list(old.values_list("pk", flat=True)[:at_most])
    return ProviderMinute.objects.filter(pk__in=ids).delete()[0] if ids else 0
