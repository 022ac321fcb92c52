"""Gathering in this process: what the breakers were just told, a lock and an append.

Every two seconds a thread writes it to Redis as one part of its slot (`slots`).
"""

import secrets
import threading
from typing import Final

from fallback import metrics
from fallback.domain import (
    FAILURE_KINDS,
    Asked,
    Effect,
    Given,
    Kind,
    Mode,
    Outcome,
    OutcomeKind,
    Recorded,
    Route,
    Status,
    Verdict,
    Walk,
)
from fallback.errors import BreakerUnavailable
from fallback.flushing import Flusher
from fallback.past import slots
from fallback.past.sightings import (
    Failure,
    Flag,
    Reporter,
    Sighting,
    Slot,
    What,
    call_number,
    slot_start,
)
from fallback.past.slots import Place

FLUSH_S: Final = 2.0
ROOM: Final = 20_000  # sightings that wait for Redis, about 200 bytes each

# Plain numbers: an IntFlag costs a microsecond each time it is joined with another.
_TAKEN, _MAY_PROBE = int(Flag.TAKEN), int(Flag.MAY_PROBE)
_PROBE, _LAST_RESORT = int(Flag.PROBE), int(Flag.LAST_RESORT)
_ENDS = {Effect.PROBE_RELEASED: What.RELEASED}


class Recorder:
    """What one process saw and has not written yet. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._slots: dict[Place, Slot] = {}
        self._waiting: dict[str, tuple[Place, Slot]] = {}  # parts by name, to be written again
        self._count = 0
        self._process = secrets.token_hex(4)
        self._sequence = 0
        self._flusher = Flusher("past", self.flush, FLUSH_S)

    def add(
        self,
        kind: Kind,
        provider: str,
        sighting: Sighting,
        reporter: Reporter,
        failure: Failure | None = None,
    ) -> None:
        """Keep one sighting; without room it is dropped, counted with its slot, and told."""
        place = Place(kind, slot_start(sighting.at_ms), provider)
        with self._lock:
            slot = self._slots.get(place)
            if slot is None:
                slot = self._slots[place] = Slot(place.start_ms)
            has_room = self._count < ROOM
            if has_room:
                self._count += 1
                slot.add(sighting, reporter, failure)
            else:
                slot.dropped += 1
        if not has_room:
            metrics.degraded("past_dropped")
        self._flusher.start()

    def flush(self) -> None:
        """Write what waits. Raises BreakerUnavailable; then it is written the next time."""
        with self._flushing:
            with self._lock:
                taken, self._slots = self._slots, {}
            for place, slot in taken.items():
                self._sequence += 1
                self._waiting[f"{self._process}.{self._sequence}"] = place, slot
            slots.write(self._waiting)
            written = sum(len(slot) for _, slot in self._waiting.values())
            self._waiting = {}
            with self._lock:
                self._count -= written


_recorder = Recorder()


def flush() -> None:
    """Write what this process saw now. Raises BreakerUnavailable."""
    _recorder.flush()


def flush_quietly() -> bool:
    """The same for a reader, who takes what there is: False when Redis is away."""
    try:
        _recorder.flush()
    except BreakerUnavailable:
        return False
    return True


def decided(kind: Kind, asked: Asked, walk: Walk) -> None:
    """Keep whom a call wanted: each step that was looked at before one was found.

    A call that stays where it is, and one that bypasses the breakers, asks none of them.
    """
    if walk.given in {Given.STICKY, Given.BYPASS} or _holds_its_lease(walk):
        return
    is_last_resort = walk.given == Given.LAST_RESORT
    wanted = walk.findings if is_last_resort else walk.findings[: walk.chosen + 1]
    call = call_number(asked.call_id)
    for index, finding in enumerate(wanted):
        if finding.verdict == Verdict.FAILED_IN_CALL:
            continue
        flags = _MAY_PROBE if asked.may_probe else 0
        if index == walk.chosen:
            flags |= _TAKEN
            flags |= _PROBE if walk.given == Given.PROBE else 0
            flags |= _LAST_RESORT if is_last_resort else 0
        sighting = Sighting(walk.now_ms, call, 0, 0, 0, What.ASKED, flags)
        _recorder.add(kind, finding.provider, sighting, Reporter(asked.host))


def _holds_its_lease(walk: Walk) -> bool:
    """Whether the lease was given to this call before."""
    lease = walk.findings[walk.chosen].breaker.leases.get(walk.lease)
    return lease is not None and lease.at_ms < walk.now_ms


def seen(kind: Kind, outcome: Outcome, route: Route | None, recorded: Recorded) -> None:
    """Keep an outcome that the breakers took."""
    if recorded.status != Status.ACCEPTED:
        return
    call = call_number(outcome.call_id)
    if outcome.kind == OutcomeKind.STARTED:
        _started(kind, outcome, route, recorded, call)
        return
    failure = None
    what, value, flags = _ENDS.get(recorded.effect), 0, 0
    if outcome.kind == OutcomeKind.FIRST_TRANSCRIPT:
        what, value = What.HEARD, outcome.latency_ms or 0
        flags = _PROBE if outcome.lease else 0
    elif outcome.kind in FAILURE_KINDS:
        what = What.FAILED
        retry_after_ms = round((outcome.retry_after_s or 0) * 1000)
        failure = Failure(outcome.reason, outcome.call_id, retry_after_ms, outcome.kind)
    if what is not None:
        sighting = Sighting(recorded.now_ms, call, value, outcome.age_ms, 0, what, flags)
        _recorder.add(kind, outcome.provider, sighting, _reporter(outcome), failure)


def _reporter(outcome: Outcome) -> Reporter:
    return Reporter(outcome.host, outcome.key)


def _started(
    kind: Kind, outcome: Outcome, route: Route | None, recorded: Recorded, call: int
) -> None:
    """An agent decided alone: it wanted every step before the one it took."""
    steps = [step.provider.slug for step in route.steps] if route else []
    is_diverted = outcome.mode == Mode.FALLBACK and outcome.provider in steps
    before = steps[: steps.index(outcome.provider)] if is_diverted else []
    for provider in [*before, outcome.provider]:
        flags = _TAKEN if provider == outcome.provider else 0
        sighting = Sighting(recorded.now_ms, call, 0, outcome.age_ms, 0, What.STARTED, flags)
        _recorder.add(kind, provider, sighting, _reporter(outcome))
