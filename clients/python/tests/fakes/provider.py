"""What the fake providers share: a WebSocket server whose behaviour can be changed mid-call.

Time is counted in audio received (16 bit mono), one result per 0.5 s of it, never in wall clock.
"""

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

RESULT_EVERY_S = 0.5


@dataclass(slots=True)
class Behaviour:
    """`connect`: "ok", "http:<status>" or "hang". `stream`, after `after_s` of audio: "ok",
    "stall", "freeze", "close:<code>", "abort", "error:<code>", "empty", "garbage", or at once
    "immediate_close:<code>". `latency_s` before each result. `tokens`: whether an in-band error of
    Soniox has the key `tokens`."""

    connect: str = "ok"
    stream: str = "ok"
    after_s: float = 0.5
    latency_s: float = 0.0
    tokens: bool = True


@dataclass(slots=True)
class Counters:
    """What the fake saw since it began."""

    handshakes: int = 0
    rejected: int = 0
    sessions: int = 0
    audio_bytes: int = 0
    finals: int = 0
    controls: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class Session:
    """One connection: how much audio it got, and how many words it said."""

    def __init__(self, connection: ServerConnection, rate: int = 16_000) -> None:
        self.connection, self.rate = connection, rate
        self.audio_bytes = 0
        self.words = 0
        self.is_stalled = False

    @property
    def audio_s(self) -> float:
        """Seconds of audio received."""
        return self.audio_bytes / (self.rate * 2)

    @property
    def due(self) -> int:
        """How many words the audio is good for."""
        return int(self.audio_s / RESULT_EVERY_S)


class FakeProvider:
    """Serve with `async with fake.running()`; change `behaviour` at any time."""

    tag = "fake"

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.counters = Counters()
        self.open: set[ServerConnection] = set()
        self._hanging: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"ws://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeProvider"]:
        """Serve in the block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Serve; on the same port again after `stop`."""
        self._server = await serve(
            self._session,
            "127.0.0.1",
            self.port,
            process_request=self._admit,
            ping_interval=None,
            max_size=None,
            close_timeout=0.2,
            open_timeout=60,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening: a connection is refused from now on. Live ones are reset."""
        self.kill_all()
        for task in list(self._hanging):
            task.cancel()
        if self._server:
            self._server.close(close_connections=False)
            await asyncio.sleep(0)
            self._server = None

    def kill_all(self) -> None:
        """Reset every live connection."""
        for connection in list(self.open):
            connection.transport.abort()

    # --- what a provider implements

    def key_of(self, request: Request) -> str:
        """Return the credential that the client sent."""
        raise NotImplementedError

    async def greet(self, session: Session) -> None:
        """Read what the protocol begins with."""

    async def say(self, session: Session, text: str) -> None:
        """Send one word as a final result."""
        raise NotImplementedError

    async def control(self, session: Session, message: str | bytes) -> bool:
        """Handle what is no audio; False at the end of the stream."""
        raise NotImplementedError

    async def complain(self, session: Session, code: int) -> None:
        """Send an in-band error, then close."""
        raise NotImplementedError

    # --- serving

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.counters.handshakes += 1
        self.counters.paths.append(request.path)
        self.counters.keys.append(self.key_of(request))
        if self.behaviour.connect == "hang":
            task = asyncio.current_task()
            assert task
            self._hanging.add(task)
            try:
                await asyncio.sleep(60)
            finally:
                self._hanging.discard(task)
        if self.behaviour.connect.startswith("http:"):
            self.counters.rejected += 1
            status = int(self.behaviour.connect.removeprefix("http:"))
            response = connection.respond(http.HTTPStatus(status), "refused\n")
            response.headers["dg-request-id"] = "fake"
            return response
        return None

    async def _session(self, connection: ServerConnection) -> None:
        self.counters.sessions += 1
        self.open.add(connection)
        session = Session(connection)
        try:
            with contextlib.suppress(ConnectionClosed):
                if self.behaviour.stream.startswith("immediate_close:"):
                    code = int(self.behaviour.stream.removeprefix("immediate_close:"))
                    await connection.close(code, "policy")
                    return
                await self.greet(session)
                async for message in connection:
                    if not await self._hear(session, message):
                        return
        finally:
            self.open.discard(connection)

    async def _hear(self, session: Session, message: str | bytes) -> bool:
        is_audio = isinstance(message, bytes) and message
        if not is_audio:
            self.counters.controls.append(str(message)[:60])
        elif isinstance(message, bytes):
            session.audio_bytes += len(message)
            self.counters.audio_bytes += len(message)
        now = self.behaviour.stream
        if now != "ok" and session.audio_s >= self.behaviour.after_s:
            return await self._misbehave(session, now)
        if not is_audio:
            return await self.control(session, message)
        while session.words < session.due:
            session.words += 1
            await self._word(session, f"{self.tag}{session.words}")
        return True

    async def _word(self, session: Session, text: str) -> None:
        if self.behaviour.latency_s:
            await asyncio.sleep(self.behaviour.latency_s)
        await self.say(session, text)

    async def _misbehave(self, session: Session, how: str) -> bool:
        """Do what the behaviour says; False when the connection is over."""
        what, _, code = how.partition(":")
        if what == "freeze":
            session.connection.transport.pause_reading()
            await asyncio.sleep(60)
        elif what == "abort":
            session.connection.transport.abort()
        elif what == "close":
            await session.connection.close(int(code), "as told")
        elif what == "error":
            await self.complain(session, int(code))
        elif what in {"empty", "garbage"}:
            if session.words < session.due:
                session.words = session.due
                await (self.say(session, "") if what == "empty"
                       else session.connection.send("<html>not JSON"))  # fmt: skip
            return True
        return what == "stall"
