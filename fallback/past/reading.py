"""The recorded past in order: slots of the database, then those that only Redis has yet."""

from collections.abc import Iterator

from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.models import RecordedSlot
from fallback.past import slots
from fallback.past.sightings import SLOT_MS, Slot, slot_start, unpack
from fallback.past.slots import KEPT_MS
from fallback.times import epoch_ms, moment


def read(kind: Kind, provider: str, since_ms: int, until_ms: int) -> Iterator[Slot]:
    """Yield the slots that hold any of that time, oldest first; one is in memory at a time.

    What only Redis has is left out while it is away.
    """
    rows = RecordedSlot.objects.filter(
        kind=kind,
        provider=provider,
        at__gte=moment(slot_start(since_ms)),
        at__lt=moment(until_ms),
    ).order_by("at")
    next_ms = max(slot_start(since_ms), slot_start(until_ms - KEPT_MS))
    for at, data in rows.values_list("at", "data").iterator(chunk_size=20):
        start_ms = epoch_ms(at)
        next_ms = max(next_ms, start_ms + SLOT_MS)
        yield unpack(start_ms, bytes(data))
    yield from _newest(kind, provider, next_ms, until_ms)


def _newest(kind: Kind, provider: str, next_ms: int, until_ms: int) -> Iterator[Slot]:
    for start_ms in range(next_ms, until_ms, SLOT_MS):
        try:
            found = slots.read(kind, start_ms)
        except BreakerUnavailable:
            return
        if provider in found:
            yield found[provider]
