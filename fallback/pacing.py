"""How often a thing may be done: not again so soon, by subject, within one process."""

import threading
import time
from collections.abc import Callable


class NotAgainWithin:
    """Whether something was not done within the last so many seconds; bounded, safe for threads.

    Past `most` subjects all are forgotten: then something is done once too often.
    """

    def __init__(
        self, seconds: float, most: int = 1000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._done: dict[str, float] = {}
        self._lock = threading.Lock()

    def is_due(self, subject: str = "") -> bool:
        """Say whether it may be done now; if so it counts as done."""
        with self._lock:
            now = self._clock()
            if now - self._done.get(subject, float("-inf")) < self._seconds:
                return False
            if len(self._done) >= self._most:
                self._done.clear()
            self._done[subject] = now
            return True
