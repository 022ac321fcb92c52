"""The way to Redis: how long anybody waits for it, and when nobody waits any more."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from fallback.errors import BreakerUnavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

MISSES = 3  # in a row, before nobody waits for Redis any more
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 2.0  # between one caller's looks while it is away


class Link:
    """Lets calls through to Redis, and answers for it at once while it is away.

    Each call is bounded by the client's own timeouts (well under 300 ms). After a few misses in a
    row callers are refused without waiting, but one at a time that looks whether it is back.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._forget = forget  # the connections: the master may be another server now
        self._lock = threading.Lock()
        self._misses = 0
        self._pause_s = FIRST_PAUSE_S
        self._look_again_at = 0.0

    @property
    def is_down(self) -> bool:
        """Whether callers are refused without waiting."""
        return self._misses >= MISSES

    def ask(self, call: Callable[[], T]) -> T:
        """Return what `call` gets from Redis. Raises BreakerUnavailable when it does not answer, or
        refuses (read-only replica, out of memory, damaged key)."""
        if not self._may_ask():
            raise BreakerUnavailable("Redis did not answer a moment ago")
        try:
            answer = call()
        except NoScriptError:  # an answer, of a server that has just started: send it the text
            self._answered()
            raise
        except ResponseError as refusal:
            self._answered()
            # Redis 6.2 has the code only in the text when a script is refused.
            if isinstance(refusal, ReadOnlyError) or "READONLY" in str(refusal):
                self._forget()
            log.warning("redis_refused", error=str(refusal)[:200])
            raise BreakerUnavailable(f"Redis refused: {str(refusal)[:200]}") from refusal
        except (RedisError, OSError) as miss:
            self._missed(miss)
            raise BreakerUnavailable("Redis did not answer in time") from miss
        self._answered()
        return answer

    def _may_ask(self) -> bool:
        if not self.is_down:
            return True
        with self._lock:
            if self._clock() < self._look_again_at:
                return False
            self._look_again_at = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return True

    def _missed(self, miss: Exception) -> None:
        with self._lock:
            self._misses += 1
            if self._misses != MISSES:
                return
            self._look_again_at = self._clock() + self._pause_s
        log.error("redis_away", error=type(miss).__name__)

    def _answered(self) -> None:
        if self._misses == 0:
            return
        with self._lock:
            was_down, self._misses, self._pause_s = self.is_down, 0, FIRST_PAUSE_S
        if was_down:
            log.info("redis_back")
