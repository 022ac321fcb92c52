"""Finds a provider that connects when the active one is lost; slow ones are tried side by side."""

import asyncio
import random
from typing import Final

from stt_guard.failover.legs import Leg
from stt_guard.failover.stage import Stage
from stt_guard.words import INIT_FAILURE, MID_CALL_FAILURE, Seen

PAUSE_FIRST_S: Final = 0.25
PAUSE_S: Final = 0.5  # the longest between two tries while the caller waits
PAUSE_LATER_S: Final = 4.0  # and once nobody could be had for long
PATIENCE: Final = 3  # an attempt may take this many times `connect_s` while others are tried


class Search:
    """The attempts under way. Close it when it is over."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._attempts: dict[asyncio.Task[Seen | None], Leg] = {}
        self.has_tried_all = False

    async def step(self, *, is_late: bool = False) -> Leg | None:
        """Try one more, or wait a moment; return a leg that is connected, if one is by then.

        Takes `connect_s` at most: an attempt that is slower goes on beside the next. `is_late`:
        after a long search the pauses are longer.
        """
        busy = set(self._attempts.values())
        leg = self._stage.best(one for one in self._stage.legs if one not in busy)
        if leg is None or leg.tries:
            self.has_tried_all = True
            if found := await self._connected_within(_pause_s(leg, is_late)):
                return found
        if leg is None:
            return None
        attempt = self._begin(leg)
        found = await self._connected_within(self._stage.limits.connect_s)
        if attempt in self._attempts:  # it may still come, but was not there in time
            self._report(leg, Seen("timeout"))
        return found

    def close(self) -> None:
        """Give up what is under way."""
        for attempt in self._attempts:
            attempt.cancel()
        self._attempts.clear()

    def _begin(self, leg: Leg) -> asyncio.Task[Seen | None]:
        leg.tries += 1
        limit_s = self._stage.limits.connect_s * PATIENCE
        attempt = asyncio.ensure_future(leg.connect(limit_s))
        self._attempts[attempt] = leg
        return attempt

    async def _connected_within(self, limit_s: float) -> Leg | None:
        """Wait for the first attempt that is done; report those that failed."""
        if not self._attempts:
            await asyncio.sleep(limit_s)
            return None
        done, _ = await asyncio.wait(
            self._attempts, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        found = None
        for attempt in done:
            leg = self._attempts.pop(attempt)
            error = attempt.result()
            if error:
                self._report(leg, error)
            else:
                found = leg
        return found

    def _report(self, leg: Leg, seen: Seen) -> None:
        self._stage.report(leg, seen, MID_CALL_FAILURE if leg.was_up else INIT_FAILURE)


def _pause_s(leg: Leg | None, is_late: bool) -> float:
    longest_s = PAUSE_LATER_S if is_late else PAUSE_S
    pause_s = PAUSE_FIRST_S * 2.0 ** min(leg.tries - 1, 10) if leg else longest_s
    return min(pause_s, longest_s) * random.uniform(0.8, 1.2)
