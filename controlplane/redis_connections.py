"""Connections whose waits end with the asker's deadline, whatever the server does.

redis-py's `socket_timeout` holds for each read, so that a reply that trickles in a byte at a time
never trips it. Here every read and write waits no longer than the thread's deadline, and a
connection is opened aside: the look-up of a name, the handshake and the question to the Sentinels
may together take longer than one answer may, and the next asker finds it open.
"""

import functools
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from math import inf
from typing import Any, Final

from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from fallback import deadline
from fallback.aside import Aside

TURN: Final = 1.2  # how much longer than a handshake an answer may take
SENT_AT_ONCE: Final = 32_768  # bytes that a socket's buffer takes without waiting
OPENING: Final = Aside("redis-open", threads=16, at_most_s=1.0)


class BoundedSocket:
    """A socket each of whose waits is the shorter of its timeout and the thread's deadline.

    It stands on the path of every decision, so what redis-py asks each time is at hand.
    """

    __slots__ = ("_socket", "_timeout_s", "fileno", "pending")

    def __init__(self, socket: Any) -> None:
        self._socket, self._timeout_s = socket, socket.gettimeout()
        self.fileno = socket.fileno
        self.pending = getattr(socket, "pending", int)  # decrypted bytes: none without TLS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        """Set the longest wait; None: as long as the deadline allows."""
        self._timeout_s = seconds
        self._socket.settimeout(seconds)

    def recv_into(self, buffer: Any, *size: int) -> int:
        """Receive into a buffer. Raises TimeoutError."""
        self._limit()
        received: int = self._socket.recv_into(buffer, *size)
        return received

    def recv(self, *arguments: Any) -> Any:
        """Receive. Raises TimeoutError."""
        self._limit()
        return self._socket.recv(*arguments)

    def sendall(self, data: Any) -> None:
        """Send all of it. Raises TimeoutError."""
        if len(data) > SENT_AT_ONCE:
            self._limit()
        self._socket.sendall(data)

    def _limit(self) -> None:
        left_s, timeout_s = deadline.left_s(), self._timeout_s
        if timeout_s == 0:  # a look whether anything is there, which does not wait
            return
        if left_s <= 0:
            raise TimeoutError("the time for this answer is over")
        if timeout_s is None or left_s < timeout_s:
            timeout_s = None if left_s == inf else left_s
        self._socket.settimeout(timeout_s)


class Bounded:
    """What is mixed into a class of connections. One thread at a time has it, as the pool says."""

    _sock: Any
    _opening: Future[None] | None = None

    @property
    def is_opening(self) -> bool:
        """Whether it is being opened for an asker who may have left."""
        return self._opening is not None

    def connect(self) -> None:
        """Wait for it to be open, if need be. Raises what redis-py raises."""
        if self._opening is None:
            if self._sock:
                return
            self._opening = OPENING.start(super().connect)  # type: ignore[misc] # a mixin
        began_s = time.monotonic()
        try:
            self._opening.result(timeout=max(0.0, min(deadline.left_s(), 2 * OPENING.at_most_s)))
        except FutureTimeoutError as error:
            if not self._opening.done():
                raise RedisTimeoutError("the connection is still being opened") from error
            self._opening = None
            raise RedisTimeoutError("the connection could not be opened in time") from error
        except BaseException:
            self._opening = None
            raise
        self._opening = None
        if not self._sock:  # dropped by somebody meanwhile
            raise RedisConnectionError("the connection was closed while it was being opened")
        if deadline.left_s() < TURN * (time.monotonic() - began_s):
            # To ask now would be to miss, and a miss closes it: the next asker finds it open.
            raise RedisTimeoutError("the connection was opened too late to ask")

    def _connect(self) -> BoundedSocket:
        return BoundedSocket(super()._connect())  # type: ignore[misc] # a mixin


@functools.cache
def bounded(kind: type) -> type:
    """Return a class of connections with bounded waits."""
    return type(f"Bounded{kind.__name__}", (Bounded, kind), {})


class BoundedPool(ConnectionPool):
    """A pool of bounded connections to one server."""

    def __init__(self, connection_class: type = Connection, **options: Any) -> None:
        super().__init__(connection_class=bounded(connection_class), **options)


class BoundedSentinelPool(SentinelConnectionPool):
    """A pool of bounded connections to the master that the Sentinels name."""

    def __init__(self, service_name: str, sentinel_manager: Any, **options: Any) -> None:
        has_tls = options.pop("ssl", False) or options.get("connection_class") is SSLConnection
        kind = SentinelManagedSSLConnection if has_tls else SentinelManagedConnection
        options["connection_class"] = bounded(kind)
        super().__init__(service_name, sentinel_manager, **options)  # type: ignore[no-untyped-call]

    def owns_connection(self, connection: Any) -> bool:
        """Keep one that is being opened, too: it is not connected to anybody yet."""
        is_ours = super().owns_connection(connection)  # type: ignore[no-untyped-call]
        return bool(connection.is_opening or is_ours)
