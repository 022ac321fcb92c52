"""One client's socket: let in or not, written to by the hub, asked nothing but for a resync."""

import asyncio
import json
import time
from typing import Any, Final, cast

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer

from controlplane import request_id, request_log
from fallback.live import door
from fallback.live.hub import Client, Hub, Send, here
from fallback.live.places import Listener
from fallback.pacing import Buckets

log = structlog.get_logger(__name__)

REQUEST_MAX: Final = 1_000  # characters: there is one thing to say, and it is short
REQUESTS_MAX: Final = 30  # in REQUESTS_S, from one client
REQUESTS_S: Final = 10.0
_explained = Buckets(10, 100)
TOO_LARGE, TOO_MANY, TRY_LATER = 1009, 1008, 1013  # RFC 6455 and its registry


class StatusConsumer(AsyncWebsocketConsumer):
    """`/ws/v1/status`. A client that may not listen gets 403 in place of a socket."""

    channel_layer_alias = "none"  # one reader and no groups: six times faster for 1,000 clients

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hub: Hub | None = None
        self._client: Client | None = None
        self._listener: Listener | None = None
        self._is_dropped = False
        self._requests: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve until the client leaves or is dropped; the server then closes the socket."""
        self._task = asyncio.current_task()
        request_log.mark(scope, request_id.sent_in(scope))
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_dropped or self._task is None:
                raise
            self._task.uncancel()
        finally:
            if self._hub and self._client:
                self._hub.leave(self._client)
            if self._hub and self._listener:
                self._hub.places.leave(self._listener)
                log.debug("feed_closed", kind=self._listener.kind)

    async def connect(self) -> None:
        """Let in who may listen, as long as there is a place."""
        try:
            who = await door.let_in(self.scope)
        except door.TryLater as error:
            await self._refuse(str(error))
            return
        if who is None:
            log.warning("feed_refused", why="no key or session that may listen")
            await self.close()
            return
        hub = here()
        if why := hub.places.take(who):
            await self._refuse(why)
            return
        self._hub, self._listener = hub, who
        log.info("feed_opened", kind=who.kind, name=who.name)
        await self.accept()
        self._client = Client(cast(Send, self.base_send), self._drop, self._may_still)
        hub.join(self._client)

    async def _refuse(self, why: str) -> None:
        """Say why, and that it may be tried again. Only an open socket can be told so, and it stays
        for ten seconds if its client does not close it: in a flood of them most get 403."""
        log.warning("feed_refused", why=why)
        if _explained.take("all", time.monotonic()) == 0:
            await self.accept()
        await self.close(TRY_LATER, reason=why)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Answer `{"type": "resync"}` with a snapshot; what is anything else is not for us."""
        if len(text_data or bytes_data or "") > REQUEST_MAX:
            await self.close(TOO_LARGE)
        elif self._is_too_much():
            await self.close(TOO_MANY)
        elif text_data and _kind_of(text_data) == "resync" and self._hub and self._client:
            self._hub.resync(self._client)

    def _is_too_much(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        self._requests = [at_s for at_s in self._requests if at_s > now_s - REQUESTS_S][-100:]
        self._requests.append(now_s)
        return len(self._requests) > REQUESTS_MAX

    async def _may_still(self) -> bool:
        return await door.may_still(self.scope)

    def _drop(self) -> None:
        self._is_dropped = True
        if self._task is not None:
            self._task.cancel()


async def nowhere(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a socket at any other address: no stranger's request is an error of ours."""
    request_log.mark(scope, request_id.sent_in(scope))
    log.warning("feed_refused", why="no such address")
    await receive()
    await send({"type": "websocket.close"})


def _kind_of(text: str) -> str:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return str(message.get("type", "")) if isinstance(message, dict) else ""
