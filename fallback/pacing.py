"""How often a thing may be done, by subject, within one process: not again so soon, or so many at
once and so many a second."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


class Lately:
    """What happened `times` or more within some seconds, by subject; bounded, safe for threads.

    The seconds are counted from the first time. Past `most` subjects all are forgotten.
    """

    def __init__(
        self,
        seconds: float,
        *,
        times: int = 1,
        most: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._times, self._most, self._clock = seconds, times, most, clock
        self._noted: dict[str, tuple[float, int]] = {}  # since when, how often
        self._lock = threading.Lock()

    def has(self, subject: str) -> bool:
        """Say whether it was noted so often within the time."""
        return self._known(subject)[1] >= self._times

    def note(self, subject: str) -> None:
        """Note that it happened now."""
        with self._lock:
            if len(self._noted) >= self._most:
                self._noted.clear()
            since, count = self._known(subject)
            self._noted[subject] = since, count + 1

    def _known(self, subject: str) -> tuple[float, int]:
        now = self._clock()
        since, count = self._noted.get(subject, (now, 0))
        return (since, count) if now - since < self._seconds else (now, 0)

    def forget(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._noted.clear()


class NotAgainWithin:
    """Whether something was not done within the last so many seconds; bounded, safe for threads.

    Past `most` subjects all are forgotten: then something is done once too often.
    """

    def __init__(
        self, seconds: float, most: int = 1000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._done = Lately(seconds, most=most, clock=clock)
        self._lock = threading.Lock()

    def is_due(self, subject: str = "") -> bool:
        """Say whether it may be done now; if so it counts as done."""
        with self._lock:
            if self._done.has(subject):
                return False
            self._done.note(subject)
            return True

    def forget(self) -> None:
        """Begin anew; for tests."""
        self._done.forget()


MAX_CALLERS: Final = 10_000  # the least recently seen is forgotten first; about 200 bytes each


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Buckets:
    """One bucket per caller: `burst` requests at once, refilled with `rate_per_s`."""

    def __init__(self, rate_per_s: float, burst: float, max_callers: int = MAX_CALLERS) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.max_callers = max_callers
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str, now_s: float, tokens: float = 1) -> float:
        """Take tokens and return 0, or return how many seconds there are too few. What is worth
        more than a whole bucket takes a full one."""
        with self._lock:
            tokens = min(tokens, self.burst)
            bucket = self._refilled(caller, now_s)
            if bucket.tokens < tokens:
                return (tokens - bucket.tokens) / self.rate_per_s
            bucket.tokens -= tokens
            return 0.0

    def has(self, caller: str, now_s: float) -> bool:
        """Say whether there is anything in the bucket."""
        with self._lock:
            return self._refilled(caller, now_s).tokens > 0

    def spend(self, caller: str, now_s: float, tokens: float) -> None:
        """Take tokens that may be more than there are: then there is nothing until they are made
        up for."""
        with self._lock:
            self._refilled(caller, now_s).tokens -= tokens

    def _refilled(self, caller: str, now_s: float) -> _Bucket:
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self.burst, now_s)
            if len(self._buckets) > self.max_callers:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        refill = max(0.0, now_s - bucket.at_s) * self.rate_per_s
        bucket.tokens, bucket.at_s = min(self.burst, bucket.tokens + refill), now_s
        return bucket
