"""Transitions into what a timeline shows: for each provider, spans of one state each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fallback.domain import ADMITTING_STATES, State
from fallback.live import words

WIDTH: Final = 1000  # of the drawing; the page stretches it
HEIGHTS: Final = {State.CLOSED: 4, State.HALF_OPEN: 14}  # all others: HIGHEST; says it by shape too
HIGHEST: Final = 24
NARROWEST: Final = 2  # a short outage must be seen in a day


@dataclass(frozen=True, slots=True)
class Span:
    """One state from `x`, `width` wide, in the drawing's units."""

    state: str
    x: float
    y: float
    width: float
    height: int
    title: str


def lane(
    row: Mapping[str, Any], moves: Sequence[Mapping[str, Any]], start: datetime, end: datetime
) -> dict[str, Any]:
    """Return one provider's lane: spans from `start` to `end`, and what they say in words.

    `moves` are its transitions as the API writes them, oldest first.
    """
    within = [move for move in moves if start < words.parsed(move["at"]) < end]
    before = [move for move in moves if words.parsed(move["at"]) <= start]
    state = before[-1]["to"] if before else within[0]["from"] if within else row["state"]
    marks = [(start, state), *((words.parsed(move["at"]), move["to"]) for move in within)]
    ends = [at for at, _ in marks[1:]] + [end]
    parts = [(of, at, to) for (at, of), to in zip(marks, ends, strict=True) if to > at]
    spans = [_span(of, at, to, start, end) for of, at, to in _joined(parts)]
    return {
        "provider": row["provider"],
        "kind": row["kind"],
        "spans": spans,
        "label": _label(row["provider"], parts),
    }


def _joined(
    parts: Iterable[tuple[str, datetime, datetime]],
) -> list[tuple[str, datetime, datetime]]:
    joined: list[tuple[str, datetime, datetime]] = []
    for state, at, to in parts:
        if joined and joined[-1][0] == state:
            joined[-1] = (state, joined[-1][1], to)
        else:
            joined.append((state, at, to))
    return joined


def _span(state: str, at: datetime, to: datetime, start: datetime, end: datetime) -> Span:
    scale = WIDTH / (end - start).total_seconds()
    width = max((to - at).total_seconds() * scale, NARROWEST)
    x = min((at - start).total_seconds() * scale, WIDTH - width)  # what began just now is seen too
    height = HEIGHTS.get(State(state), HIGHEST)
    return Span(
        state=state,
        x=round(x, 2),
        y=(HIGHEST - height) / 2,
        width=round(width, 2),
        height=height,
        title=f"{words.spoken(state)}, {at:%H:%M:%S} to {to:%H:%M:%S} UTC, {words.length(to - at)}",
    )


def _label(provider: str, parts: Iterable[tuple[str, datetime, datetime]]) -> str:
    away = [to - at for state, at, to in parts if state not in ADMITTING_STATES]
    if not away:
        return f"{provider}: never out"
    return f"{provider}: out for {words.length(sum(away[1:], away[0]))}"
