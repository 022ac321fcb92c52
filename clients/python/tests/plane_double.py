"""A small server that speaks the contract's feed and REST, with faults on demand.

For what the real control plane does not do on request: hang, fail, be slow, miss a change.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web


def breaker(provider: str, state: str, until: str | None = None) -> dict[str, Any]:
    """Return a breaker as the status shows it."""
    return {"provider": provider, "kind": "stt", "state": state, "until": until}


class PlaneDouble:
    """`fault`: None, "hang", "500", "429", "slow" or "lost" (takes outcomes, then answers 500)."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.has_feed = True
        self.version = 1
        self.breakers = {p: breaker(p, "closed") for p in ("soniox", "deepgram")}
        self.at = "2026-11-22T12:00:00.000Z"
        self.sockets: set[web.WebSocketResponse] = set()
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.taken: dict[str, int] = {}
        self.bodies: dict[str, dict[str, Any]] = {}
        self.url = ""

    def status(self) -> dict[str, Any]:
        """The body of GET status. The order is that of now, as the real one's."""
        chain = [("soniox", 1, {"model": "s"}), ("deepgram", 2, {"model": "d"})]
        chain.sort(key=lambda one: self.breakers[one[0]]["state"] != "closed")
        order = [
            {"provider": name, "position": position, "settings": settings, "languages": []}
            for name, position, settings in chain
        ]
        route = {"route": "r", "kind": "stt", "fallback_enabled": True, "order": order}
        route["on_mid_call_failure"] = "swap"
        return {
            "version": self.version,
            "at": self.at,
            "breakers": list(self.breakers.values()),
            "routes": [route],
        }

    async def move(self, provider: str, state: str, *, is_told: bool = True, **values: Any) -> None:
        """Move a breaker, and tell it on the feed unless it gets lost."""
        self.breakers[provider] = {**breaker(provider, state), **values}
        before, self.version = self.version, self.version + 1
        body = {"type": "change", "version": self.version, "previous": before}
        if is_told:
            await self.send({**body, "breakers": [self.breakers[provider]], "transition": {}})

    async def beat(self) -> None:
        """Send a beat."""
        await self.send({"type": "beat", "version": self.version, "at": self.at})

    async def send(self, body: object) -> None:
        """Send anything to every listener."""
        for socket in list(self.sockets):
            await socket.send_str(body if isinstance(body, str) else json.dumps(body))

    # --- what it serves

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("feed")
        if not self.has_feed:
            raise web.HTTPNotFound
        self.keys.add(request.headers["Authorization"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        await socket.send_json({"type": "snapshot", **self.status()})
        async for message in socket:
            if message.type is WSMsgType.TEXT and json.loads(message.data)["type"] == "resync":
                self.asked.append("resync")
                await socket.send_json({"type": "snapshot", **self.status()})
        self.sockets.discard(socket)
        return socket

    async def _status(self, request: web.Request) -> web.Response:
        self.asked.append("status")
        await self._stumble()
        etag = f'"{self.version}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return web.json_response(self.status(), headers={"ETag": etag})

    async def _decide(self, request: web.Request) -> web.Response:
        self.asked.append("decide")
        await self._stumble()
        steps = [{"provider": name, "settings": {}} for name in ("soniox", "deepgram")]
        return web.json_response(
            {"order": steps, "mode": "primary", "probe": None, "on_mid_call_failure": "swap"}
        )

    async def _report(self, request: web.Request) -> web.Response:
        self.asked.append("report")
        if self.fault != "lost":
            await self._stumble()
        results = []
        for outcome in (await request.json())["outcomes"]:
            first = outcome["id"] not in self.taken
            self.taken[outcome["id"]] = self.taken.get(outcome["id"], 0) + 1
            self.bodies.setdefault(outcome["id"], outcome)
            status = "accepted" if first else "duplicate"
            results.append({"id": outcome["id"], "status": status, "next": None})
        if self.fault == "lost":
            raise web.HTTPInternalServerError
        return web.json_response({"results": results, "version": self.version})

    async def _stumble(self) -> None:
        if self.fault == "hang":
            await asyncio.sleep(60)
        if self.fault == "slow":
            await asyncio.sleep(0.2)
        if self.fault == "500":
            raise web.HTTPInternalServerError
        if self.fault == "429":
            raise web.HTTPTooManyRequests

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PlaneDouble"]:
        """Serve in the block."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/ws/v1/status", self._feed),
                web.get("/api/v1/status", self._status),
                web.post("/api/v1/decisions", self._decide),
                web.post("/api/v1/outcomes", self._report),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for socket in list(self.sockets):
                await socket.close()
            await runner.cleanup()
