"""Which message of a channel an alert belongs to: one for each incident and destination.

A failure opens the message early; the trip that follows takes it over, in whatever order the
events come.
"""

from datetime import datetime, timedelta
from typing import Final

from django.db.models import QuerySet

from fallback.domain import Event, EventName
from fallback.messages.blocks import clean
from fallback.models import AlertDestination, AlertThread

NOTICE_S: Final = 3600  # the same thing told again within this time is a reply, not a message
WINDOW_S: Final = 240  # of a failure whose event does not tell its own
WINDOW_MAX_S: Final = 86_400
EARLY: Final = frozenset({EventName.PROVIDER_FAILURE, EventName.WOULD_TRIP})
# Orders to a breaker that stays in service belong together, and to no incident.
_ORDERS: Final = frozenset({EventName.OVERRIDE_SET, EventName.OVERRIDE_CLEARED, EventName.RESET})


def thread_for(event: Event, destination: AlertDestination, at: datetime) -> AlertThread:
    """Return the thread of this event's alert, made where there is none.

    Called in the transaction that stores the alert, while `history` holds the provider's lock.
    """
    if event.incident:
        return of_incident(event, destination, at)
    if event.name in EARLY:
        return _of_failure(event, destination, at)
    return _of_notice(event, destination, at)


def of_incident(event: Event, destination: AlertDestination, at: datetime) -> AlertThread:
    """Return an incident's thread: its own, or the one that a failure before it opened."""
    key = f"incident:{event.incident}"
    threads = AlertThread.objects.filter(destination=destination)
    found = threads.filter(key=key).first()
    if found:
        return found
    early = _open_failure(event, destination).filter(opened_at__lte=at).first()
    if early is None:
        return _made(event, destination, key, AlertThread.INCIDENT, at)
    early.key, early.type, early.incident_key = key, AlertThread.INCIDENT, event.incident
    early.ends_at = None
    early.save(update_fields=["key", "type", "incident_key", "ends_at"])
    return early


def _of_failure(event: Event, destination: AlertDestination, at: datetime) -> AlertThread:
    window = timedelta(seconds=_window_s(event))
    found = _open_failure(event, destination).filter(ends_at__gt=at).first()
    if found:
        found.ends_at = max(found.ends_at or at, at + window)
        found.save(update_fields=["ends_at"])
        return found
    # Carried after the trip that followed it: it is part of what led there.
    later = AlertThread.objects.order_by("opened_at").filter(
        destination=destination, type=AlertThread.INCIDENT, subject=_subject(event),
        opened_at__gte=at, opened_at__lte=at + window,
    ).first()  # fmt: skip
    return later or _made(
        event, destination, f"failure:{event.id}", AlertThread.FAILURE, at, at + window
    )


def _of_notice(event: Event, destination: AlertDestination, at: datetime) -> AlertThread:
    found = AlertThread.objects.filter(
        destination=destination,
        type=AlertThread.NOTICE,
        subject=_subject(event),
        closed_at=None,
        ends_at__gt=at,
    ).first()
    return found or _made(
        event, destination, f"notice:{event.id}", AlertThread.NOTICE, at,
        at + timedelta(seconds=NOTICE_S),
    )  # fmt: skip


def _open_failure(event: Event, destination: AlertDestination) -> QuerySet[AlertThread]:
    return AlertThread.objects.filter(
        destination=destination,
        type=AlertThread.FAILURE,
        subject=f"{event.kind}:{event.provider}",
        closed_at=None,
    ).order_by("-opened_at")


def _subject(event: Event) -> str:
    """Return what events of one thread have in common."""
    if event.incident or event.name in EARLY:
        return f"{event.kind}:{event.provider}"
    if event.name == EventName.STATE_LOST:
        return event.name  # of all kinds together
    what = "order" if event.name in _ORDERS else event.name
    return clean(f"{what}:{event.kind}:{event.provider or event.reason}", 160)


def _window_s(event: Event) -> int:
    found = event.evidence.get("failure_window_s")
    is_sane = isinstance(found, int | float) and 0 < found <= WINDOW_MAX_S
    return int(found) if is_sane else WINDOW_S  # type: ignore[arg-type]


def _made(
    event: Event,
    destination: AlertDestination,
    key: str,
    kind_of: str,
    at: datetime,
    ends_at: datetime | None = None,
) -> AlertThread:
    row = AlertThread(
        destination=destination,
        key=key,
        type=kind_of,
        subject=f"{event.kind}:{event.provider}"
        if kind_of != AlertThread.NOTICE
        else _subject(event),
        kind=event.kind,
        provider=event.provider,
        incident_key=event.incident if kind_of == AlertThread.INCIDENT else "",
        opened_at=at,
        ends_at=ends_at,
    )
    AlertThread.objects.bulk_create([row], ignore_conflicts=True)
    return AlertThread.objects.get(destination=destination, key=key)
