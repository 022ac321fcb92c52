"""The one reader of the shared state in a process: a thread that tells what is new.

It waits on the event stream, so that a transition is told at once, and looks at the status at
least every `LOOK_S`, so that what makes no event (a count, a lease, a policy) is told as well, and
so is everything that it missed while Redis was away.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from django.db import connections

from fallback import catalog, metrics, status, stream
from fallback.domain import Event, Kind
from fallback.errors import BreakerUnavailable
from fallback.status import Status

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.25
GAP_S: Final = 0.05  # between two messages: a burst becomes one
EVENTS_AT_ONCE: Final = 100  # of one kind, in one message


class Reader(threading.Thread):
    """Calls `tell(now, events)` from its own thread with each look, also when nothing is new."""

    def __init__(self, tell: Callable[[Status, Sequence[Event]], None]) -> None:
        super().__init__(name="feed", daemon=True)
        self._tell = tell
        self._over = threading.Event()
        self._after: dict[Kind, str] = {}
        self._etag = ""

    def stop(self) -> None:
        """End after the look that is under way."""
        self._over.set()

    def run(self) -> None:
        """Look until stopped. A look that fails is logged, and the next one comes all the same."""
        try:
            while not self._over.is_set():
                try:
                    self._look()
                except Exception:  # a feed that ends unseen would show old truth for ever
                    metrics.degraded("feed")
                    log.exception("feed_look_failed")
                    self._over.wait(1.0)
        finally:
            connections.close_all()

    def _look(self) -> None:
        events = self._wait()
        now = status.current()
        if now.etag != self._etag:  # what moved it was written with it: tell both together
            late = self._read_all(block_ms=0)
            if late:  # written after that look
                events += late
                now = status.current()
        self._etag = now.etag
        self._tell(now, events)
        connections.close_all()  # the numbers of incidents come from the database
        if events:
            self._over.wait(GAP_S)

    def _wait(self) -> list[Event]:
        """Return what was written since the last look, waiting for `LOOK_S` at most."""
        events = self._read_all(block_ms=int(LOOK_S * 1000))
        if events is None:
            self._over.wait(LOOK_S)
        return events or []

    def _read_all(self, *, block_ms: int) -> list[Event] | None:
        """Return every kind's news, waiting for `stt` alone; None when Redis does not answer."""
        try:
            kinds = {kind for kind, _ in catalog.current().providers} - {Kind.STT}
            events = [event for kind in sorted(kinds) for event in self._read(kind, 0)]
            return events + self._read(Kind.STT, 0 if events else block_ms)
        except BreakerUnavailable as error:
            log.debug("feed_without_events", error=str(error))
            return None

    def _read(self, kind: Kind, block_ms: int) -> list[Event]:
        """Return one stream's news. What it does not know the end of, it begins to follow."""
        if kind not in self._after:
            self._after[kind] = stream.newest(kind)
            return []
        entries = stream.follow(kind, self._after[kind], count=EVENTS_AT_ONCE, block_ms=block_ms)
        if entries:
            self._after[kind] = entries[-1].id
        return [entry.event for entry in entries if entry.event]
