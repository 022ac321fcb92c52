"""Orders given in Slack: who may, for how long, and one effect for two at once.

The provider's row is locked from the look at the breaker to the order, so that of two who act on
what they saw at the same moment one acts, and the other is told who was first.
"""

import re
from datetime import UTC, datetime
from typing import Final

import structlog
from django.db import transaction

from fallback import services
from fallback.alerts.cards import seen as signature
from fallback.alerts.cards import view_of
from fallback.domain import BreakerView, Kind, Override, State
from fallback.errors import Conflict, FallbackError
from fallback.messages.values import duration
from fallback.models import Provider, SlackOperator
from fallback.slack.door import Origin, take_once

DEFAULT_S: Final = 1800
FOREVER: Final = "forever"
_LENGTH: Final = re.compile(r"(?:\d{1,5}[smhd])+")
_PART: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

log = structlog.get_logger(__name__)


class NotAllowed(FallbackError):  # noqa: N818 - named as what the person is told
    """Somebody who is no operator gave an order."""

    code = "not_allowed"
    status = 403


def operator_of(origin: Origin, what: str) -> str:
    """Return the actor whose order this is, `slack:<name>`; the request counts as carried out.

    Raises NotAllowed, and logs it; Conflict when this request was carried out before.
    """
    user = origin.user
    if origin.doubt:
        log.warning("slack_order_refused", user=user[:30], order=what[:200], why=origin.doubt)
        raise NotAllowed(origin.doubt)
    row = SlackOperator.objects.filter(slack_user=user, enabled=True).first()
    if row is None:
        log.warning("slack_order_refused", user=user[:30], order=what[:200])
        raise NotAllowed(
            "Not done: you may look at everything, and orders are for Slack operators. An admin"
            f" can add you there with your member id, {user}."
        )
    take_once(origin.request)
    return f"slack:{row.name}"


def length_s(word: str) -> int | None:
    """Return the seconds of `30m`, `1h30m`, `2d`; None for what is no length."""
    if not _LENGTH.fullmatch(word.lower()):
        return None
    return sum(int(n) * _UNITS[unit] for n, unit in _PART.findall(word.lower()))


def force(
    kind: Kind, slug: str, state: State, *, by: str, reason: str, for_s: int | None,
    seen: str | None = None,
) -> str:  # fmt: skip
    """Order a breaker into a state; return the sentence that says so.

    `seen`: the order that stood when a button was shown, None for a typed command. Raises
    Conflict when somebody was faster, and what `services` raises.
    """
    with transaction.atomic():
        view = _locked(kind, slug)
        _require_as_seen(view, seen, state)
        services.set_override(kind, slug, state=state, reason=reason, for_s=for_s, by=by)
    end = f"for {duration(for_s)}" if for_s else "until somebody clears it"
    return f"{slug} is {_words(state)} {end}, ordered by {by}: “{reason}”"


def back_to_automatic(
    kind: Kind, slug: str, *, by: str, reason: str = "", seen: str | None = None
) -> str:
    """End a breaker's override; return the sentence that says so. Raises Conflict."""
    with transaction.atomic():
        view = _locked(kind, slug)
        if view is not None and view.breaker.override is None:
            first = " somebody else was faster." if seen else ""
            raise Conflict(f"{slug} is automatic already:{first or ' no order stands.'}")
        _require_as_seen(view, seen, None)
        services.clear_override(kind, slug, reason=reason, by=by)
    return f"{slug} obeys its policy again, ordered by {by}"


def reset(kind: Kind, slug: str, *, by: str, reason: str) -> str:
    """Close a breaker and forget what it counted; return the sentence that says so."""
    services.reset_breaker(kind, slug, reason=reason, by=by)
    return f"{slug} was reset by {by}: “{reason}”"


def _locked(kind: Kind, slug: str) -> BreakerView | None:
    """Return the breaker as it is while nobody else in Slack orders it about."""
    list(Provider.objects.select_for_update(no_key=True).filter(kind=kind, slug=slug))
    return view_of(kind, slug)


def _require_as_seen(view: BreakerView | None, seen: str | None, wanted: State | None) -> None:
    """Refuse an order that rests on what is not so any more."""
    order = view.breaker.override if view else None
    if view is None or seen is None or signature(order) == seen:
        if seen is not None and order and order.state == wanted:
            raise Conflict(_already(view, order))
        return
    raise Conflict(_already(view, order))


def _already(view: BreakerView | None, order: Override | None) -> str:
    slug = view.provider if view else "it"
    if order is None:
        return f"Already done: {slug} is back to automatic."
    at = datetime.fromtimestamp(order.at_ms / 1000, UTC)
    return (
        f"Already done by {order.by} at {at:%H:%M:%S} UTC: {slug} is {_words(order.state)},"
        f" “{order.reason}”"
    )


def _words(state: str) -> str:
    return state.replace("_", " ")
