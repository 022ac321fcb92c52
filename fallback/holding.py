"""What a living worker has in hand stays its own, however long it takes.

Others take over what nobody renewed for a few seconds, so that a killed worker's work does not
wait. A thread renews it once a second while the worker is at it; work that hangs for longer than
`HOLD_MAX_S` is given up.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import connections

from fallback.errors import BreakerUnavailable

BEAT_S: Final = 1.0
HOLD_MAX_S: Final = 60.0

Work = TypeVar("Work")
log = structlog.get_logger(__name__)


class Heart(Generic[Work]):
    """Of one worker, which has one piece of work in hand. Beats once `start` was called."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[Work, float] | None = None

    def start(self, stop: threading.Event) -> None:
        """Beat from a thread of its own until `stop` is set."""
        threading.Thread(target=self._keep_beating, args=[stop], name="heart", daemon=True).start()

    @contextmanager
    def holding(self, work: Work) -> Iterator[None]:
        """Keep others from taking this over while the block is at it."""
        with self._lock:
            self._held = (work, self._clock())
        try:
            yield
        finally:
            with self._lock:
                self._held = None

    def beat(self) -> None:
        """Renew what is in hand. Raises BreakerUnavailable or what the database raises."""
        with self._lock:
            held = self._held
        if held is None:
            return
        work, since_s = held
        worked_s = self._clock() - since_s
        if worked_s <= HOLD_MAX_S:
            self._renew(work)
        self._note_duration(worked_s)

    def _renew(self, work: Work) -> None:
        raise NotImplementedError

    def _note_duration(self, worked_s: float) -> None:
        """Hear for how long the work in hand has been going on."""

    def _keep_beating(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(BEAT_S):
                try:
                    self.beat()
                except (BreakerUnavailable, DatabaseError) as error:  # the next beat is soon
                    log.debug("not_renewed", error=str(error)[:200])
                    connections.close_all()
        finally:
            connections.close_all()
