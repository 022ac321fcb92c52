"""From Redis into the database: whole slots, once they are over; and what is forgotten."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from fallback import spells
from fallback.domain import Kind
from fallback.models import RecordedSlot
from fallback.past import slots
from fallback.past.sightings import SLOT_MS, Slot, pack, slot_start
from fallback.past.slots import KEPT_MS
from fallback.times import moment

SETTLED_MS: Final = 180_000  # so long after its end nobody writes to a slot any more


class Keeper:
    """Stores each slot once. Any number of pumps may: the first to come stores it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._done_until_ms = 0

    def run(self) -> int:
        """Store the slots that are over; return how many rows were new.

        Raises BreakerUnavailable or a database error; then the next run does it.
        """
        now_ms = int(self._clock() * 1000)
        end_ms = slot_start(now_ms - SETTLED_MS)
        start_ms = max(self._done_until_ms, slot_start(now_ms - KEPT_MS))
        rows: list[RecordedSlot] = []
        for slot_ms in range(start_ms, end_ms, SLOT_MS):
            for kind in Kind:
                found = slots.read(kind, slot_ms)
                rows += [_row(kind, provider, slot) for provider, slot in found.items()]
        spells.store_all(rows, _store)
        self._done_until_ms = max(start_ms, end_ms)
        return len(rows)


def _store(rows: Sequence[RecordedSlot]) -> None:
    RecordedSlot.objects.bulk_create(rows, ignore_conflicts=True)


def _row(kind: Kind, provider: str, slot: Slot) -> RecordedSlot:
    return RecordedSlot(
        kind=kind,
        provider=provider[:63],
        at=moment(slot.start_ms),
        calls=slot.calls,
        failures=len(slot.failures),
        dropped=slot.dropped,
        data=pack(slot),
    )


def forget(now: datetime, *, days: int, at_most: int) -> int:
    """Delete slots older than `days`, `at_most` at once; return how many went."""
    old = RecordedSlot.objects.filter(at__lt=now - timedelta(days=days)).order_by("at")
    ids = list(old.values_list("pk", flat=True)[:at_most])
    return RecordedSlot.objects.filter(pk__in=ids).delete()[0] if ids else 0
