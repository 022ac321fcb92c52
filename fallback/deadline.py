"""How long the one who asks still waits: one moment for all that a thread does for one request.

Whoever takes a request sets it, and every wait on its way to Redis ends with it, however many
waits there are. A thread that works for nobody has none.
"""

import threading
import time
from math import inf
from typing import Final

# A decision may take 300 ms in all. Beyond this much, from the moment its request is here, it waits
# for nobody: the rest is for work, and for the way back.
CALL_S: Final = 0.2

_thread = threading.local()


class within:  # noqa: N801 - read as a word: `with within(0.2):`
    """Let all waits of this thread in the block end `seconds` after it began, or after `since` (of
    `time.monotonic()`), if the request came before. An earlier deadline stands."""

    __slots__ = ("_before", "_until_s")

    def __init__(self, seconds: float, *, since: float | None = None) -> None:
        self._until_s = (time.monotonic() if since is None else since) + seconds
        self._before = inf

    def __enter__(self) -> None:
        self._before = getattr(_thread, "until_s", inf)
        _thread.until_s = min(self._before, self._until_s)

    def __exit__(self, *_: object) -> None:
        _thread.until_s = self._before


def left_s() -> float:
    """Return for how many seconds this thread may still wait; below zero: its time is over."""
    until_s: float = getattr(_thread, "until_s", inf)
    return until_s - time.monotonic()
