"""What a living pump has in hand stays its own, however long it takes.

Others take over what nobody has touched for a few seconds, so that a killed pump's work does not
wait. A thread touches it once a second while the pump works on it; one that hangs for longer than
`HOLD_MAX_S` is given up. It also says for whom a pump waits that hangs in the database.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from fallback import stream
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.stream import Entry, Waiting

BEAT_S: Final = 1.0
HOLD_MAX_S: Final = 60.0
SLOW_S: Final = 5.0  # a batch takes milliseconds: after this the database is what it waits for


class Heart:
    """Of one pump. Beats once `start` was called."""

    def __init__(self, consumer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._consumer, self._clock = consumer, clock
        self._lock = threading.Lock()
        self._held: tuple[Kind, list[str], float] | None = None
        self.has_said = False  # that the pump waits; the pump clears it when it does not any more

    def start(self, stop: threading.Event) -> None:
        """Beat from a thread of its own until `stop` is set."""
        threading.Thread(target=self._keep_beating, args=[stop], name="heart", daemon=True).start()

    @contextmanager
    def holding(self, kind: Kind, entries: Sequence[Entry]) -> Iterator[None]:
        """Keep these entries from being taken over while the block works on them."""
        with self._lock:
            self._held = (kind, [entry.id for entry in entries], self._clock())
        try:
            yield
        finally:
            with self._lock:
                self._held = None

    def beat(self) -> None:
        """Touch what is in hand. Raises BreakerUnavailable."""
        with self._lock:
            held = self._held
        if held is None:
            return
        kind, ids, since_s = held
        worked_s = self._clock() - since_s
        if worked_s <= HOLD_MAX_S:
            stream.hold(kind, self._consumer, ids)
        if worked_s > SLOW_S:
            since_ms = int((time.time() - worked_s) * 1000)
            why = f"no answer for {worked_s:.0f} s"
            stream.say_waiting(Waiting(self._consumer, "database", why, since_ms))
            self.has_said = True

    def _keep_beating(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_S):
            with suppress(BreakerUnavailable):  # the pump itself says so, and the next beat is soon
                self.beat()
