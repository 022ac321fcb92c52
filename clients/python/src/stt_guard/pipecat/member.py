"""One provider's service within a call: connected when it is wanted, within a limit, and let go.

Uses two of Pipecat's private methods, on the instance: `_connect` and `_disconnect`. A standby is
set up with the others but opens no socket, for providers count and bill sockets.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pipecat.services.stt_service import STTService

from stt_guard.classify import classify
from stt_guard.words import Seen

log = logging.getLogger(__name__)


class Member:
    """A provider and its service. `refused` is called when a connection could not be had."""

    def __init__(
        self,
        provider: str,
        service: STTService,
        *,
        connect_s: float,
        disconnect_s: float,
        refused: Callable[["Member"], None],
    ) -> None:
        self.provider, self.service = provider, service
        self.is_wanted = False  # whether it may open a socket
        self.is_joining = False  # it is getting ready to take over
        self.error: Seen | None = None
        self.first_connected_s: float | None = None
        self.spoke_s: float | None = None  # the end of the first speech that it should answer
        self.drops = 0  # how often its link went down, as far as it shows that
        self.shows_link = False
        self.up = asyncio.Event()
        self._connect_s, self._disconnect_s, self._refused = connect_s, disconnect_s, refused
        self._errored = asyncio.Event()
        self._is_connecting = False
        self._attempt: asyncio.Future[Any] | None = None
        self._real_connect: Callable[[], Awaitable[Any]] | None
        self._real_disconnect: Callable[[], Awaitable[Any]] | None
        self._real_connect = getattr(service, "_connect", None)
        self._real_disconnect = getattr(service, "_disconnect", None)
        if self._real_connect:
            service._connect = self._connect
        if self._real_disconnect:
            service._disconnect = self.let_go
        service.add_event_handler("on_connected", self._went_up)
        service.add_event_handler("on_disconnected", self._went_down)

    def is_new(self, now_s: float, settle_s: float = 1.0) -> bool:
        """Whether it never was connected for long: then a failure is one of its set-up."""
        return self.first_connected_s is None or now_s - self.first_connected_s < settle_s

    def refuse(self, seen: Seen) -> bool:
        """Take an error as the answer to a connection under way; False when there is none."""
        if not (self._is_connecting or self.is_joining):
            return False
        self.error = self.error or seen
        self._errored.set()
        return True

    async def join(self) -> bool:
        """Connect now; whether it is connected. Its error says why not."""
        self.is_wanted = True
        self.error = None
        await self._connect()
        return self.error is None

    async def _connect(self) -> None:
        """Connect within the limit, or until the first error. Never raises."""
        if not self.is_wanted or self._real_connect is None:
            return
        self.error = None
        self._errored.clear()
        self._is_connecting = True
        attempt = asyncio.ensure_future(self._real_connect())
        errored = asyncio.ensure_future(self._errored.wait())
        self._attempt = attempt
        try:
            await asyncio.wait(
                {attempt, errored},
                timeout=self._connect_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            errored.cancel()
            self._is_connecting = False
        self._judge(attempt)

    def _judge(self, attempt: asyncio.Future[Any]) -> None:
        if attempt.done() and not attempt.cancelled() and (raised := attempt.exception()):
            self.error = self.error or classify(raised, self.provider)
        elif not attempt.done():
            self.error = self.error or Seen("timeout")
        if self.error is None:
            now_s = asyncio.get_running_loop().time()
            self.first_connected_s = self.first_connected_s or now_s
        else:
            self._refused(self)

    async def let_go(self) -> None:
        """Disconnect within the limit, and stop whatever it tries by itself. Never raises.

        Twice where the first goes wrong: a close that hangs or fails leaves Deepgram's connection
        task running, which the second, with the connection gone, cancels.
        """
        if self._attempt and not self._attempt.done():
            self._attempt.cancel()
        for _ in range(2):
            if self._real_disconnect is None:
                return
            task = asyncio.ensure_future(self._real_disconnect())
            try:
                await asyncio.wait({task}, timeout=self._disconnect_s)
            finally:
                task.cancel()
            if task.done() and not task.cancelled() and not task.exception():
                return
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.wait({task}, timeout=0.1)
            log.info("%s was not disconnected in order", self.provider)

    def _went_up(self, *_: object) -> None:
        self.shows_link = True
        self.up.set()

    def _went_down(self, *_: object) -> None:
        if self.up.is_set():
            self.drops += 1
        self.up.clear()
