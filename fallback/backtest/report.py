"""The report: what each policy would have done, side by side, ready for JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from django.db.models import Q

from fallback.backtest.lane import Lane
from fallback.backtest.replay import Replay, Span
from fallback.domain import ADMITTING_STATES, Event, EventName, State
from fallback.messages.events import AlertEvent
from fallback.models import AlertTemplate, Incident
from fallback.times import epoch_ms, moment, rfc3339

LISTED_MAX: Final = 500  # transitions and spells of one lane; the numbers count all


@dataclass(frozen=True, slots=True)
class Report:
    """What a rehearsal found. `as_json` is what is stored and shown."""

    span: Span
    replays: Sequence[Replay]

    def as_json(self) -> dict[str, Any]:
        """Return {"span", "recorded", "providers"}; each provider has "lanes" by name."""
        told = frozenset(AlertTemplate.objects.filter(enabled=True).values_list("event", flat=True))
        return {
            "span": {"since": rfc3339(self.span.since_ms), "until": rfc3339(self.span.until_ms)},
            "recorded": {
                "calls": sum(replay.calls for replay in self.replays),
                "failures": sum(replay.failures for replay in self.replays),
                "dropped": sum(replay.dropped for replay in self.replays),
            },
            "providers": [_provider(replay, self.span, told) for replay in self.replays],
        }


def _provider(replay: Replay, span: Span, told: frozenset[str]) -> dict[str, Any]:
    incidents = list(_incidents(replay, span))
    return {
        "kind": str(replay.kind),
        "provider": replay.provider,
        "calls": replay.calls,
        "failures": replay.failures,
        "failed_in": replay.failed_in,
        "incidents": [_incident(row) for row in incidents],
        "lanes": {name: _lane(lane, span, incidents, told) for name, lane in replay.lanes.items()},
    }


def _lane(
    lane: Lane, span: Span, incidents: Sequence[Incident], told: frozenset[str]
) -> dict[str, Any]:
    counts, moves = lane.counts, lane.moves
    spells = list(_spells(moves, span))
    return {
        "trips": sum(event.name == EventName.TRIPPED for event in moves),
        "would_trip": lane.told[(AlertEvent.WOULD_TRIP,)],
        "detection_s": _detection(moves),
        "hurt": counts.hurt,
        "diverted": counts.diverted,
        "diverted_healthy": counts.diverted_healthy,
        "avoided": counts.avoided,
        "fate_unknown": counts.diverted - counts.diverted_healthy - counts.avoided,
        "flaps": counts.flaps,
        "alerts": sum(count for names, count in lane.told.items() if told.intersection(names)),
        "out_s": round(sum(_out_ms(spell) for spell in spells) / 1000),
        "spells": [_spell(*spell) for spell in spells[:LISTED_MAX]],
        "transitions": [_transition(event) for event in moves[:LISTED_MAX]],
        "missed": [row.pk for row in incidents if not _is_covered(row, spells, span)],
    }


def _detection(moves: Iterable[Event]) -> dict[str, float | None]:
    """Return how many seconds lay between the first failure and the trip."""
    took_s = [
        (event.at_ms - event.evidence["first_failure_ms"]) / 1000
        for event in moves
        if event.name == EventName.TRIPPED and event.evidence.get("first_failure_ms")
    ]
    return {
        "median": round(median(took_s), 3) if took_s else None,
        "longest": round(max(took_s), 3) if took_s else None,
    }


def _spells(moves: Sequence[Event], span: Span) -> Iterable[tuple[State, int, int]]:
    """Yield (state, since, until) of everything that is not closed."""
    ends = [event.at_ms for event in moves[1:]] + [span.until_ms]
    for event, end_ms in zip(moves, ends, strict=False):
        if event.after != State.CLOSED:
            yield State(event.after), event.at_ms, end_ms


def _out_ms(spell: tuple[State, int, int]) -> int:
    state, since_ms, until_ms = spell
    return 0 if state in ADMITTING_STATES else until_ms - since_ms


def _spell(state: State, since_ms: int, until_ms: int) -> dict[str, Any]:
    return {"state": str(state), "since": rfc3339(since_ms), "until": rfc3339(until_ms)}


def _transition(event: Event) -> dict[str, Any]:
    return {
        "at": rfc3339(event.at_ms),
        "from": event.before,
        "to": event.after,
        "cause": event.cause,
        "reason": event.reason,
    }


def _incidents(replay: Replay, span: Span) -> Iterable[Incident]:
    """Return what really happened in the span and nobody had ordered."""
    since, until = moment(span.since_ms), moment(span.until_ms)
    return Incident.objects.filter(
        Q(closed_at=None) | Q(closed_at__gte=since),
        kind=replay.kind,
        provider=replay.provider,
        opened_at__lt=until,
    ).exclude(cause="override").order_by("opened_at")  # fmt: skip


def _incident(row: Incident) -> dict[str, Any]:
    return {
        "id": row.pk,
        "began": rfc3339(epoch_ms(row.opened_at)),
        "ended": rfc3339(epoch_ms(row.closed_at)) if row.closed_at else None,
        "cause": row.cause,
        "reason": row.reason[:200],
        "hurt": row.hurt,
        "diverted": row.diverted,
    }


def _is_covered(row: Incident, spells: Sequence[tuple[State, int, int]], span: Span) -> bool:
    began_ms = epoch_ms(row.first_failure_at or row.opened_at)
    ended_ms = epoch_ms(row.closed_at) if row.closed_at else span.until_ms
    return any(
        state not in ADMITTING_STATES and since_ms <= ended_ms and until_ms >= began_ms
        for state, since_ms, until_ms in spells
    )
