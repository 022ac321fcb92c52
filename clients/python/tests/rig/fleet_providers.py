"""The speech providers of a whole fleet: one small server, whose first provider can go out.

A line `<provider> <call> <words> <after>` asks to be told so many words: the first after that many
seconds, the others STEP_S apart. A protocol as cheap as can be: hundreds connect in one moment, and
how long these take here must not pass for how long the client takes.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

STEP_S: Final = 0.3
ANSWER_S: Final = 3.0
PATIENCE_S: Final = 10.0
LOOK_EVERY_S: Final = 0.005
WORD: Final = b"word\n"
REFUSAL: Final = b"503\n"


class UnavailableError(Exception):
    """A provider refused to begin."""

    status = 503


class Providers:
    """Serve with `async with providers.running()`; only `primary` is ever out."""

    def __init__(self, primary: str) -> None:
        self.primary = primary
        self.port = 0
        self.is_out = False
        self.in_progress: set[str] = set()  # calls on the primary, with words to come
        self._on_primary: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve in the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def busy(self, calls: int) -> None:
        """Wait until so many calls are in progress; after PATIENCE_S take those that are.

        Calls end and begin all the time, so a slow machine may never have all at one moment.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while len(self.in_progress) < calls:
                    await asyncio.sleep(LOOK_EVERY_S)

    def go_out(self) -> tuple[float, frozenset[str]]:
        """Refuse whoever comes, and reset all others; return when, and the calls in progress."""
        self.is_out = True
        began_s, calls = time.time(), frozenset(self.in_progress)
        for writer in self._on_primary:
            writer.transport.abort()
        return began_s, calls

    def heal(self) -> float:
        """Be well again; return when."""
        self.is_out = False
        return time.time()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):  # reset, or the caller hung up
                provider, *asked = (await reader.readline()).decode().split()
                if provider != self.primary:
                    await self._talk(writer, *asked)
                elif self.is_out:
                    writer.write(REFUSAL)
                else:
                    await self._talk_as_primary(writer, *asked)
        finally:
            writer.close()

    async def _talk_as_primary(
        self, writer: asyncio.StreamWriter, call: str, words: str, after_s: str
    ) -> None:
        self._on_primary.add(writer)
        self.in_progress.add(call)
        try:
            await self._talk(writer, call, words, after_s)
        finally:
            self._on_primary.discard(writer)
            self.in_progress.discard(call)

    async def _talk(
        self, writer: asyncio.StreamWriter, call: str, words: str, after_s: str
    ) -> None:
        """Say the words, each when it is due. Raises ConnectionError when nobody is there."""
        due_s = time.monotonic() + float(after_s)
        for left in reversed(range(int(words))):
            await asyncio.sleep(due_s - time.monotonic())
            due_s += STEP_S
            if not left:  # before it goes out: a call in progress has not heard its last word
                self.in_progress.discard(call)
            writer.write(WORD)
            await writer.drain()


async def words_of(
    port: int, provider: str, call: str, words: int, after_s: float
) -> AsyncIterator[None]:
    """Yield at each word that the provider tells. Raises UnavailableError, TimeoutError, or
    ConnectionError where it is gone before the last one."""
    async with asyncio.timeout(ANSWER_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{provider} {call} {words} {after_s}\n".encode())
        for _ in range(words):
            async with asyncio.timeout(ANSWER_S):
                told = await reader.readline()
            if told == REFUSAL:
                raise UnavailableError
            if told != WORD:
                raise ConnectionResetError("the provider is gone")
            yield
    finally:
        writer.close()
