"""Which numbered events came: the holes between them, and forks.

A breaker numbers its events 1, 2, 3, … within one life of Redis's data. A number that never comes
was trimmed before any pump read it; one that comes twice with two different events is a fork: a
failover lost what the first of them said. Both are counted, logged and told to people once; what
can be repaired is, elsewhere.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from django.utils import timezone

from fallback import metrics
from fallback.domain import Event, EventName, Kind
from fallback.models import Position
from fallback.stream import number_of

SPANS_MAX = 50  # a position remembers this many gaps

log = structlog.get_logger(__name__)

Place = tuple[str, str, str]  # kind, provider, incarnation
Tell = Callable[[EventName, Mapping[str, int]], None]  # what happened; events by provider


def lock(events: Iterable[Event]) -> dict[Place, Position]:
    """Return the positions of these events' breakers, locked to the end of the transaction.

    Always in the same order, so that two pumps cannot wait for each other.
    """
    places = sorted({place for event in events if (place := _place(event))})
    found = _rows(places)
    new = [place for place in places if place not in found]
    if new:
        rows = [Position(kind=kind, provider=name, incarnation=life) for kind, name, life in new]
        Position.objects.bulk_create(rows, ignore_conflicts=True)
    return _rows(places, locked=True)


def lock_provider(kind: Kind, provider: str) -> None:
    """Keep every pump from writing this provider's history until the transaction ends."""
    rows = Position.objects.select_for_update().filter(kind=kind, provider=provider)
    list(rows.order_by("incarnation"))


def follow(positions: dict[Place, Position], new: Iterable[Event]) -> None:
    """Note which events came; `new` are those that history does not hold yet, each once."""
    for event in sorted(new, key=_number):
        place = _place(event)
        if place is None:
            continue
        position = positions[place]
        is_expected = take(position, _number(event), noticed_ms=event.version // 1000)
        if not is_expected and event.is_transition:
            position.forks += 1
            position.forked_at = timezone.now()
            metrics.degraded("event_fork")
            log.warning("event_fork", kind=event.kind, provider=event.provider, event_id=event.id)
    for position in positions.values():
        position.save()


def take(position: Position, number: int, *, noticed_ms: int) -> bool:
    """Note one number; return whether it came for the first time."""
    if number > position.highest:
        if number > position.highest + 1:
            gap = [position.highest + 1, number - 1, noticed_ms, False]
            position.missing = _bounded([*position.missing, gap])
        position.highest = number
        return True
    for i, (first, last, noticed, is_told) in enumerate(position.missing):
        if first <= number <= last:
            rest = [[first, number - 1, noticed, is_told], [number + 1, last, noticed, is_told]]
            position.missing[i : i + 1] = [span for span in rest if span[0] <= span[1]]
            return True
    return False


def _bounded(spans: list[list[Any]]) -> list[list[Any]]:
    """Return at most `SPANS_MAX` spans. Beyond them the oldest become one of which nothing is known
    any more: what comes of it is neither late nor a fork, and nobody is told that it is missing."""
    while len(spans) > SPANS_MAX:
        (first, *_), (_, last, noticed_ms, _), *rest = spans
        spans = [[first, last, noticed_ms, True], *rest]
    return spans


def tell_breaks(kind: Kind, *, until_ms: int, tell: Tell) -> None:
    """Tell, once, what did not come below an event written by `until_ms`, and what came twice.

    Only right when every event written by then was carried: until then another pump may hold it.
    In a transaction of the caller's: when `tell` raises, it is told the next time.
    """
    missing: dict[str, int] = {}
    forks: dict[str, int] = {}
    for position in Position.objects.select_for_update().filter(kind=kind).order_by("pk"):
        untold = [span for span in position.missing if not span[3] and span[2] <= until_ms]
        for span in untold:
            span[3] = True
            first, last = span[:2]
            missing[position.provider] = missing.get(position.provider, 0) + last - first + 1
            metrics.degraded("event_hole")
            log.warning(
                "events_missing", kind=kind, provider=position.provider, first=first, last=last
            )
        new_forks = position.forks - position.forks_told
        if new_forks > 0:
            forks[position.provider] = forks.get(position.provider, 0) + new_forks
            position.forks_told = position.forks
        if untold or new_forks > 0:
            position.save()
    if missing:
        tell(EventName.EVENTS_MISSING, missing)
    if forks:
        tell(EventName.EVENT_FORK, forks)


def _place(event: Event) -> Place | None:
    """Return whose number the event's is; None for one that has none."""
    number = number_of(event.id, event.provider)
    return (event.kind, event.provider, number[0]) if number else None


def _number(event: Event) -> int:
    number = number_of(event.id, event.provider)
    return number[1] if number else 0


def _rows(places: Sequence[Place], *, locked: bool = False) -> dict[Place, Position]:
    """Return the rows that exist, by place."""
    rows = Position.objects.select_for_update() if locked else Position.objects.all()
    kinds, providers, lives = ({place[i] for place in places} for i in range(3))
    rows = rows.filter(kind__in=kinds, provider__in=providers, incarnation__in=lives)
    rows = rows.order_by("kind", "provider", "incarnation")
    wanted = set(places)
    found = {(row.kind, row.provider, row.incarnation): row for row in rows}
    return {place: row for place, row in found.items() if place in wanted}
