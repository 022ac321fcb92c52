"""One provider's Pipecat service within a call: connected when it is wanted, and let go.

Uses two of Pipecat's private methods, on the instance: `_connect` and `_disconnect`. A standby is
set up with the others but opens no socket, for providers count and bill sockets.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from pipecat.frames.frames import Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.stt_service import STTService

from stt_guard.classify import classify
from stt_guard.failover import Leg, Limits, wait_fairly
from stt_guard.words import Seen

log = logging.getLogger(__name__)


class Member(Leg):
    """A provider and its service. `swallow` is given each frame that is said to it a second time.

    `refused` is called when the connection of its set-up could not be had.
    """

    def __init__(
        self,
        provider: str,
        service: STTService,
        limits: Limits,
        *,
        refused: Callable[["Member", Seen], None],
        swallow: Callable[[Frame], None],
    ) -> None:
        super().__init__(provider, limits)
        self.service = service
        self.is_wanted = False  # whether it may open a socket
        self.shows_link = False
        self.error: Seen | None = None  # what it said last of a connection under way, or in use
        self._limits, self._swallow = limits, swallow
        self._refused = refused
        self._is_connecting = False
        self._is_down = False
        self._is_leaving = False  # the service disconnects because it was told to
        self._up, self._errored = asyncio.Event(), asyncio.Event()
        self._attempt: asyncio.Future[Any] | None = None
        self._real_connect: Callable[[], Awaitable[Any]] | None
        self._real_disconnect: Callable[[], Awaitable[Any]] | None
        self._real_connect = getattr(service, "_connect", None)
        self._real_disconnect = getattr(service, "_disconnect", None)
        if self._real_connect:
            service._connect = self._set_up
        if self._real_disconnect:
            service._disconnect = self._disconnect
        service.add_event_handler("on_connected", self._went_up)
        service.add_event_handler("on_disconnected", self._went_down)

    # --- what it is like

    @property
    def is_usable(self) -> bool:
        """Whether the service still tries by itself (before Pipecat 1.8 it never says so)."""
        return bool(getattr(self.service, "is_usable", True))

    @property
    def is_leaving(self) -> bool:
        """Whether its link is down because it was told so: let go, or to come with new settings."""
        return self._is_leaving or not self.is_wanted

    @property
    def has_link(self) -> bool:
        """Whether it is a service with a connection, and not one of a request for each speech."""
        return self._real_connect is not None

    def lost_silently(self) -> bool:
        """Whether the link is down and the service has not said so; true once for each loss.

        Pipecat's Deepgram service says nothing of a close in order (1000), drops the audio, and
        waits 4 s before it connects again.
        """
        if self._is_down or self._is_connecting or self.is_leaving:
            return False
        self._is_down = _has_lost_connection(self.service)
        return self._is_down

    def took(self, seen: Seen) -> bool:
        """Take an error as the answer to a connection under way; False when there is none."""
        if not self._is_connecting:
            return False
        self.error = self.error or seen
        self._errored.set()
        return True

    # --- as a leg

    async def connect(self, limit_s: float) -> Seen | None:
        """Connect anew. A service without a link forgets what it holds: it is said to it again."""
        if not self.has_link:
            _forget_segments(self.service)
            return None
        if self.is_wanted:
            await self.let_go()
        await self._make_usable()
        self._begin()
        return await self._answer(limit_s)

    async def heal(self, limit_s: float) -> Seen | None:
        """Wait until it is back by itself; connect anew where it does not, or does not show it."""
        if self.shows_link and self.is_usable:
            self._errored.clear()
            waits = [asyncio.ensure_future(one.wait()) for one in (self._up, self._errored)]
            try:
                await wait_fairly(waits, limit_s)
            finally:
                for wait in waits:
                    wait.cancel()
            if self._up.is_set():
                return None
            if self.is_usable:
                return Seen("timeout")
        return await self.connect(limit_s)

    def gave_up(self) -> None:
        """The service will not try again by itself."""
        self._errored.set()

    async def say(self, item: Any) -> None:
        """Say a frame to it that went another way; it is not to leave the pipeline twice."""
        if isinstance(item, InputAudioRawFrame):
            await self.service.process_audio_frame(item, FrameDirection.DOWNSTREAM)
            return
        again = replace(item)
        self._swallow(again)
        await self.service.process_frame(again, FrameDirection.DOWNSTREAM)

    async def let_go(self) -> None:
        """Disconnect within the limit, and stop whatever it tries by itself. Never raises."""
        self.is_wanted = False
        await self._disconnect()

    async def _disconnect(self) -> None:
        """Stand in for the service's own `_disconnect`: let go, at the end, or with new settings.

        Twice where the first goes wrong: a close that hangs or fails leaves Deepgram's connection
        task running, which the second, with the connection gone, cancels.
        """
        self._is_leaving = True
        if self._attempt and not self._attempt.done():
            self._attempt.cancel()
        for _ in range(2):
            if self._real_disconnect is None:
                return
            task = asyncio.ensure_future(self._real_disconnect())
            try:
                await asyncio.wait({task}, timeout=self._limits.disconnect_s)
            finally:
                task.cancel()
            if task.done() and not task.cancelled() and not task.exception():
                return
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.wait({task}, timeout=0.1)
            log.info("%s was not disconnected in order", self.provider)

    # --- connecting

    async def _set_up(self) -> None:
        """Stand in for the service's own `_connect`: the pipeline starts, or settings change."""
        if not self.is_wanted:
            return
        self._begin()
        if error := await self._answer(self._limits.connect_s):
            self._refused(self, error)

    def _begin(self) -> None:
        self.is_wanted, self._is_down, self.error = True, False, None
        self._is_leaving = False
        self._attempt = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        """Connect. Deepgram's service before Pipecat 1.7 only begins to, and says when it has."""
        assert self._real_connect
        await self._real_connect()
        ready = getattr(self.service, "_connection_ready", None)
        if isinstance(ready, asyncio.Event):
            await ready.wait()

    async def _answer(self, limit_s: float) -> Seen | None:
        """Wait for the attempt under way: until it is done, the first error, or the limit."""
        assert self._attempt
        attempt, self._is_connecting = self._attempt, True
        self._errored.clear()
        errored = asyncio.ensure_future(self._errored.wait())
        try:
            await wait_fairly((attempt, errored), limit_s)
        finally:
            errored.cancel()
            self._is_connecting = False
        if attempt.done() and not attempt.cancelled() and (raised := attempt.exception()):
            self.error = self.error or classify(raised, self.provider)
        if self.error is not None:
            return self.error
        if not attempt.done() or attempt.cancelled():
            return Seen("timeout")
        self.came_up()
        return None

    async def _make_usable(self) -> None:
        """Take back Pipecat's verdict on the service: it is tried again."""
        if not self.is_usable:
            await self.service.set_usable(True)

    def _went_up(self, *_: object) -> None:
        self.shows_link = True
        self._up.set()
        self.came_up()

    def _went_down(self, *_: object) -> None:
        self._up.clear()


def _forget_segments(service: STTService) -> None:
    """Empty what a segmented service has gathered, and what it would still ask for."""
    buffer, waiting = (getattr(service, name, None) for name in ("_audio_buffer", "_segment_queue"))
    if isinstance(buffer, bytearray):
        buffer.clear()
    while isinstance(waiting, asyncio.Queue) and not waiting.empty():
        waiting.get_nowait()


def _has_lost_connection(service: STTService) -> bool:
    """Whether a service that keeps its link in `_connection` has none; only Deepgram's does."""
    names = {base.__name__ for base in type(service).__mro__}
    return "DeepgramSTTService" in names and getattr(service, "_connection", service) is None
