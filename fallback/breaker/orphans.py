"""Leases that nobody holds: of decisions that Redis made and whose answers came too late.

Each would take up a probe's place until it ends, and a slow Redis takes all of them at once. So
what may have been leased is taken back as soon as Redis answers again, off the path of decisions.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from fallback.domain import Kind
from fallback.errors import BreakerUnavailable

MOST: Final = 256  # beyond it the oldest are left to end by themselves


class Orphan(NamedTuple):
    """A decision that nobody heard: its lease, if there was one, has the token of its request."""

    kind: Kind
    lease: str
    providers: tuple[str, ...]


class Orphans:
    """What is still to be taken back. Safe for threads."""

    def __init__(self, release: Callable[[Orphan], object]) -> None:
        self._release = release
        self._waiting: deque[Orphan] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, orphan: Orphan) -> None:
        """Remember one."""
        self._waiting.append(orphan)

    def release(self) -> None:
        """Take back all, or as many as Redis answers for; the rest waits. Never raises."""
        while self._waiting:
            orphan = self._waiting.popleft()
            try:
                self._release(orphan)
            except BreakerUnavailable:
                self._waiting.append(orphan)
                return
