"""What is shown of a thread: its alerts with their templates filled, and the facts of now.

Facts come from history, and from the breaker where Redis answers: it alone knows when it ends.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.urls import reverse

from fallback import breaker
from fallback.domain import ADMITTING_STATES, BreakerView, EventName, Kind, Override, State
from fallback.errors import BreakerUnavailable
from fallback.messages import mentions
from fallback.messages.alerts import Buttons, Card, Told, reminder
from fallback.messages.blocks import text
from fallback.messages.events import ASIDE, REMINDER, TEST, AlertEvent, Severity
from fallback.messages.template import body_of, title_of
from fallback.messages.values import duration, known_names, reasons
from fallback.models import Alert, AlertTemplate, AlertThread, Incident, Transition
from fallback.standing import latest

_PLAIN: Final[dict[str, str]] = {
    State.OPEN: "is out",
    State.HALF_OPEN: "is being probed",
    State.CLOSED: "is back",
    State.FORCED_OPEN: "is forced open",
    State.FORCED_CLOSED: "is forced closed",
    State.SHADOW: "only watches (shadow)",
}
NOTHING_CAME: Final = "Nothing came of it: no further failure within its window."


class Facts:
    """All that is known of one thread at one moment."""

    def __init__(self, thread: AlertThread, now: datetime) -> None:
        self.thread, self.now = thread, now
        self.templates = {row.event: row for row in AlertTemplate.objects.all()}
        self.incident = Incident.objects.filter(key=thread.incident_key).first()
        rows = Transition.objects.filter(incident=self.incident)
        self.last = latest(rows) if self.incident else None
        self.view = view_of(thread.kind, thread.provider) if self._is_going_on() else None

    def _is_going_on(self) -> bool:
        return bool(self.thread.provider) and not (self.incident and self.incident.closed_at)

    @property
    def state(self) -> str:
        """The breaker's state as far as this thread tells of it; empty: it tells of none."""
        if self.incident is None or self.last is None:
            is_over = self.thread.type == AlertThread.FAILURE and self.thread.closed_at
            return State.CLOSED if is_over else ""
        if self.incident.closed_at:
            return self.last.after if self.last.after in ADMITTING_STATES else State.CLOSED
        return self.last.after

    @property
    def lasted(self) -> str:
        """How long the incident has been going on, or was."""
        if self.incident is None:
            return ""
        end = self.incident.closed_at or self.now
        return duration((end - self.incident.opened_at).total_seconds())

    def told(self, alert: Alert) -> Told | None:
        """Return an alert filled; None when its template was switched off or deleted."""
        at_ms = _ms(alert.at)
        if alert.event == REMINDER:
            since = self.incident.opened_at if self.incident else alert.at
            return reminder(alert.provider, self.state, _ms(since), self.lasted)
        template = self.templates.get(alert.event)
        if template is None or not (template.enabled or alert.event_id.startswith(TEST)):
            return None
        return filled(template, {**self._extra(alert), **alert.values}, at_ms)

    def severity(self, alert: Alert) -> Severity:
        """Return how bad an alert is."""
        template = self.templates.get(_template_of(alert))
        return Severity(template.severity) if template else Severity.CRITICAL

    def mentions(self, alert: Alert) -> str:
        """Return whom an alert mentions: whom its template says, else its destination if it is
        critical."""
        template = self.templates.get(_template_of(alert))
        own = template.mentions if template else []
        is_critical = self.severity(alert) == Severity.CRITICAL
        return mentions.together(own or (self.thread.destination.mentions if is_critical else []))

    def card(self, alert: Alert | None) -> Card:
        """Return what the thread's first message shows now; `alert` is its headline."""
        told = self._plain() if self._is_stale(alert) else alert and self.told(alert)
        incident, thread = self.incident, self.thread
        is_open = incident is not None and incident.closed_at is None
        note = NOTHING_CAME if thread.type == AlertThread.FAILURE and thread.closed_at else ""
        return Card(
            headline=told or Told([], [], _ms(self.now)),
            state=self.state,
            mentions=self.mentions(alert) if alert else "",
            since_ms=_ms(self.last.at) if self.last else None,
            until_ms=self._until_ms(),
            lasted=self.lasted,
            calls=(incident.diverted, incident.hurt, incident.saved) if incident else None,
            reasons=self._reasons(),
            note=note,
            ordered=self._ordered(),
            acknowledged=thread.acknowledged_by,
            incident=incident.pk if incident else None,
            url=incident_url(incident),
            buttons=self._buttons() if is_open else None,
        )

    def _is_stale(self, alert: Alert | None) -> bool:
        """Whether the breaker moved since, by an event that no alert tells here."""
        last = self.last
        return bool(last and alert and alert.at < last.at and alert.event_id != last.event_id)

    def _plain(self) -> Told:
        """Return a headline of the state alone: nothing that a switched off template says."""
        title = f"{self.thread.provider} {_PLAIN.get(self.state, self.state)}"
        return Told([text(title)], [], _ms(self.now))

    def _extra(self, alert: Alert) -> dict[str, str | int]:
        """Return values that the event itself does not hold."""
        if alert.event not in list(AlertEvent):
            return {}
        found: dict[str, str | int] = {}
        if self.incident:
            lasted_s = (alert.at - self.incident.opened_at).total_seconds()
            found = {"incident": str(self.incident.pk), "duration": duration(lasted_s)}
        if until_ms := self._until_ms():
            found["until"] = until_ms
        known = known_names(AlertEvent(alert.event))
        return {name: value for name, value in found.items() if name in known}

    def _until_ms(self) -> int | None:
        is_same = self.view and self.last and self.view.breaker.state == self.last.after
        return self.view.until_ms if self.view and is_same else None

    def _reasons(self) -> str:
        if self.view and self.view.last_reasons:
            return reasons(dict(self.view.last_reasons))
        rows = self.incident.transitions.order_by("-version") if self.incident else ()
        found = (reasons(row.evidence.get("reasons")) for row in rows)
        return next((one for one in found if one), "")

    def _ordered(self) -> str:
        if self.last is None or self.last.name != EventName.OVERRIDE_SET:
            return ""
        return f"{self.last.after.replace('_', ' ')} by {self.last.actor}: “{self.last.reason}”"

    def _buttons(self) -> Buttons:
        order = self.view.breaker.override if self.view else None
        return Buttons(self.thread.pk, seen(order), not self.thread.acknowledged_by)


def filled(template: AlertTemplate, values: Mapping[str, Any], at_ms: int) -> Told:
    """Return a template filled with values."""
    return Told(title_of(template.title, values), body_of(template.body, values), at_ms)


def headline(alerts: list[Alert]) -> Alert | None:
    """Return the newest alert that says how things stand, else the newest of all."""
    ordered = sorted(alerts, key=lambda row: (row.at, row.pk))
    mains = [row for row in ordered if row.event not in ASIDE]
    return next(iter(reversed(mains or ordered)), None)


def seen(order: Override | None) -> str:
    """Return what tells one operator's order from the next; a button carries it back."""
    return f"{order.state}:{order.at_ms}" if order else ""


def view_of(kind: str, provider: str) -> BreakerView | None:
    """Return a breaker as it is now; None while Redis does not say."""
    try:
        return breaker.snapshot(Kind(kind), [provider]).views[0]
    except BreakerUnavailable:
        return None


def incident_url(incident: Incident | None) -> str:
    """Return the address of an incident's page; empty where nobody said where we are."""
    if incident is None or not settings.PUBLIC_URL:
        return ""
    path = reverse("admin:fallback_incident_change", args=[incident.pk])
    return f"{settings.PUBLIC_URL}{path}"


def _template_of(alert: Alert) -> str:
    return AlertEvent.TRIPPED if alert.event == REMINDER else alert.event


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
