"""A pump's hold on the entries that it works on; and whom it waits for, when it hangs."""

import time
from collections.abc import Callable
from typing import Final

from fallback import stream
from fallback.domain import Kind
from fallback.holding import Heart
from fallback.stream import Waiting

SLOW_S: Final = 5.0  # a batch takes milliseconds: after this the database is what it waits for


class PumpHeart(Heart[tuple[Kind, list[str]]]):
    """Keeps the entries in hand from being taken over, and says that they take long."""

    def __init__(self, consumer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._consumer = consumer
        self.has_said = False  # that the pump waits; the pump clears it when it does not any more

    def _renew(self, work: tuple[Kind, list[str]]) -> None:
        kind, ids = work
        stream.hold(kind, self._consumer, ids)

    def _note_duration(self, worked_s: float) -> None:
        if worked_s > SLOW_S:
            since_ms = int((time.time() - worked_s) * 1000)
            why = f"no answer for {worked_s:.0f} s"
            stream.say_waiting(Waiting(self._consumer, "database", why, since_ms))
            self.has_said = True
