"""Operators' orders that still hold, for when Redis lost them; and what may be forgotten."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from fallback.domain import Cause, EventName, Kind, Override, State
from fallback.history.recording import latest
from fallback.models import DeadLetter, Transition


class Standing(NamedTuple):
    """An operator's order to one breaker that was neither ended nor has run out."""

    kind: Kind
    provider: str
    override: Override


def standing_overrides(now: datetime) -> list[Standing]:
    """Return the override of each provider that stands at `now`, by provider."""
    now_ms = int(now.timestamp() * 1000)
    orders = [_standing(row) for row in _latest_orders()]
    return [
        order
        for order in orders
        if order.override.until_ms is None or order.override.until_ms > now_ms
    ]


def forget(before: datetime, *, at_most: int) -> int:
    """Delete old transitions and dead letters, `at_most` of each; return how many went.

    What an open incident or a standing order rests on is kept however old it is. Incidents stay:
    they are few, and the record of what happened.
    """
    gone = DeadLetter.objects.filter(at__lt=before).order_by("at")[:at_most]
    count, _ = DeadLetter.objects.filter(pk__in=[row.pk for row in gone]).delete()
    old = Transition.objects.filter(at__lt=before).exclude(
        incident__isnull=False, incident__closed_at=None
    )
    ids = set(old.order_by("at").values_list("pk", flat=True)[:at_most])
    if ids:
        ids -= {row.pk for row in _latest_orders()}
        count += Transition.objects.filter(pk__in=ids).delete()[0]
    return count


def _latest_orders() -> Iterator[Transition]:
    """Yield each provider's last transition where that is an operator's override.

    Whatever moves a breaker from under an override, moves it by an event: the last one tells.
    """
    orders = Transition.objects.filter(name=EventName.OVERRIDE_SET, cause=Cause.OVERRIDE)
    providers = orders.order_by("kind", "provider").values_list("kind", "provider").distinct()
    for kind, provider in providers:
        last = latest(Transition.objects.filter(kind=kind, provider=provider))
        if last and (last.name, last.cause) == (EventName.OVERRIDE_SET, Cause.OVERRIDE):
            yield last


def _standing(row: Transition) -> Standing:
    until_ms = row.evidence.get("until_ms")
    override = Override(
        state=State(row.after),
        by=row.actor,
        reason=row.reason,
        at_ms=int(row.at.timestamp() * 1000),
        until_ms=int(until_ms) if isinstance(until_ms, int | float) else None,
    )
    return Standing(Kind(row.kind), row.provider, override)
