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


SLOW_S = {"slow": 0.2, "slower": 0.5}


class PlaneDouble:
    """A control plane of the route `r`: `soniox`, then `deepgram`; `disabled` is a step too.

    `fault` is None, or what all that is asked meets: a status ("401", "500", …), "hang", "reset",
    "slow" (0.2 s), "slower" (0.5 s), "garbage" (a page, with 200), "foreign" (JSON, but not ours),
    or "lost" (takes outcomes, then answers 500). A feed that is open stays open.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self.has_feed = True
        self.version = 1
        self.breakers = {p: breaker(p, "closed") for p in ("soniox", "deepgram")}
        self.at = "2026-11-22T12:00:00.000Z"
        self.sockets: set[web.WebSocketResponse] = set()
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.headers: dict[str, dict[str, str]] = {}  # of the last request, by what was asked
        self.extra: list[str] = []  # providers that the route has besides
        self.says_why = True  # in a 409 too: servers before 0.2 have it in the sentence alone
        self.taken: dict[str, int] = {}
        self.bodies: dict[str, dict[str, Any]] = {}
        self.url = ""

    def status(self) -> dict[str, Any]:
        """The body of GET status. The order is that of now, as the real one's."""
        chain = [("soniox", 1, {"model": "s"}), ("deepgram", 2, {"model": "d"})]
        chain += [(name, place, {}) for place, name in enumerate(self.extra, start=3)]
        chain.sort(key=lambda one: self._is_out(one[0]))
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

    def _is_out(self, provider: str) -> bool:
        return provider in self.breakers and self.breakers[provider]["state"] != "closed"

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
        self._note("feed", request)
        if not self.has_feed:
            raise web.HTTPNotFound
        if (answer := await self._stumble(request)) is not None:
            return answer
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
        self._note("status", request)
        if (answer := await self._stumble(request)) is not None:
            return answer
        etag = f'"{self.version}-{len(self.extra)}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return web.json_response(self.status(), headers={"ETag": etag})

    async def _decide(self, request: web.Request) -> web.Response:
        self._note("decide", request)
        if (answer := await self._stumble(request)) is not None:
            return answer
        asked = await request.json()
        steps = ["soniox", "deepgram", *self.extra]
        if asked["route"] != "r":
            detail = f"There is no route {asked['route']!r}; there are: r."
            return _problem(404, "not_found", detail)
        can_use = asked.get("can_use")
        verdicts = {name: "admitted" if _may(name, can_use) else "not_usable" for name in steps}
        verdicts["disabled"] = "disabled"
        usable = [name for name, verdict in verdicts.items() if verdict == "admitted"]
        if not usable:
            why = "; ".join(f"{name}: {verdict} (so)" for name, verdict in verdicts.items())
            text = f"route r has no provider that this call could use: {why}"
            more = {"why": _lines(verdicts, can_use)} if self.says_why else {}
            return _problem(409, "no_usable_provider", text, **more)
        usable.sort(key=self._is_out)
        return web.json_response(
            {
                "order": [{"provider": name, "settings": {}} for name in usable],
                "mode": "primary" if usable[0] == "soniox" else "fallback",
                "probe": None,
                "on_mid_call_failure": "swap",
                "why": _lines(verdicts, can_use),
            }
        )

    async def _report(self, request: web.Request) -> web.Response:
        self._note("report", request)
        answer = None if self.fault == "lost" else await self._stumble(request)
        if answer is not None:
            return answer
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

    def _note(self, what: str, request: web.Request) -> None:
        self.asked.append(what)
        self.headers[what] = dict(request.headers)

    async def _stumble(self, request: web.Request) -> web.Response | None:
        """Do what the fault says; return what is then answered, None for the right answer."""
        fault = self.fault or ""
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "reset":
            assert request.transport
            request.transport.abort()
        await asyncio.sleep(SLOW_S.get(fault, 0))
        if fault.isdigit():
            return web.Response(status=int(fault), text="no")
        if fault == "foreign":
            return web.json_response({"status": "ok"})
        if fault == "garbage":
            return web.Response(text="<h1>Welcome</h1>", content_type="text/html")
        return None

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


def _may(name: str, can_use: list[str] | None) -> bool:
    return can_use is None or name in can_use


def _lines(verdicts: dict[str, str], can_use: list[str] | None) -> list[dict[str, str]]:
    """Return why, a line for each step and for each other name that was given."""
    strangers = {name: "not_usable" for name in can_use or () if name not in verdicts}
    return [{"provider": name, "verdict": one} for name, one in (verdicts | strangers).items()]


def _problem(status: int, code: str, detail: str, **more: object) -> web.Response:
    return web.json_response(
        {"status": status, "code": code, "detail": detail, **more},
        status=status,
        content_type="application/problem+json",
    )
