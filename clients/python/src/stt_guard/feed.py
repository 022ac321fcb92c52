"""Keeps the picture fresh: the WebSocket feed, and polling with an ETag where there is none."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp

from stt_guard.memory import Memory
from stt_guard.state import Picture

FeedMode = Literal["auto", "poll", "off"]
CONNECT_S: Final = 5.0
SILENCE_S: Final = 15.0  # three beats; longer than that and the socket is dead
POLL_S: Final = 2.0
NO_FEED_S: Final = 60.0  # how long a server that has no feed is only polled
REFRESH_S: Final = 60.0  # the whole status is asked for this often, whatever changes said
RESYNC_S: Final = 0.5  # the server holds its status for a moment, and answers 3 a second
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_LAST_S: Final = 5.0
MESSAGE_MAX: Final = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Feed:
    """Listens from the running loop's own task. `heard_s` is when it last heard (monotonic)."""

    base_url: str
    headers: Mapping[str, str]
    session: Callable[[], aiohttp.ClientSession]
    picture: Picture
    memory: Memory
    mode: FeedMode = "auto"
    clock: Callable[[], float] = time.monotonic
    heard_s: float = float("-inf")
    first: asyncio.Event = field(default_factory=asyncio.Event)  # something is known
    _etag: str = ""
    _no_feed_until_s: float = float("-inf")
    _asked_s: float = float("-inf")
    _whole_s: float = float("-inf")

    @property
    def age_s(self) -> float:
        """How long ago the server was heard, in seconds."""
        return self.clock() - self.heard_s

    async def run(self) -> None:
        """Listen for ever; every failure only makes the picture older."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            heard = False
            try:
                heard = await self._listen() or await self._poll()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError, KeyError):
                log.debug("the control plane is not heard", exc_info=True)
            except Exception:  # a fault of ours must not make the client deaf for ever
                log.exception("the feed failed; it is tried again")
            backoff_s = BACKOFF_FIRST_S if heard else min(backoff_s * 2, BACKOFF_LAST_S)
            await asyncio.sleep((POLL_S if heard else backoff_s) * random.uniform(0.8, 1.2))

    async def _listen(self) -> bool:
        """Follow the feed until it ends; False when there is none."""
        if self.mode == "poll" or self.clock() < self._no_feed_until_s:
            return False
        url = self.base_url.replace("http", "ws", 1) + "/ws/v1/status"
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await self.session().ws_connect(
                    url, headers=self.headers, max_msg_size=MESSAGE_MAX
                )
        except aiohttp.WSServerHandshakeError as error:
            self._no_feed_until_s = self.clock() + NO_FEED_S
            log.info("no feed (%s): polling every %g s", error.status, POLL_S)
            return False
        try:
            await self._follow(socket)
        finally:
            await socket.close()
        return False  # then look at once, and listen again soon

    async def _follow(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await socket.receive(timeout=SILENCE_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return
            if not self._take(json.loads(message.data)):
                await self._ask_for_all(socket)

    def _take(self, body: Mapping[str, Any]) -> bool:
        """Take one message; False when the whole status is needed."""
        kind = body.get("type")
        if kind == "snapshot":
            self._replace(body)
            return True
        if kind == "change":
            is_whole = self.picture.change(body)
            self.picture.tick(body.get("at"), self.clock())
            self._heard()
            return is_whole
        if kind == "beat":
            self.picture.tick(body.get("at"), self.clock())
            self._heard()
            is_old = self.clock() - self._whole_s > REFRESH_S
            return body.get("version") == self.picture.version and not is_old
        return True  # a word of a later version

    async def _ask_for_all(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if self.clock() - self._asked_s >= RESYNC_S:
            self._asked_s = self.clock()
            await socket.send_str('{"type": "resync"}')

    async def _poll(self) -> bool:
        """Ask for the status once; True when it was told, or when nothing is new."""
        headers = {**self.headers, "If-None-Match": self._etag} if self._etag else self.headers
        async with (
            asyncio.timeout(CONNECT_S),
            self.session().get(f"{self.base_url}/api/v1/status", headers=headers) as response,
        ):
            if response.status == 304:
                self._heard()
                return True
            if response.status != 200:
                log.info("the status cannot be had: %s", response.status)
                return False
            self._replace(await response.json())
            self._etag = response.headers.get("ETag", "")
            return True

    def _replace(self, body: Mapping[str, Any]) -> None:
        self.picture.replace(body, self.clock())
        self._whole_s = self.clock()
        self._heard()

    def _heard(self) -> None:
        self.heard_s = self.clock()
        if self.picture.is_known:
            self.first.set()
            self.memory.save(self.picture.body())
