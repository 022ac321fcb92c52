"""A link that comes and goes. Pure: every time is passed in, in seconds of a monotonic clock."""

from collections import deque
from typing import Final

from stt_guard.failover.limits import Limits

# Connections in a row that died young and wrote nothing: the next one will not do better. The
# same count and age at which Pipecat's own services give up.
DEAD_ON_ARRIVAL: Final = 3
YOUNG_S: Final = 5.0


class Drops:
    """The drops of one provider in one call."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._times: deque[float] = deque(maxlen=max(1, limits.drops))
        self._up_s: float | None = None
        self._has_written = True
        self._dead_on_arrival = 0

    def up(self, now_s: float) -> None:
        """It is connected."""
        self._up_s, self._has_written = now_s, False

    def wrote(self) -> None:
        """It wrote something: this connection is a real one."""
        self._has_written = True
        self._dead_on_arrival = 0

    def add(self, now_s: float, *, is_routine: bool = False, has_given_up: bool = False) -> bool:
        """Count a drop; True when they are a failure by now.

        `is_routine` is one that the provider announces and asks for (Soniox rotates its sessions).
        `has_given_up`: the framework's service tried by itself, and will not again. Both count only
        where the connection wrote nothing.
        """
        is_young = self._up_s is not None and now_s - self._up_s < YOUNG_S
        if not self._has_written and is_young:
            self._dead_on_arrival += 1
        if not (is_routine and self._has_written):
            self._times.append(now_s)
        is_full = len(self._times) == self._times.maxlen
        is_flapping = is_full and now_s - self._times[0] <= self._limits.drops_within_s
        is_dead = self._dead_on_arrival >= DEAD_ON_ARRIVAL
        return is_flapping or is_dead or (has_given_up and not self._has_written)

    def forget(self) -> None:
        """Count anew: it was left, and is tried again."""
        self._times.clear()
        self._up_s, self._has_written, self._dead_on_arrival = None, True, 0
