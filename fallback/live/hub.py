"""Who listens to the feed in this process, and how they are written to.

Nobody waits for anybody: what a client's socket takes at once costs no task and no queue. One that
does not take it is left alone until it does, and then gets a snapshot in place of all it missed;
one that takes nothing for `SLOW_S` is dropped.
"""

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog

from controlplane.descriptors import room
from fallback import metrics
from fallback.domain import Event
from fallback.live import frames
from fallback.live.places import Places
from fallback.live.reader import Reader
from fallback.status import Status

log = structlog.get_logger(__name__)

BEAT_S: Final = 4.0  # the contract says: at least every 5 s
SLOW_S: Final = 10.0
RECHECK_S: Final = 60.0  # a key switched off, or a person signed out, listens this long at most

Send = Callable[[dict[str, Any]], Coroutine[Any, Any, None]]


@dataclass(eq=False, slots=True)
class Client:
    """One socket. `drop` ends it; `recheck` says now and then whether it may still listen."""

    send: Send
    drop: Callable[[], None]
    recheck: Callable[[], Awaitable[bool]]
    writing: asyncio.Task[None] | None = field(default=None, init=False)
    since_s: float = field(default=0.0, init=False)
    is_behind: bool = field(default=False, init=False)
    checked_s: float = field(default=0.0, init=False)


class Hub:
    """The clients of one event loop. The reader runs while there are any."""

    def __init__(self, *, beat_s: float = BEAT_S, slow_s: float = SLOW_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._beat_s, self._slow_s = beat_s, slow_s
        self.places = Places(room())
        self._clients: set[Client] = set()
        self._now: Status | None = None
        self._snapshot: tuple[Status, dict[str, Any]] | None = None
        self._reader: Reader | None = None
        self._beats: asyncio.Task[None] | None = None
        self._rechecks: set[asyncio.Task[None]] = set()

    def join(self, client: Client) -> None:
        """Write to this client from now on, a snapshot first."""
        client.checked_s = self._loop.time()
        self._clients.add(client)
        metrics.feed_clients.inc()
        if self._reader is None:
            self._start()
        self.resync(client)

    def leave(self, client: Client) -> None:
        """Write to this client no more. May be called twice."""
        if client in self._clients:
            self._clients.remove(client)
            metrics.feed_clients.dec()
            if client.writing:
                client.writing.cancel()

    def resync(self, client: Client) -> None:
        """Write the whole of it to one client; before the first look, that look will."""
        if self._now is not None and client in self._clients:
            self._hand(client, self._whole(self._now))

    def spread(self, now: Status, events: Sequence[Event]) -> None:
        """Write what is new to everybody."""
        before, self._now = self._now, now
        if before is None:
            for client in list(self._clients):
                self.resync(client)
        elif before.etag != now.etag or any(event.is_transition for event in events):
            self._write(frames.change(before, now, events))

    def _write(self, text: str) -> None:
        message = _message(text)
        for client in list(self._clients):
            self._hand(client, message)

    def _hand(self, client: Client, message: dict[str, Any]) -> None:
        if client.writing:
            client.is_behind = True
            return
        try:
            client.writing = begin(client.send(message))
        except Exception as error:  # it is gone; whatever its server raises for that
            log.debug("feed_client_gone", error=str(error))
            self.leave(client)
            return
        if client.writing:
            client.since_s = self._loop.time()
            client.writing.add_done_callback(lambda task: self._written(client, task))

    def _written(self, client: Client, task: asyncio.Task[None]) -> None:
        client.writing = None
        if task.cancelled() or task.exception():
            self.leave(client)
        elif client.is_behind:
            client.is_behind = False
            self.resync(client)

    def _whole(self, now: Status) -> dict[str, Any]:
        if self._snapshot is None or self._snapshot[0] is not now:
            self._snapshot = now, _message(frames.snapshot(now))
        return self._snapshot[1]

    def _start(self) -> None:
        self._reader = Reader(self._tell)
        self._reader.start()
        self._beats = self._loop.create_task(self._keep_beating())

    def _tell(self, now: Status, events: Sequence[Event]) -> None:
        """Carry news from the reader's thread into the loop, unless that has ended."""
        try:
            self._loop.call_soon_threadsafe(self._take, now, events)
        except RuntimeError:
            if self._reader:
                self._reader.stop()

    def _take(self, now: Status, events: Sequence[Event]) -> None:
        """Spread news, but for the last look of a reader that was told to stop: kept, it would be
        the first snapshot of whoever joins next, hours later."""
        if self._reader is not None:
            self.spread(now, events)

    async def _keep_beating(self) -> None:
        """Beat, drop who is slow, ask again who may listen; end with the last client."""
        while self._clients:
            await asyncio.sleep(self._beat_s)
            self._drop_slow()
            self._recheck()
            if self._now is not None:
                self._write(frames.beat(self._now))
        if self._reader:
            self._reader.stop()
        self._reader = self._now = None

    def _drop_slow(self) -> None:
        late_s = self._loop.time() - self._slow_s
        for client in [one for one in self._clients if one.writing and one.since_s <= late_s]:
            metrics.degraded("feed_slow_client")
            log.info("feed_client_dropped", why="slow")
            self.leave(client)
            client.drop()

    def _recheck(self) -> None:
        due_s = self._loop.time() - RECHECK_S
        for client in [one for one in self._clients if one.checked_s <= due_s]:
            client.checked_s = self._loop.time()
            task = self._loop.create_task(self._ask_again(client))
            self._rechecks.add(task)
            task.add_done_callback(self._rechecks.discard)

    async def _ask_again(self, client: Client) -> None:
        if not await client.recheck():
            log.info("feed_client_dropped", why="may no longer listen")
            self.leave(client)
            client.drop()


def begin(sending: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run a send as far as it goes without waiting; None when that was all of it.

    The rest becomes a task. A thousand clients whose sockets take the message are so written to in
    one go. Raises what the send raises at once.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        task = asyncio.Task(sending, loop=loop, eager_start=True)
        if not task.done():
            return task
        return task.result()
    try:
        waits_for = sending.send(None)
    except StopIteration:
        return None
    return loop.create_task(_rest(sending, waits_for))


@types.coroutine
def _rest(sending: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was begun and waits for a future.

    For Python 3.11 alone: later ones refuse a generator as a task, and have eager ones instead.
    """
    step: Callable[[Any], Any]
    value: Any
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:  # cancelled: the coroutine itself must hear of it
            step, value = sending.throw, error
        else:
            step, value = sending.send, answer
        try:
            waits_for = step(value)
        except StopIteration:
            return


def _message(text: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": text}


_hubs: "WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = WeakKeyDictionary()


def here() -> Hub:
    """Return the hub of the running loop; a server's process has one loop, and so one hub."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
