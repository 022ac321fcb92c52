"""HTTP clients that cost little: raw keep-alive sockets in one thread, requests built beforehand.

They must be cheaper than the fastest server they measure; a client library is not.
"""

import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

CALL = b"call-%012d"
Request = Callable[[], bytes]


def post(path: str, key: str, body: dict[str, object]) -> Request:
    """Return what makes the requests: each with a call id of its own, all of the same length."""
    numbers = count()
    content = json.dumps(body | {"call_id": (CALL % 0).decode()}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    whole = head.encode() + content
    before, after = whole.split(CALL % 0)
    return lambda: before + CALL % next(numbers) + after


@dataclass(slots=True)
class Client:
    """One connection, with at most one request under way."""

    socket: socket.socket
    sent_at: float = 0.0
    due_at: float = 0.0
    received: bytes = b""

    def send(self, request: bytes, due_at: float) -> None:
        self.due_at, self.received = due_at, b""
        self.socket.send(request)

    def is_answered(self) -> bool:
        """Read what came; say whether that was all of it. Raises RuntimeError if it is no 200."""
        self.received += self.socket.recv(65_536)
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"expected 200, got {self.received[:400]!r}")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        return len(body) >= int(length)


def saturate(port: int, request: Request, *, clients: int, seconds: float) -> float:
    """Return the requests a second when every client asks again as soon as it is answered."""
    with _connected(port, clients) as pool:
        for client in pool.idle:
            client.send(request(), 0)
        began, done = time.perf_counter(), 0
        while (now := time.perf_counter()) - began < seconds:
            for client in pool.answered(1.0):
                client.send(request(), 0)
                done += 1
        return done / (now - began)


def paced(port: int, request: Request, *, per_second: int, seconds: float) -> list[float]:
    """Return the seconds each request took, counted from when it was due, sent at a steady rate."""
    times: list[float] = []
    with _connected(port, 64) as pool:
        due_at = time.perf_counter()
        end_at = due_at + seconds
        while due_at < end_at or len(pool.idle) < len(pool):
            now = time.perf_counter()
            while due_at <= min(now, end_at) and pool.idle:
                pool.idle.pop().send(request(), due_at)
                due_at += 1 / per_second
            wait = max(0.0, due_at - now) if due_at < end_at else 1.0
            for client in pool.answered(wait):
                times.append(time.perf_counter() - client.due_at)
                pool.idle.append(client)
    return times


class _connected:  # noqa: N801 - reads as what it is: with _connected(port, 32) as pool
    """Clients of a port, connected for the length of a block."""

    def __init__(self, port: int, clients: int) -> None:
        self._poll = select.epoll()
        sockets = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(clients)]
        self._by_number = {one.fileno(): Client(one) for one in sockets}
        for one in sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(one, select.EPOLLIN)
        self.idle = list(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)

    def __enter__(self) -> "_connected":
        return self

    def __exit__(self, *_error: object) -> None:
        self._poll.close()
        for client in self._by_number.values():
            client.socket.close()

    def answered(self, wait_s: float) -> Iterator[Client]:
        """Wait at most so long, and yield the clients whose answer is whole."""
        for number, _ in self._poll.poll(wait_s):
            client = self._by_number[number]
            if client.is_answered():
                yield client
