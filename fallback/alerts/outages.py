"""Slack away, as one sender sees it: for a destination, not for each of its threads.

After a failure the whole destination is left alone for a moment, then one message tries it again,
every few seconds, however long it lasts: what waited starts within that time of Slack's return. A
message that fails while others are taken is in trouble by itself, waits longer each time, and
holds up nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

PROBE_S: Final = 4.0  # between two messages that try whether Slack is back
ALONE_MAX_S: Final = 300.0
REMEMBERED_MAX: Final = 1000  # failing threads of one destination


@dataclass(slots=True)
class _Destination:
    failures: int = 0  # in a row
    until: datetime | None = None  # left alone
    is_silent: bool = False  # it does not even answer a look
    taken: int = 0  # messages, ever
    failing: dict[int, int] = field(default_factory=dict)  # thread -> `taken` at its first failure


class Outages:
    """What one sender knows of its destinations. Another knows for itself."""

    def __init__(self, now: Callable[[], datetime], *, first_s: float) -> None:
        self._now, self._first_s = now, first_s
        self._destinations: dict[int, _Destination] = {}

    def failed(self, destination: int, thread: int, *, attempts: int, looking: bool) -> float:
        """Note that Slack was away or unclear; return for how many seconds the thread waits."""
        of = self._of(destination)
        if thread not in of.failing and len(of.failing) >= REMEMBERED_MAX:
            of.failing.clear()
        if of.taken > of.failing.setdefault(thread, of.taken):
            return min(ALONE_MAX_S, self._first_s * 2.0 ** min(attempts, 12))
        wait_s = min(PROBE_S, self._first_s * 2.0 ** min(of.failures, 12))
        of.failures += 1
        of.is_silent = looking
        of.until = self._now() + timedelta(seconds=wait_s)
        return wait_s

    def answered(self, destination: int, thread: int) -> bool:
        """Note that Slack did as it was asked, or refused; return whether an outage ended."""
        of = self._of(destination)
        was_away = of.failures > 0
        of.failures, of.until, of.is_silent = 0, None, False
        of.taken += 1
        of.failing.pop(thread, None)
        return was_away

    def may_post(self, destination: int) -> bool:
        """Whether to send something now; while Slack is away, one at a time tries it."""
        of = self._of(destination)
        if of.until is None:
            return True
        if of.until > self._now():
            return False
        of.until = self._now() + timedelta(seconds=PROBE_S)
        return True

    def away(self) -> list[int]:
        """Return the destinations where the last attempt failed."""
        return [pk for pk, of in self._destinations.items() if of.failures]

    def is_left_alone(self, destination: int, *, to_look: bool) -> bool:
        """Whether nothing is to be done there now. A look at what became of a message is, unless
        looks fail too."""
        of = self._of(destination)
        is_held = of.until is not None and of.until > self._now()
        return is_held and (of.is_silent or not to_look)

    def next_try(self, destination: int) -> datetime:
        """Return when the next message may try it."""
        return self._of(destination).until or self._now()

    def _of(self, destination: int) -> _Destination:
        return self._destinations.setdefault(destination, _Destination())
