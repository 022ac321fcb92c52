"""What the log was told, so that it is told again only after a while.

A control plane that is away for an hour must not fill a log, nor go unmentioned.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 60.0
ONCE: Final = float("inf")


log = logging.getLogger("stt_guard")


class Said:
    """Warns: each text once in `every_s` seconds, whatever its values are.

    A guard has one for all its parts: they come and go with its jobs.
    """

    def __init__(
        self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s, self._clock = every_s, clock
        self._told_s: dict[str, float] = {}  # by text: as many as the code has

    def warn(self, text: str, *values: object) -> None:
        """Log a warning, unless the same text was logged a moment ago."""
        now_s = self._clock()
        if now_s - self._told_s.get(text, float("-inf")) >= self._every_s:
            self._told_s[text] = now_s
            log.warning(text, *values)


def advice(status: int) -> str:
    """Say what to do about a status that the control plane answers; empty when to wait is all."""
    if status in {401, 403}:
        return "; is the key right (STT_GUARD_KEY), and is its role `agent`?"
    if status == 404:
        return "; is the address right (STT_GUARD_URL)?"
    return ""
