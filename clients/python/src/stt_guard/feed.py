"""Keeps the picture fresh: the WebSocket feed, and polling with an ETag where there is none.

A refused handshake alone does not say that there is no feed: a key that is being changed and a
balancer without servers refuse it too. Only a status that can be had at the same time says so.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from stt_guard.environment import FeedMode
from stt_guard.memory import Memory
from stt_guard.said import Said, advice
from stt_guard.state import Picture

CONNECT_S: Final = 5.0
SILENCE_S: Final = 15.0  # three beats; longer than that and the socket is dead
POLL_S: Final = 2.0
NO_FEED_FIRST_S: Final = 1.0  # how long a server without a feed is only polled,
NO_FEED_LAST_S: Final = 60.0  # twice as long each time, up to this
REFRESH_S: Final = 60.0  # the whole status is asked for this often, whatever changes said
RESYNC_S: Final = 0.5  # the server holds its status for a moment, and answers 3 a second
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_LAST_S: Final = 5.0
MESSAGE_MAX: Final = 4 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Feed:
    """Listens in the loop it was made in, and is the one writer of its picture.

    `heard_s` is when it last heard (monotonic).
    """

    base_url: str
    headers: Mapping[str, str]
    session: Callable[[], aiohttp.ClientSession]
    picture: Picture
    memory: Memory
    said: Said
    mode: FeedMode = "auto"
    clock: Callable[[], float] = time.monotonic
    heard_s: float = float("-inf")
    first: asyncio.Event = field(default_factory=asyncio.Event)  # something is known
    _etag: str = ""
    _is_refused: bool = False
    _no_feed_until_s: float = float("-inf")
    _no_feed_s: float = NO_FEED_FIRST_S
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
                await self._listen()
                heard = await self._look()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError, KeyError):
                log.debug("the control plane is not heard", exc_info=True)
            except Exception:  # a fault of ours must not make the client deaf for ever
                log.exception("the feed failed; it is tried again")
            backoff_s = BACKOFF_FIRST_S if heard else min(backoff_s * 2, BACKOFF_LAST_S)
            await asyncio.sleep((POLL_S if heard else backoff_s) * random.uniform(0.8, 1.2))

    async def _listen(self) -> None:
        """Follow the feed until it ends, or return at once where there is none."""
        if self.mode == "poll" or self.clock() < self._no_feed_until_s:
            return
        url = self.base_url.replace("http", "ws", 1) + "/ws/v1/status"
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await self.session().ws_connect(
                    url, headers=self.headers, max_msg_size=MESSAGE_MAX
                )
        except aiohttp.WSServerHandshakeError as error:
            log.debug("the feed is refused with %s", error.status)
            self._is_refused = True
            return
        self._no_feed_s = NO_FEED_FIRST_S
        try:
            await self._follow(socket)
        finally:
            await socket.close()

    async def _look(self) -> bool:
        """Ask once; where that works and the feed was refused, leave the feed alone for a while."""
        is_refused, self._is_refused = self._is_refused, False
        heard = await self._poll()
        if heard and is_refused:
            self._no_feed_until_s = self.clock() + self._no_feed_s
            log.info("no feed: polling every %g s for %g s", POLL_S, self._no_feed_s)
            self._no_feed_s = min(self._no_feed_s * 2, NO_FEED_LAST_S)
        return heard

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
                status = response.status
                self.said.warn("the status cannot be had: %d%s", status, advice(status))
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
