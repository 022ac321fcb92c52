"""The way to Redis: how long anybody waits for it, when nobody waits any more, and whose answers
are not believed."""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from fallback import deadline
from fallback.breaker.master import is_dethroned
from fallback.breaker.watch import Trust
from fallback.errors import BreakerUnavailable

log = structlog.get_logger(__name__)
T = TypeVar("T")

# A decision may take 300 ms in all. This much of it waits for Redis; with less than half of it left
# nobody asks, since a miss would say nothing of Redis.
ANSWER_S: Final = 0.18

MISSES = 3  # in a row, before nobody waits for Redis any more
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 2.0  # between one caller's looks while it is away

# For whoever asked: what it means, and nothing of how it is made. The log has Redis's own words.
REFUSED: Final = "Redis refused the write; the control plane's log says why."
NO_MASTER: Final = "Redis refused the write: this server is not the master, or lacks its replicas."
FULL: Final = "Redis refused the write: it is out of memory."


class Link:
    """Lets calls through to Redis, and answers for it at once while it is away.

    Each call is bounded as a whole (well under 300 ms). After a few misses in a row callers are
    refused without waiting, but one at a time that looks whether it is back.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        forget: Callable[[], None] = lambda: None,
        watch: Trust | None = None,
    ) -> None:
        self._clock = clock
        self._forget = forget  # the connections: the master may be another server now
        self._watch = watch or Trust()
        self._lock = threading.Lock()
        self._misses = 0
        self._pause_s = FIRST_PAUSE_S
        self._look_again_at = 0.0
        self._generation = 0

    @property
    def is_down(self) -> bool:
        """Whether callers are refused without waiting."""
        return self._misses >= MISSES

    def ask(self, call: Callable[[], T], *, within_s: float | None = None) -> T:
        """Return what `call` gets from Redis, within `ANSWER_S` or the thread's deadline. Raises
        BreakerUnavailable when it does not answer, or refuses (replica, out of memory, damage)."""
        self._watch.asked()
        if deadline.left_s() < ANSWER_S / 2:
            raise BreakerUnavailable("The time for this answer was used up before Redis was asked.")
        generation = self._watch.generation
        if not self._may_ask(generation):
            raise BreakerUnavailable("Redis did not answer a moment ago.")
        try:
            with deadline.within(within_s or ANSWER_S):
                answer = call()
        except NoScriptError:  # an answer, of a server that has just started: send it the text
            self._answered()
            raise
        except (ClusterDownError, TryAgainError) as miss:  # a Cluster that is moving house
            raise self._missed(miss) from miss
        except ResponseError as refusal:
            self._answered()
            raise self.refused(refusal) from refusal
        except (RedisError, RedisClusterException, OSError) as miss:
            raise self._missed(miss) from miss
        self._answered()
        if generation != self._watch.generation:
            raise BreakerUnavailable("Another server became Redis's master meanwhile.")
        return answer

    def refused(self, refusal: Exception) -> BreakerUnavailable:
        """Return what a refusal means to whoever asked, in plain words, and log Redis's own.

        One that says that another server is the master drops the connections.
        """
        log.warning("redis_refused", error=str(refusal)[:200])
        if self._is_from_elsewhere(refusal):
            return BreakerUnavailable(NO_MASTER)
        is_full = isinstance(refusal, OutOfMemoryError) or "OOM " in str(refusal)
        return BreakerUnavailable(FULL if is_full else REFUSED)

    def _may_ask(self, generation: int) -> bool:
        if not self.is_down:
            return True
        with self._lock:
            if generation != self._generation:  # of the one before nothing follows for this one
                self._generation, self._look_again_at = generation, self._clock()
                self._pause_s = FIRST_PAUSE_S
            if self._clock() < self._look_again_at:
                return False
            self._look_again_at = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return True

    def _is_from_elsewhere(self, error: Exception) -> bool:
        """Whether another server should be asked; then the next call looks up which."""
        if not is_dethroned(error):
            return False
        self._forget()
        self._watch.doubt()
        return True

    def _missed(self, miss: Exception) -> BreakerUnavailable:
        self._is_from_elsewhere(miss)
        with self._lock:
            self._misses += 1
            is_lost = self._misses == MISSES
            if is_lost:
                self._look_again_at = self._clock() + self._pause_s
        if is_lost:
            log.error("redis_away", error=type(miss).__name__)
        return BreakerUnavailable("Redis did not answer in time.", may_be_done=True)

    def _answered(self) -> None:
        if self._misses == 0:
            return
        with self._lock:
            was_down, self._misses, self._pause_s = self.is_down, 0, FIRST_PAUSE_S
        if was_down:
            log.info("redis_back")
