"""How fast one caller may ask: token buckets in the memory of this process.

No Redis turn and no database query: throttling must not add a way to fail to a decision. So the
rates hold per process, and a fleet of n web processes admits up to n times as much.
"""

import functools
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from django.conf import settings

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

    def take(self, caller: str, now_s: float) -> float:
        """Take one token and return 0, or return how many seconds there is none."""
        with self._lock:
            bucket = self._refilled(caller, now_s)
            if bucket.tokens < 1:
                return (1 - bucket.tokens) / self.rate_per_s
            bucket.tokens -= 1
            return 0.0

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


@functools.cache
def buckets(who: str) -> Buckets:
    """Return this process's buckets for a `caller` (a key) or a `stranger` (an address).

    `buckets.cache_clear()` starts anew with the rates of the settings.
    """
    rate_per_s, burst = settings.API_THROTTLE[who]
    return Buckets(rate_per_s, burst)


def wait_s(who: str, name: str) -> float:
    """Charge `name` for one request; return the seconds to wait before the next, 0 for none."""
    return buckets(who).take(name, time.monotonic())
