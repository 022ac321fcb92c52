"""How fast one caller may ask: token buckets in the memory of this process.

No Redis turn and no database query: throttling must not add a way to fail to a decision. So the
rates hold per process, and a fleet of n web processes admits up to n times as much.
"""

import functools
import time

from django.conf import settings

from fallback.pacing import Buckets


@functools.cache
def buckets(who: str) -> Buckets:
    """Return this process's buckets for a `caller` (a key) or a `stranger` (an address).

    `buckets.cache_clear()` starts anew with the rates of the settings.
    """
    rate_per_s, burst = settings.API_THROTTLE[who]
    return Buckets(rate_per_s, burst)


def wait_s(who: str, name: str, requests: float = 1) -> float:
    """Charge `name` for one request, or for what is worth several; return the seconds to wait
    before the next, 0 for none."""
    return buckets(who).take(name, time.monotonic(), requests)
