"""Operators' orders that still hold, as history knows them: for when Redis lost its data."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from django.db.models import Max, QuerySet

from fallback.domain import Cause, EventName, Kind, Override, State
from fallback.models import Transition


class Standing(NamedTuple):
    """An operator's order to one breaker that was neither ended nor has run out."""

    kind: Kind
    provider: str
    override: Override


def standing_overrides(now: datetime) -> list[Standing]:
    """Return the override of each provider that stands at `now`, by provider."""
    now_ms = int(now.timestamp() * 1000)
    orders = [_standing(row) for row in latest_orders()]
    return [
        order
        for order in orders
        if order.override.until_ms is None or order.override.until_ms > now_ms
    ]


def latest_orders() -> Iterator[Transition]:
    """Yield each provider's last transition where that is an operator's override.

    Whatever moves a breaker from under an override, moves it by an event: the last one tells.
    """
    orders = Transition.objects.filter(name=EventName.OVERRIDE_SET, cause=Cause.OVERRIDE)
    providers = orders.order_by("kind", "provider").values_list("kind", "provider").distinct()
    for kind, provider in providers:
        last = latest(Transition.objects.filter(kind=kind, provider=provider))
        if last and (last.name, last.cause) == (EventName.OVERRIDE_SET, Cause.OVERRIDE):
            yield last


def latest(rows: QuerySet[Transition]) -> Transition | None:
    """Return the last of these transitions of one provider; several can share a version."""
    newest = rows.aggregate(version=Max("version"))["version"]
    return max(rows.filter(version=newest), key=_order, default=None)


def _order(row: Transition) -> tuple[int, int]:
    """An event id ends in `-<number within the breaker>-<request>`."""
    parts = row.event_id.rsplit("-", 2)
    return row.version, int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0


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
