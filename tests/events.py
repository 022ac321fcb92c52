"""Events as the script writes them, for the tests of everything that reads the stream."""

import json
from dataclasses import replace
from typing import Any

import redis
from django.conf import settings

from fallback.domain import Event, Kind

STREAM = f"{{{settings.FALLBACK_NAMESPACE}:stt}}:events"
START_MS = 1_795_000_000_000


def event(number: int = 1, **changes: Any) -> Event:
    """Return a trip of soniox, number `number` of its breaker; `changes` go on top."""
    provider = changes.get("provider", "soniox")
    incarnation = changes.pop("incarnation", "aaaaaaaa")
    event_id = f"{incarnation}-{provider}-{number}-{changes.pop('request', 'request')}"
    trip = Event(
        id=event_id,
        name="tripped",
        kind=Kind.STT,
        provider=provider,
        before="closed",
        after="open",
        at_ms=START_MS + 1000 * number,
        cause="failure_threshold",
        actor="breaker",
        reason="connection",
        incident=event_id,
        evidence={"diverted": 0, "hurt": 2, "saved": 0, "trips": 1},
        version=1000 * (START_MS + 1000 * number),
    )
    return replace(trip, **changes)


def outage(
    provider: str = "soniox", *, first: int = 1, incarnation: str = "aaaaaaaa"
) -> list[Event]:
    """Return an incident from its trip to its end: open, half open, open, half open, closed."""
    moves = [
        ("tripped", "closed", "open", "failure_threshold"),
        ("probing", "open", "half_open", "time_up"),
        ("probe_failed", "half_open", "open", "probe_failure"),
        ("probing", "open", "half_open", "time_up"),
        ("recovered", "half_open", "closed", "probe_success"),
    ]
    trip = event(first, provider=provider, incarnation=incarnation)
    return [
        event(
            first + i,
            provider=provider,
            incarnation=incarnation,
            name=name,
            before=before,
            after=after,
            cause=cause,
            incident=trip.id,
            evidence={"diverted": 10 * i, "hurt": 2 + i, "saved": i, "trips": 1},
        )
        for i, (name, before, after, cause) in enumerate(moves)
    ]


def fields(told: Event) -> dict[str, str]:
    """Return an event as the fields of a stream entry."""
    names = [name for name in Event.__slots__ if name not in ("kind", "evidence")]
    texts = {name: str(getattr(told, name)) for name in names}
    return texts | {"evidence": json.dumps(told.evidence)}


def write(client: redis.Redis, *told: Event, stream: str = STREAM) -> list[str]:
    """Append events to the stream as the script does; return the entries' ids."""
    return [client.xadd(stream, fields(one)).decode() for one in told]
