"""Events into outbox rows, in the transaction that stores their history.

A row is unique by event and destination, so that whatever is carried twice is told once. Without
Slack nothing is kept. Where a destination takes nothing, no alert is dropped, but what is kept of
it shrinks: beyond `WAITING_MAX` waiting ones its title alone; beyond `FOLDED_FROM` only the most
important are told one by one, and of the others the incident's message says what came of them.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from fallback import metrics
from fallback.alerts.threads import thread_for
from fallback.domain import Event, EventName
from fallback.messages.events import MOST_IMPORTANT, TEST, AlertEvent, told_by
from fallback.messages.template import bounded
from fallback.messages.values import known_names, sample, values_of
from fallback.models import Alert, AlertDestination, AlertTemplate, AlertThread
from fallback.pacing import NotAgainWithin

WAITING_MAX: Final = 1000  # undelivered alerts of one destination that are kept in full
FOLDED_FROM: Final = 10_000
LOSS_S: Final = 60.0  # kinds that lose their data within this time lost it together
SHORT: Final = frozenset({"provider", "kind", "at", "state", "actor", "subject", "route"})
SAY_EVERY_S: Final = 60.0
MARK: Final = timedelta(milliseconds=1)
COLLAPSE_S: Final = 2.0  # what happens within this time is one reply and one update
CALM_S: Final = ((60, 60.0), (15, 15.0))  # replies so far -> a storm is told more sparingly

log = structlog.get_logger(__name__)
_say = NotAgainWithin(SAY_EVERY_S)


def notify(events: Sequence[Event]) -> Sequence[Event]:
    """Store an alert of each event for each of its destinations; pass the events on."""
    if settings.SLACK_BOT_TOKEN and events:
        with transaction.atomic():
            _store([event for event in events if told_by(event)])
    return events


def _store(events: Sequence[Event]) -> None:
    destinations = list(
        AlertDestination.objects.filter(enabled=True).prefetch_related("providers", "routes")
    )
    if not destinations:
        return
    templates = {row.event: row for row in AlertTemplate.objects.filter(enabled=True)}
    ids = [event.id for event in events]
    known = set(Alert.objects.filter(event_id__in=ids).values_list("event_id", "destination_id"))
    waits = {row.pk: waiting(row) for row in destinations}
    for event in events:
        template = next((templates[name] for name in told_by(event) if name in templates), None)
        for destination in _destinations(event, template, destinations):
            if template is None or (event.id, destination.pk) in known:
                continue
            known.add((event.id, destination.pk))
            if not _is_part_of_a_loss(event, destination):
                _add(event, AlertEvent(template.event), destination, waits[destination.pk])
                waits[destination.pk] += 1
        if event.incident:  # what moved is shown, even where nothing is told of it
            touch(AlertThread.objects.filter(incident_key=event.incident).exclude(ts=""))


def waiting(destination: AlertDestination) -> int:
    """Return how many alerts of a destination are not delivered and not given up."""
    statuses = [Alert.Status.PENDING, Alert.Status.SENDING]
    return Alert.objects.filter(destination=destination, status__in=statuses).count()


def _destinations(
    event: Event, template: AlertTemplate | None, all_of_them: Sequence[AlertDestination]
) -> list[AlertDestination]:
    """Return where an event is told: its template's, its provider's and route's, the general."""
    if template and template.destination_id:
        return [row for row in all_of_them if row.pk == template.destination_id]
    route = str(event.evidence.get("route", ""))
    own, general = [], []
    for row in all_of_them:
        providers, routes = list(row.providers.all()), list(row.routes.all())
        if not providers and not routes:
            general.append(row)
        elif any((one.kind, one.slug) == (event.kind, event.provider) for one in providers) or any(
            one.slug == route for one in routes
        ):
            own.append(row)
    return own or general


def _add(event: Event, name: AlertEvent, destination: AlertDestination, waits: int) -> None:
    """Keep an alert, behind `waits` others of its destination."""
    at = datetime.fromtimestamp(event.at_ms / 1000, UTC)
    thread = thread_for(event, destination, at)
    is_short = waits >= WAITING_MAX and name not in MOST_IMPORTANT
    is_folded = waits >= FOLDED_FROM and name not in MOST_IMPORTANT
    names = known_names(name)
    row = Alert(
        event_id=event.id,
        event=name.value,
        destination=destination,
        thread=thread,
        kind=event.kind,
        provider=event.provider,
        at=at,
        values=bounded(values_of(event), names & SHORT if is_short else names),
        status=Alert.Status.FOLDED if is_folded else Alert.Status.PENDING,
    )
    Alert.objects.bulk_create([row], ignore_conflicts=True)
    touch([thread])
    if is_short:
        metrics.alerted(destination.name, "folded" if is_folded else "shortened")
        if _say.is_due(destination.name):
            log.error("alerts_wait", destination=destination.name, waiting=waits)


def _is_part_of_a_loss(event: Event, destination: AlertDestination) -> bool:
    """Fold what a loss of Redis's data did to one more kind into the alert that tells the loss."""
    if event.name != EventName.STATE_LOST:
        return False
    list(AlertDestination.objects.select_for_update().filter(pk=destination.pk))  # one at a time
    at, span = datetime.fromtimestamp(event.at_ms / 1000, UTC), timedelta(seconds=LOSS_S)
    same = Alert.objects.filter(destination=destination, event=AlertEvent.STATE_LOST)
    same = same.exclude(status=Alert.Status.FOLDED).exclude(event_id__startswith=TEST)
    first = same.filter(at__gte=at - span, at__lte=at + span).order_by("-at", "-pk").first()
    told = str(first.values.get("kind", "")).split(", ") if first else []
    if first is None or event.kind in told:
        return False
    first.values = {**first.values, "kind": ", ".join([*told, event.kind])}
    first.save(update_fields=["values"])
    row = Alert(event_id=event.id, event=first.event, destination=destination, kind=event.kind,
                thread=first.thread, at=at, status=Alert.Status.FOLDED)  # fmt: skip
    Alert.objects.bulk_create([row], ignore_conflicts=True)
    touch([first.thread])
    return True


def touch(threads: Iterable[AlertThread]) -> None:
    """Have the sender look at threads soon; the first message of a thread at once."""
    now = timezone.now()
    for thread in threads:
        calm_s = next((s for most, s in CALM_S if thread.replies >= most), COLLAPSE_S)
        soon = now + timedelta(seconds=calm_s if thread.ts else 0)
        rows = AlertThread.objects.filter(pk=thread.pk)
        rows.filter(due_at=None).update(due_at=soon)
        # A sender at work sees by the time alone that something has happened since it began.
        at_work = rows.filter(claimed_until__isnull=False, due_at__lte=soon)
        at_work.update(due_at=F("due_at") - MARK)
        rows.filter(due_at__gt=soon).update(due_at=soon)


def acknowledge(thread: AlertThread, by: str) -> str:
    """Have an incident's reminders stop; return who did so first. Tells every destination."""
    with transaction.atomic():
        rows = AlertThread.objects.select_for_update().filter(pk=thread.pk)
        if thread.incident_key:
            rows = AlertThread.objects.select_for_update().filter(incident_key=thread.incident_key)
        for row in rows.order_by("pk"):
            if row.acknowledged_by:
                return row.acknowledged_by
        rows.update(acknowledged_by=by[:150], acknowledged_at=timezone.now())
        for row in rows:
            touch([row])
    log.info("incident_acknowledged", incident=thread.incident_key, by=by)
    return by


def send_again(alerts: Iterable[Alert]) -> int:
    """Put dead alerts back into the queue; return how many. What Slack has is not sent again."""
    count = 0
    for alert in alerts:
        with transaction.atomic():
            rows = Alert.objects.filter(pk=alert.pk, status=Alert.Status.DEAD)
            # Part of a send whose answer was lost: it is settled before anything is sent.
            key = AlertThread.objects.values_list("sending_key", flat=True).get(pk=alert.thread_id)
            is_unclear = bool(key) and alert.sending_key == key
            status = Alert.Status.SENDING if is_unclear else Alert.Status.PENDING
            count += rows.update(status=status, problem="", created_at=timezone.now())
            thread = AlertThread.objects.filter(pk=alert.thread_id)
            thread.update(due_at=timezone.now(), attempts=0, problem="")
    return count


def send_test(
    template: AlertTemplate, destination: AlertDestination, values: Mapping[str, str | int]
) -> Alert:
    """Queue a template as a test for a destination, marked as one and mentioning nobody."""
    now = timezone.now()
    key = f"{TEST}:{uuid.uuid4().hex}"
    with transaction.atomic():
        thread = AlertThread.objects.create(
            destination=destination, key=key, type=AlertThread.NOTICE, subject=key,
            opened_at=now, ends_at=now, due_at=now,
        )  # fmt: skip
        return Alert.objects.create(
            event_id=key, event=template.event, destination=destination, thread=thread,
            provider=str(values.get("provider", ""))[:63], at=now,
            values=dict(values) or sample(AlertEvent(template.event)),
        )  # fmt: skip


def forget(before: datetime, *, at_most: int) -> int:
    """Delete delivered alerts' threads of long ago that are closed; return how many went."""
    old = AlertThread.objects.filter(due_at=None, opened_at__lt=before).exclude(
        type=AlertThread.INCIDENT, closed_at=None
    )
    ids = list(old.order_by(F("pk")).values_list("pk", flat=True)[:at_most])
    return AlertThread.objects.filter(pk__in=ids).delete()[0] if ids else 0
