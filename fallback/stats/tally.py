"""Counting in this process: a lock and an addition, no Redis turn and no query."""

import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from fallback import metrics
from fallback.domain import FAILURE_KINDS, Kind, Outcome, OutcomeKind, Recorded, Status
from fallback.errors import BreakerUnavailable
from fallback.flushing import Flusher
from fallback.stats import minutes
from fallback.stats.counts import Counts
from fallback.stats.minutes import Place

FLUSH_S: Final = 2.0
PLACES_MAX: Final = 5_000  # minutes times providers that wait for Redis; about 250 bytes each
LATE_MINUTES: Final = 2  # a minute that is over this long gets no more counts here


class Tally:
    """The counts of one process, by minute, kind and provider."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[Place, Counts] = {}
        self._changed: set[Place] = set()
        self._process = secrets.token_hex(4)
        self._flushing = threading.Lock()
        self._flusher = Flusher("stats", self.flush, FLUSH_S)

    def add(self, kind: Kind, provider: str, change: Callable[[Counts], None]) -> None:
        """Count one thing in the minute of now; the first starts the thread that writes."""
        place = Place(int(self._clock()) // 60, kind, provider)
        with self._lock:
            if place not in self._counts:
                self._make_room()
                self._counts[place] = Counts()
            change(self._counts[place])
            self._changed.add(place)
        self._flusher.start()

    def flush(self) -> None:
        """Write what changed. Raises BreakerUnavailable; then it is written the next time."""
        with self._flushing:
            with self._lock:
                changed, self._changed = self._changed, set()
                rows = {place: self._counts[place].numbers() for place in changed}
            try:
                minutes.write(self._process, rows)
            except BreakerUnavailable:
                with self._lock:
                    self._changed |= changed & self._counts.keys()
                raise
            self._forget_what_is_over()

    def _forget_what_is_over(self) -> None:
        oldest = int(self._clock()) // 60 - LATE_MINUTES
        with self._lock:
            for place in [place for place in self._counts if place.minute < oldest]:
                if place not in self._changed:
                    del self._counts[place]

    def _make_room(self) -> None:
        """Drop the oldest minute's counts once too many wait for Redis."""
        if len(self._counts) < PLACES_MAX:
            return
        oldest = min(place.minute for place in self._counts)
        for place in [place for place in self._counts if place.minute == oldest]:
            del self._counts[place]
            self._changed.discard(place)
        metrics.degraded("stats_dropped")


_tally = Tally()


def flush() -> None:
    """Write this process's counts now. Raises BreakerUnavailable."""
    _tally.flush()


def decided(kind: Kind, provider: str) -> None:
    """Count one call that begins on a provider."""
    _tally.add(kind, provider, _one_call)


def diverted(kind: Kind, provider: str) -> None:
    """Count one call that a provider did not get because it was out."""
    _tally.add(kind, provider, _one_diverted)


def seen(kind: Kind, outcome: Outcome, recorded: Recorded) -> None:
    """Count one outcome, if it was taken for the first time."""
    if recorded.status != Status.ACCEPTED:
        return
    if outcome.kind in FAILURE_KINDS:
        _tally.add(kind, outcome.provider, _one_failure)
    elif outcome.kind == OutcomeKind.STARTED:
        _tally.add(kind, outcome.provider, _one_call)
    elif outcome.kind == OutcomeKind.FIRST_TRANSCRIPT and outcome.latency_ms is not None:
        latency_ms = outcome.latency_ms
        _tally.add(kind, outcome.provider, lambda counts: counts.took(latency_ms))


def _one_call(counts: Counts) -> None:
    counts.calls += 1


def _one_failure(counts: Counts) -> None:
    counts.failures += 1


def _one_diverted(counts: Counts) -> None:
    counts.diverted += 1
