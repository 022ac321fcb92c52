"""One provider's LiveKit plugin within a call: a stream that is opened when it is wanted."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import APIConnectOptions
from livekit.agents.stt import STT, SpeechEvent

from stt_guard.classify import classify
from stt_guard.failover import Leg, Limits
from stt_guard.words import Seen

LOOK_EVERY_S: Final = 0.01
FLUSH: Final = object()  # stands in the tail where the session asked for the end of a segment
BEGINNING: Final = object()  # and here where speech began
log = logging.getLogger(__name__)


class Child(Leg):
    """A provider and its plugin. `on_event` gets what its stream says, `on_broken` why it ended.

    The plugin's own retries are off: with them a provider that never answers the handshake is
    tried for ever. What its stream raises is a drop, and healed by a new stream.
    """

    def __init__(
        self,
        provider: str,
        stt: STT,
        limits: Limits,
        *,
        open_stream: Callable[[STT, APIConnectOptions], Any],
        on_event: Callable[["Child", SpeechEvent], None],
        on_broken: Callable[["Child", Seen], None],
    ) -> None:
        super().__init__(provider, limits)
        self.stt = stt
        self._limits, self._open = limits, open_stream
        self._on_event, self._on_broken = on_event, on_broken
        self._stream: Any = None
        self._socket: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._is_up = False
        self._seen: Seen | None = None
        stt.on("error", self._on_error)

    async def connect(self, limit_s: float) -> Seen | None:
        """Open a stream anew, and wait until it takes what it is given."""
        await self.let_go()
        self._seen, self._is_up, self._socket = None, False, None
        try:
            options = APIConnectOptions(max_retry=0, timeout=limit_s)
            stream = self._stream = self._open(self.stt, options)
        except Exception as error:  # a plugin's constructor must not cost the call the others
            return classify(error, self.provider)
        self._reader = asyncio.create_task(self._read(stream))
        if await self._is_taken(stream, limit_s):
            # From here on: a socket that is lost while the tail is said is lost all the same.
            self._is_up, self._socket = True, getattr(stream, "_ws", None)
            self.came_up()
            return None
        return self._seen or Seen("timeout")

    async def _is_taken(self, stream: Any, limit_s: float) -> bool:
        """Whether the stream reads what is pushed into it: a plugin does when it is connected.

        Nothing else says so for every plugin. One that hides its channel is believed at once, and
        a connection that it cannot have is seen as a drop.
        """
        channel = getattr(stream, "_input_ch", None)
        if channel is None or not hasattr(channel, "empty"):
            return True
        stream.flush()
        assert self._reader
        for _ in range(round(limit_s / LOOK_EVERY_S)):  # not by the clock: see `wait_fairly`
            if channel.empty() or self._reader.done():
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return bool(channel.empty()) and not self._reader.done()

    async def heal(self, limit_s: float) -> Seen | None:
        """Open a new stream in the place of the one that broke."""
        return await self.connect(limit_s)

    async def say(self, item: Any) -> None:
        """Give it a kept piece: audio, or the end of a segment."""
        self.push(item)

    def push(self, item: Any) -> None:
        """Give it audio, the end of a segment, or None: nothing more comes."""
        if self._stream is None or item is BEGINNING:
            return
        with contextlib.suppress(RuntimeError):  # it has just ended, which its reader tells
            if isinstance(item, rtc.AudioFrame):
                self._stream.push_frame(item)
            elif item is FLUSH:
                self._stream.flush()
            else:
                self._stream.end_input()

    def lost_silently(self) -> bool:
        """Whether the plugin has connected anew by itself, and has not said so; true once.

        Soniox's does: what was under way is lost then, unless it is said again.
        """
        socket = getattr(self._stream, "_ws", None)
        known, self._socket = self._socket, socket
        return known is not None and socket is not known

    async def finished(self) -> None:
        """Wait until the stream has said everything."""
        if self._reader:
            await asyncio.wait({self._reader})

    async def let_go(self) -> None:
        """Close the stream; a peer that does not answer is not waited for long."""
        stream, self._stream = self._stream, None
        reader, self._reader = self._reader, None
        if reader:
            reader.cancel()
        if stream is not None:
            closing = asyncio.ensure_future(stream.aclose())
            await asyncio.wait({closing}, timeout=self._limits.disconnect_s)
            if not closing.done() or closing.exception():
                closing.cancel()
                log.info("%s was not closed in order", self.provider)

    async def _read(self, stream: Any) -> None:
        broken: Seen | None = None
        try:
            async for event in stream:
                self._on_event(self, event)
        except Exception as error:
            broken = self._seen = self._seen or classify(error, self.provider)
        if stream is self._stream and self._is_up and broken:
            self._on_broken(self, broken)

    def _on_error(self, event: Any) -> None:
        # Read here and not where it is raised again: on its way it loses what caused it.
        self._seen = classify(event.error, self.provider)
