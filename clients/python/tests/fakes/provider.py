"""What the fake providers share: a WebSocket server whose behaviour can be changed mid-call.

By default audio is only counted (16 bit mono), one result per 0.5 s of it, never in wall clock.
With `hears` the audio is coded (see `coded.py`) and the results are the words in it.
"""

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.fakes.coded import ENOUGH_S, WORD_S, slices
from tests.fakes.session import Session

ENDPOINT_S = 0.3 + WORD_S - ENOUGH_S  # 0.3 s of silence after a word
FOR_EVER_S = 120


@dataclass(slots=True)
class Behaviour:
    """`connect`: "ok", "http:<status>", "hang" or "drip" (the answer, one byte a second), after
    `connect_delay_s`. `stream`, after `after_s` of audio: "ok", "stall", "freeze", "close:<code>",
    "abort", "error:<code>", "empty", "garbage", or at once "immediate_close:<code>". `latency_s`
    of each result. `flap_s`: each connection is reset after so many seconds. `tokens`: whether an
    in-band error of Soniox has the key `tokens`. `finals` of words heard: "at end" of speech,
    "never", or "each:<seconds>". `speed`: how many seconds of audio it works through in one, 0 for
    all at once. `says`: "words", "twice" or "foreign" ones."""

    connect: str = "ok"
    stream: str = "ok"
    after_s: float = 0.5
    latency_s: float = 0.0
    connect_delay_s: float = 0.0
    flap_s: float = 0.0
    speed: float = 0.0
    tokens: bool = True
    finals: str = "at end"
    says: str = "words"


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


class FakeProvider:
    """Serve with `async with fake.running()`; change `behaviour` at any time."""

    tag = "fake"

    def __init__(self, behaviour: Behaviour | None = None, *, hears: bool = False) -> None:
        self.behaviour = behaviour or Behaviour()
        self.hears = hears
        self.counters = Counters()
        self.open: dict[ServerConnection, Session] = {}
        self._waiting: set[asyncio.Task[None]] = set()
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
            compression=None,
            close_timeout=0.2,
            open_timeout=FOR_EVER_S,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening: a connection is refused from now on. Live ones are reset."""
        self.kill_all()
        for task in list(self._waiting):
            task.cancel()
        if self._server:
            self._server.close(close_connections=False)
            await asyncio.sleep(0)
            self._server = None

    # --- what is done to all live connections at once; the next ones are as `behaviour` says

    def kill_all(self) -> None:
        """Reset them."""
        for connection in list(self.open):
            connection.transport.abort()

    async def close_all(self, code: int) -> None:
        """Close them in order."""
        await asyncio.gather(*(one.close(code, "as told") for one in list(self.open)))

    async def complain_all(self, code: int) -> None:
        """Send them an in-band error, then close them."""
        await asyncio.gather(*(self.complain(one, code) for one in list(self.open.values())))

    # --- what a provider implements

    def key_of(self, request: Request) -> str:
        """Return the credential that the client sent."""
        raise NotImplementedError

    async def greet(self, session: Session) -> None:
        """Read what the protocol begins with."""

    async def say(self, session: Session, text: str) -> None:
        """Send the result of audio that was only counted."""
        raise NotImplementedError

    async def interim(self, session: Session, text: str) -> None:
        """Send what was heard since the last final."""
        raise NotImplementedError

    async def final(self, session: Session, text: str, *, is_asked: bool) -> None:
        """Send a final: of the end of speech, or because the client asked for it."""
        raise NotImplementedError

    async def control(self, session: Session, message: str | bytes) -> bool:
        """Handle what is no audio; False at the end of the stream."""
        raise NotImplementedError

    async def complain(self, session: Session, code: int) -> None:
        """Send an in-band error, then close."""
        raise NotImplementedError

    # --- for them

    async def send(self, session: Session, message: str) -> None:
        """Send a result, late if results are."""
        backlog_s = session.backlog_s(self.behaviour.speed)
        await session.send(message, self.behaviour.latency_s + backlog_s)

    async def finish(self, session: Session, *, is_asked: bool) -> None:
        """Make what was heard final; also nothing, when it was asked for."""
        text = self._text(session)
        if self.behaviour.finals == "never" or not (text or is_asked):
            return
        session.pending.clear()
        session.final_s = session.audio_s
        for _ in range(2 if self.behaviour.says == "twice" else 1):
            await self.final(session, text, is_asked=is_asked)
        self.counters.finals += bool(text)

    def _text(self, session: Session) -> str:
        """What was heard and is not final, as `sx:1 sx:2`; foreign words have no number."""
        if self.behaviour.says == "foreign":
            return " ".join("नमस्ते" for _ in session.pending)
        return " ".join(f"{self.tag}:{word}" for word in session.pending)

    # --- serving

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.counters.handshakes += 1
        self.counters.paths.append(request.path)
        self.counters.keys.append(self.key_of(request))
        await self._hesitate(connection)
        if self.behaviour.connect.startswith("http:"):
            self.counters.rejected += 1
            status = int(self.behaviour.connect.removeprefix("http:"))
            response = connection.respond(http.HTTPStatus(status), "refused\n")
            response.headers["dg-request-id"] = "fake"
            return response
        return None

    async def _hesitate(self, connection: ServerConnection) -> None:
        """Let a handshake wait as the behaviour says."""
        task = asyncio.current_task()
        assert task
        self._waiting.add(task)
        try:
            await asyncio.sleep(self.behaviour.connect_delay_s)
            if self.behaviour.connect == "hang":
                await asyncio.sleep(FOR_EVER_S)
            if self.behaviour.connect == "drip":
                for byte in b"HTTP/1.1 101 Switching Protocols\r\nX-Slow: " + b"x" * FOR_EVER_S:
                    connection.transport.write(bytes([byte]))
                    await asyncio.sleep(1)
        finally:
            self._waiting.discard(task)

    async def _session(self, connection: ServerConnection) -> None:
        self.counters.sessions += 1
        session = self.open[connection] = Session(connection)
        if self.behaviour.flap_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self.behaviour.flap_s, connection.transport.abort)
        try:
            with contextlib.suppress(ConnectionClosed):
                if self.behaviour.stream.startswith("immediate_close:"):
                    code = int(self.behaviour.stream.removeprefix("immediate_close:"))
                    await connection.close(code, "policy")
                    return
                await self.greet(session)
                async for message in connection:
                    if not await self._take(session, message):
                        return
        finally:
            session.end()
            del self.open[connection]

    async def _take(self, session: Session, message: str | bytes) -> bool:
        """Take one message; False when the connection is over."""
        is_audio = isinstance(message, bytes) and message
        if not is_audio:
            self.counters.controls.append(str(message)[:60])
        elif isinstance(message, bytes):
            session.audio_bytes += len(message)
            self.counters.audio_bytes += len(message)
        now = self.behaviour.stream
        is_bad = now != "ok" and session.audio_s >= self.behaviour.after_s
        session.is_mute = is_bad
        if is_bad:
            return await self._misbehave(session, now)
        if not isinstance(message, bytes) or not message:
            return await self.control(session, message)
        await (self._hear(session, message) if self.hears else self._count(session))
        return True

    async def _count(self, session: Session) -> None:
        while session.words < session.due:
            session.words += 1
            await self.say(session, f"{self.tag}{session.words}")

    async def _hear(self, session: Session, audio: bytes) -> None:
        """Tell of new words, and make them final at a pause or when they are due."""
        for piece in slices(audio):
            if words := session.ear.hear(piece):
                session.pending += words
                await self.interim(session, self._text(session))
            is_pause = session.has_endpointing and session.ear.quiet_s >= ENDPOINT_S
            if session.pending and (is_pause or self._is_due(session)):
                await self.finish(session, is_asked=False)

    def _is_due(self, session: Session) -> bool:
        each, _, seconds = self.behaviour.finals.partition(":")
        return each == "each" and session.audio_s - session.final_s >= float(seconds)

    async def _misbehave(self, session: Session, how: str) -> bool:
        """Do what the behaviour says; False when the connection is over."""
        what, _, value = how.partition(":")
        do: Callable[[Session, str], Awaitable[bool]] = getattr(self, f"_{what}")
        return await do(session, value)

    async def _stall(self, session: Session, _: str) -> bool:
        return True

    async def _freeze(self, session: Session, _: str) -> bool:
        session.connection.transport.pause_reading()
        await asyncio.sleep(FOR_EVER_S)
        return False

    async def _abort(self, session: Session, _: str) -> bool:
        session.connection.transport.abort()
        return False

    async def _close(self, session: Session, code: str) -> bool:
        await session.connection.close(int(code), "as told")
        return False

    async def _error(self, session: Session, code: str) -> bool:
        await self.complain(session, int(code))
        return False

    async def _empty(self, session: Session, _: str) -> bool:
        if session.words < session.due:
            session.words = session.due
            await self.say(session, "")
        return True

    async def _garbage(self, session: Session, _: str) -> bool:
        if session.words < session.due:
            session.words = session.due
            await session.connection.send("<html>not JSON")
        return True
