"""The buttons under an incident's message: three orders, and *Acknowledge*."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from fallback import alerts
from fallback.domain import Kind, State
from fallback.errors import Conflict, FallbackError, NotFound
from fallback.messages import answers
from fallback.messages.alerts import ACKNOWLEDGE, AUTO, FORCE_CLOSED, FORCE_OPEN, FORCE_S
from fallback.models import AlertThread, Incident
from fallback.slack import orders
from fallback.slack.door import Origin

_STATES: Final = {FORCE_OPEN: State.FORCED_OPEN, FORCE_CLOSED: State.FORCED_CLOSED}

log = structlog.get_logger(__name__)


def on_button(
    ack: Callable[..., Any],
    body: Mapping[str, Any],
    respond: Callable[..., Any],
    context: Mapping[str, Any],
) -> None:
    """Do what was pressed, and tell the person who pressed it; the thread tells the others."""
    ack()
    action = body["actions"][0]
    try:
        said = press(str(action["action_id"]), str(action.get("value") or ""), context["origin"])
    except FallbackError as error:
        said = str(error)
    message = answers.said(said)
    respond(
        text=message.text, blocks=message.blocks, response_type="ephemeral", replace_original=False
    )


def press(action: str, value: str, origin: Origin) -> str:
    """Carry out a pressed button; return what to say. Raises FallbackError."""
    thread, seen = _thread(value)
    kind, slug = Kind(thread.kind), thread.provider
    by = orders.operator_of(origin, f"{action} {slug}")
    number = _open_incident(thread)
    if action == ACKNOWLEDGE:
        first = alerts.acknowledge(thread, by)
        if first != by:
            raise Conflict(f"Already done by {first}: incident #{number} is acknowledged.")
        return f"Incident #{number} is yours: no more reminders."
    reason = f"button on incident #{number}"
    if action == AUTO:
        return orders.back_to_automatic(kind, slug, by=by, reason=reason, seen=seen)
    return orders.force(kind, slug, _STATES[action], by=by, reason=reason, for_s=FORCE_S, seen=seen)


def _thread(value: str) -> tuple[AlertThread, str]:
    """Return what a button is about, and which order stood when it was shown."""
    try:
        held = json.loads(value)
        thread = AlertThread.objects.filter(pk=int(held["thread"])).first()
        seen = str(held["seen"])
    except (ValueError, TypeError, KeyError):
        thread, seen = None, ""
    if thread is None or not thread.provider:
        raise NotFound("That message is too old for its buttons: use /stt-status.")
    return thread, seen


def _open_incident(thread: AlertThread) -> int:
    incident = Incident.objects.filter(key=thread.incident_key).first()
    if incident is None or incident.closed_at:
        raise Conflict("This incident is over: nothing was done. See /stt-status.")
    return incident.pk
