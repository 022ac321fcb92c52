"""One connection to a fake: what it got, what it has to say, and when it says it."""

import asyncio
import contextlib
from collections import deque

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.fakes.coded import Ear

RESULT_EVERY_S = 0.5


class Session:
    """Counts its audio, keeps the words that are not final yet, and sends what is due."""

    def __init__(self, connection: ServerConnection, rate: int = 16_000) -> None:
        self.connection, self.rate = connection, rate
        self.audio_bytes = 0
        self.words = 0  # results of audio that is only counted
        self.ear = Ear()
        self.pending: list[int] = []  # words understood that are not final yet
        self.final_s = 0.0  # audio at the last final
        self.has_endpointing = True
        self.is_mute = False  # nothing leaves it any more, not even what was under way
        self._worked_s = self._done_s = 0.0  # audio that results were made of, and until when
        self._late: deque[tuple[float, str]] = deque()
        self._sender: asyncio.Task[None] | None = None

    @property
    def audio_s(self) -> float:
        """Seconds of audio received."""
        return self.audio_bytes / (self.rate * 2)

    @property
    def due(self) -> int:
        """How many results the audio is good for where it is only counted."""
        return int(self.audio_s / RESULT_EVERY_S)

    def backlog_s(self, speed: float) -> float:
        """How long the audio until here keeps it busy, at so many seconds of audio in one."""
        if not speed:
            return 0.0
        now_s = asyncio.get_running_loop().time()
        audio_s, self._worked_s = self.audio_s - self._worked_s, self.audio_s
        self._done_s = max(self._done_s, now_s) + audio_s / speed
        return self._done_s - now_s

    async def send(self, message: str, latency_s: float) -> None:
        """Send in so many seconds, after what was said before, while more audio is read."""
        if not latency_s and not self._late:
            await self.connection.send(message)
            return
        self._late.append((asyncio.get_running_loop().time() + latency_s, message))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_late())

    async def _send_late(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionClosed):
            while self._late:
                due_s, message = self._late[0]
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if not self.is_mute:
                    await self.connection.send(message)
                self._late.popleft()

    def end(self) -> None:
        """Say nothing more."""
        if self._sender:
            self._sender.cancel()
