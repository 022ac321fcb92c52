"""A TCP proxy before a server, that can be slow, silent or cut: real sockets, real faults."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any


class Proxy(socketserver.ThreadingTCPServer):
    """Passes bytes on, with the faults that its attributes say. Change them at any time."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, target: str | tuple[str, int], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Pair)
        self.target = target
        self.byte_every_s = 0.0  # what the server says comes a byte at a time, this far apart
        self.reply_after_s = 0.0  # each thing it says is this late
        self.is_cut = False  # nobody gets through, and whoever was is cut off
        self.cuts_peers = False  # the same for other servers and Sentinels, and for nobody else
        self.passed = 0  # connections that were made
        self._open: set[socket.socket] = set()
        self._peers: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def cut(self) -> None:
        """Close every connection and let no other through."""
        self.is_cut = True
        self.drop()

    def cut_from_peers(self) -> None:
        """Be out of reach for other servers and Sentinels, and for nobody else."""
        self.cuts_peers = True
        _close(self._peers)

    def drop(self) -> None:
        """Close every connection; whoever comes again is let through."""
        _close(self._open)

    def heal(self) -> None:
        """Be well again."""
        self.is_cut = self.cuts_peers = False
        self.byte_every_s = self.reply_after_s = 0.0

    def connected(self) -> socket.socket:
        """Return a connection to the server behind."""
        kind = socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET
        one = socket.socket(kind, socket.SOCK_STREAM)
        one.connect(self.target)
        return one

    def handle_error(self, *_: Any) -> None:
        """A peer that is gone is what happens here all the time."""


class _Pair(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        if self.server.is_cut:
            return
        is_peer = _is_peer(self.request)
        if is_peer and self.server.cuts_peers:
            return
        behind = self.server.connected()
        self.server.passed += 1
        both = {self.request, behind}
        self.server._open |= both
        if is_peer:
            self.server._peers |= both
        asking = threading.Thread(target=self._pass, args=(self.request, behind), daemon=True)
        asking.start()
        self._pass(behind, self.request, is_reply=True)
        asking.join()
        self.server._open -= both
        self.server._peers -= both
        behind.close()

    def _pass(self, source: socket.socket, sink: socket.socket, is_reply: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_reply:
                    self._say(sink, data)
                else:
                    sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _say(self, sink: socket.socket, data: bytes) -> None:
        if self.server.reply_after_s:
            time.sleep(self.server.reply_after_s)
        while self.server.byte_every_s and data:
            sink.sendall(data[:1])
            data = data[1:]
            time.sleep(self.server.byte_every_s)
        if data:
            sink.sendall(data)


def _is_peer(one: socket.socket) -> bool:
    """Whether a replica or a Sentinel is at the other end, by the first that it says."""
    with contextlib.suppress(OSError):
        said = one.recv(4096, socket.MSG_PEEK)
        return b"sentinel-" in said or said.startswith((b"*1\r\n$4\r\nPING", b"PING"))
    return False


def _close(ones: set[socket.socket]) -> None:
    for one in list(ones):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(target: str | tuple[str, int], port: int = 0) -> Iterator[Proxy]:
    """Run a proxy before `target`, a socket's path or an address, in the block."""
    with Proxy(target, port) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.cut()
            server.shutdown()
