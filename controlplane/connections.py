"""Connections that do nothing for us: how long they may, and which one goes when there is no room.

Uvicorn waits for the rest of a request without end, and for a client that does not read its answer
too; some thousand of those take every descriptor of a process, and then it serves nobody. Here a
request must be whole in time, and when descriptors run short, the connection that has kept us
waiting for longest is closed for the one that comes: whoever sends its request whole gets through.
"""

from asyncio import AbstractEventLoop, BaseTransport
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from controlplane.descriptors import room
from fallback import metrics

log = structlog.get_logger(__name__)

HEAD_S: Final = 10.0  # from the connection, or the first byte of the next request, to the headers
HEAD_MAX: Final = 64 * 1024  # bytes; more than any proxy lets through
BODY_S: Final = 30.0  # to the end of the body; controlplane/bodies.py has answered long before
IDLE_S: Final = 15.0  # kept alive after an answer: uvicorn closes it, unless nobody reads
UNREAD_S: Final = 30.0  # an answer that nobody reads
SWEEP_S: Final = 1.0
HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)


class Book:
    """The connections of one server that keep us waiting, by what for; the oldest first in each."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._room = room()
        self._bounds_s = {"head": HEAD_S, "body": BODY_S, "idle": IDLE_S, "unread": UNREAD_S}
        # In the order in which they go when there is no room.
        self._waiting: dict[str, dict[Connection, float]] = {name: {} for name in self._bounds_s}
        self._is_sweeping = False

    def note(self, connection: "Connection", what: str) -> None:
        """From now on it keeps us waiting for this, and for nothing else."""
        self.forget(connection)
        connection.waits_for = what
        self._waiting[what][connection] = self._loop.time()
        if not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_later(SWEEP_S, self._sweep)

    def forget(self, connection: "Connection") -> None:
        """It keeps us waiting no more."""
        if connection.waits_for:
            del self._waiting[connection.waits_for][connection]
            connection.waits_for = ""

    def make_room(self, count: int) -> None:
        """Close who keeps us waiting for longest, if so many connections are more than may be."""
        if count > self._room:
            for connections in self._waiting.values():
                if connections:
                    self._end(next(iter(connections)), "no room")
                    return

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for what, connections in self._waiting.items():
            late_s = now_s - self._bounds_s[what]
            while connections and next(iter(connections.values())) <= late_s:
                self._end(next(iter(connections)), what)
        self._is_sweeping = any(self._waiting.values())
        if self._is_sweeping:
            self._loop.call_later(SWEEP_S, self._sweep)

    def _end(self, connection: "Connection", why: str) -> None:
        self.forget(connection)
        metrics.degraded("connection_closed")
        log.debug("connection_closed", why=why, ip=connection.client and connection.client[0])
        connection.transport.abort()


_books: "WeakKeyDictionary[ServerState, Book]" = WeakKeyDictionary()


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with what it keeps us waiting for in the server's book."""

    waits_for = ""
    head_bytes = 0

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if server_state not in _books:
            _books[server_state] = Book(self.loop)
        self._book = _books[server_state]

    def connection_made(self, transport: BaseTransport) -> None:
        """Wait for a request, and make room for it."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._book.make_room(len(self.connections))  # of the feed too
        self._book.note(self, "head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._book.forget(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Leave it to the feed, which has bounds of its own."""
        self._book.forget(self)
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """Take no head without end: what has come of it is held in memory."""
        self.head_bytes += len(data)
        super().data_received(data)
        if self.waits_for != "head":
            self.head_bytes = 0
        elif self.head_bytes > HEAD_MAX and not self.transport.is_closing():
            self.transport.write(HEAD_TOO_LARGE)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Say whose it was that sent something else than HTTP."""
        log.info("not_http", ip=self.client and self.client[0])
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Wait for the next request of a connection that was kept alive."""
        super().on_message_begin()
        if self.waits_for != "head":
            self._book.note(self, "head")

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._book.note(self, "body")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait no more: now it waits for us."""
        self._book.forget(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for whatever comes next."""
        super().on_response_complete()
        if not self.pipeline:
            self._book.note(self, "idle")

    def pause_writing(self) -> None:
        """Wait for it to read."""
        self._book.note(self, "unread")
        super().pause_writing()

    def resume_writing(self) -> None:
        """Wait for that no more."""
        if self.waits_for == "unread":
            self._book.forget(self)
        super().resume_writing()
