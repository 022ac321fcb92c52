"""The outcomes that wait to be sent: how many, for how long, and which go when they are too many.

Any thread may put one in: a call's verbs are said wherever the call is.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stt_guard.said import Said
from stt_guard.words import FAILURES

QUEUE_MAX: Final = 1_000
STALE_S: Final = 300.0  # what is older says nothing about now, and would count as if it did
SHED_FIRST: Final = ("call_end", "started", "recovered")  # what the fleet needs least


@dataclass(slots=True)
class Counts:
    """What became of outcomes. The first three are written under the queue's lock, the others by
    the one loop that sends."""

    queued: int = 0
    shed: int = 0  # the queue was full
    stale: int = 0  # older than STALE_S
    accepted: int = 0
    duplicate: int = 0
    invalid: int = 0  # the server says why in the log
    refused: int = 0  # dropped: by a 4xx that another try does not heal
    held: int = 0  # requests answered 401, 403 or 404: their outcomes wait
    retries: int = 0

    def add(self, others: "Counts") -> None:
        """Add others to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(others, name))


@dataclass(slots=True)
class Entry:
    """An outcome, and when it was seen (monotonic seconds): its age is told when it is sent."""

    body: dict[str, Any]
    seen_s: float


class Waiting:
    """A queue, oldest first, of QUEUE_MAX at most (and those that a failed request gave back)."""

    def __init__(
        self, counts: Counts, said: Said, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts, self._said, self._clock = counts, said, clock
        self._queue: deque[Entry] = deque()
        self._lock = threading.Lock()
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._queue)

    def put(self, body: dict[str, Any]) -> bool:
        """Queue an outcome; False when this queue is closed.

        A full one sheds what the fleet needs least, then the oldest.
        """
        with self._lock:
            if self._is_closed:
                return False
            self._make_room(body)
            self._queue.append(Entry(body, self._clock()))
            self._counts.queued += 1
        return True

    def adopt(self, entries: Iterable[Entry]) -> bool:
        """Take in what another queue could not send; False when this one is closed."""
        with self._lock:
            if self._is_closed:
                return False
            for entry in entries:
                self._make_room(entry.body)
                self._queue.append(entry)
        return True

    def take(self, most: int) -> list[Entry]:
        """Take out the oldest ones, without those that are stale."""
        taken: list[Entry] = []
        with self._lock:
            oldest_s = self._clock() - STALE_S
            while self._queue and len(taken) < most:
                entry = self._queue.popleft()
                if entry.seen_s >= oldest_s:
                    taken.append(entry)
                    continue
                self._counts.stale += 1
                self._said.warn("outcomes older than %d s are dropped", STALE_S)
        return taken

    def give_back(self, entries: list[Entry]) -> None:
        """Put back to the front what was taken and not delivered."""
        with self._lock:
            self._queue.extendleft(reversed(entries))

    def close(self) -> list[Entry]:
        """Return all that waits, and take in no more."""
        with self._lock:
            self._is_closed = True
            left = list(self._queue)
            self._queue.clear()
        return left

    def empty(self) -> list[Entry]:
        """Return all that waits."""
        with self._lock:
            left = list(self._queue)
            self._queue.clear()
        return left

    def _make_room(self, coming: Mapping[str, Any]) -> None:
        if len(self._queue) < QUEUE_MAX:
            return
        self._counts.shed += 1
        self._said.warn("the queue of outcomes is full (%d): some are dropped", QUEUE_MAX)
        for kind in SHED_FIRST:
            for entry in self._queue:
                if entry.body["kind"] == kind:
                    self._queue.remove(entry)
                    return
        if coming["kind"] in FAILURES:
            self._queue.popleft()
            return
        oldest = next((one for one in self._queue if one.body["kind"] not in FAILURES), None)
        self._queue.remove(oldest) if oldest else self._queue.popleft()
