"""Events into rows: transitions once each, and the incidents they make.

An incident is worked out anew from all of its transitions whenever one more is known, so that the
order in which they come does not matter. Their own order is by version, which rises with every
change of a kind even after its data was lost.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Max, Min, Q

from fallback import metrics
from fallback.domain import ADMITTING_STATES, Cause, Event, State
from fallback.history import positions
from fallback.models import Incident, Transition
from fallback.standing import latest

# What opened or closed an incident, where the event that said so was lost. Nothing else says it.
UNKNOWN: Final = Cause.UNKNOWN.value
LARGEST_COUNT: Final = 2**31 - 1


@transaction.atomic
def record(events: Sequence[Event]) -> list[Event]:
    """Store the transitions among `events`; return the events that were not stored before.

    Notices are not stored, so they are always among those returned; whoever acts on one knows it
    by its id.
    """
    held = positions.lock(events)  # from here to the commit these providers' history is ours
    known = _known(events)
    new = list({event.id: event for event in events if event.id not in known}.values())
    positions.follow(held, new)
    moves = [event for event in new if event.is_transition]
    incidents = _incidents(moves)
    Transition.objects.bulk_create(
        [_row(event, incidents.get(event.incident)) for event in moves], ignore_conflicts=True
    )
    for incident in incidents.values():
        work_out(incident)
    transaction.on_commit(partial(_count, moves))
    return new


def work_out(incident: Incident) -> None:
    """Bring an incident up to what all of its transitions say, and save it."""
    rows = Transition.objects.filter(incident=incident)
    is_trip = Q(after=State.OPEN) & ~Q(before=State.OPEN)
    last = latest(rows)
    if last is None:
        return
    sums = rows.aggregate(first_at=Min("at"), last_at=Max("at"), trips=Count("pk", filter=is_trip))
    _work_out_opening(incident, rows.filter(event_id=incident.key).first(), sums["first_at"])
    incident.trips = max(1, sums["trips"])
    incident.last_event_at = sums["last_at"]
    raise_counts(incident, last.evidence)
    if last.after in ADMITTING_STATES:
        incident.closed_at, incident.closing_cause = last.at, last.cause
    elif incident.closing_cause != UNKNOWN:  # that one was closed by what the breaker showed
        incident.closed_at, incident.closing_cause = None, ""
    incident.save()


def raise_counts(incident: Incident, counts: Any) -> bool:
    """Take over the numbers of calls, which only rise; return whether any did."""
    before = (incident.diverted, incident.hurt, incident.saved)
    incident.diverted = max(incident.diverted, _number(counts, "diverted"))
    incident.hurt = max(incident.hurt, _number(counts, "hurt"))
    incident.saved = max(incident.saved, _number(counts, "saved"))
    return before != (incident.diverted, incident.hurt, incident.saved)


def moment(ms: int) -> datetime:
    """Return milliseconds since the epoch as the database stores them."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _known(events: Sequence[Event]) -> set[str]:
    ids = {event.id for event in events if event.is_transition}
    return set(Transition.objects.filter(event_id__in=ids).values_list("event_id", flat=True))


def _incidents(moves: Iterable[Event]) -> dict[str, Incident]:
    """Return the incidents of these events by key, made where they are new."""
    first = {event.incident: event for event in reversed(list(moves)) if event.incident}
    made = [
        Incident(
            key=key,
            provider=event.provider,
            kind=event.kind,
            opened_at=moment(event.at_ms),
            cause=UNKNOWN,
        )
        for key, event in first.items()
    ]
    Incident.objects.bulk_create(made, ignore_conflicts=True)
    return {incident.key: incident for incident in Incident.objects.filter(key__in=first)}


def _work_out_opening(incident: Incident, opening: Transition | None, first_at: datetime) -> None:
    """Take the opening from its event; without it, an incident is at least as old as its oldest."""
    if opening is None:
        incident.opened_at = min(incident.opened_at, first_at)
        return
    incident.opened_at = opening.at
    incident.cause, incident.reason = opening.cause, opening.reason
    incident.actor = opening.actor
    latest_ms = int(opening.at.timestamp() * 1000)
    first_ms = _number(opening.evidence, "first_failure_ms", largest=latest_ms)
    incident.first_failure_at = moment(first_ms) if first_ms else None


def _row(event: Event, incident: Incident | None) -> Transition:
    return Transition(
        event_id=event.id,
        name=event.name,
        provider=event.provider,
        kind=event.kind,
        before=event.before,
        after=event.after,
        at=moment(event.at_ms),
        cause=event.cause,
        actor=event.actor[:150],  # a user's name may be as long, and stands behind "admin:"
        reason=event.reason,
        evidence=dict(event.evidence),
        incident=incident,
        version=event.version,
    )


def _number(values: Any, name: str, *, largest: int = LARGEST_COUNT) -> int:
    """Return a whole number from 0 to `largest`, 0 for anything else that may stand there."""
    value = values.get(name) if isinstance(values, dict) else None
    return max(0, min(int(value), largest)) if isinstance(value, int | float) else 0


def _count(moves: Iterable[Event]) -> None:
    for event in moves:
        metrics.transition(event.provider, event.after, event.cause)
