"""The least an HTTP decision could cost: a bare ASGI app, one pipelined Redis connection.

It checks a key, reads the body, asks the same script for the same chain and answers JSON; nothing
else of what the contract promises. `python -m uvicorn tests.benchmarks.bare:application`
"""

import asyncio
import hashlib
import hmac
import json
import os
import secrets
from collections import deque
from typing import Any

import hiredis
import redis

from fallback.breaker import scripts

SOCKET = os.environ["BENCHMARK_REDIS"]
KEY = os.environ["BENCHMARK_KEY"]
CHAIN = ("soniox", "deepgram")
PEPPER = b"the same work as for a real key"
EXPECTED = hmac.digest(PEPPER, KEY.encode(), hashlib.sha256)
DECIDE = scripts.build()["decide"]


class Pipelined:
    """Commands of concurrent requests, written together, answered in order."""

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._connected: asyncio.Task[asyncio.StreamWriter] | None = None

    async def ask(self, *command: str) -> Any:
        """Return the reply to one command."""
        loop = asyncio.get_running_loop()
        if self._connected is None:
            self._connected = loop.create_task(self._connect())
        writer = await self._connected
        if not self._out:
            loop.call_soon(self._flush, writer)
        self._out.append(hiredis.pack_command(command))
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(answer)
        return await answer

    async def _connect(self) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_unix_connection(SOCKET)
        self._reading = asyncio.create_task(self._read(reader))
        return writer

    def _flush(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(self._out))
        self._out.clear()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                self._waiting.popleft().set_result(reply)


with redis.Redis(unix_socket_path=SOCKET) as client:
    client.script_load(DECIDE.text)
connection = Pipelined()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer a decision."""
    sent = dict(scope["headers"])[b"authorization"].removeprefix(b"Bearer ")
    if not hmac.compare_digest(hmac.digest(PEPPER, sent, hashlib.sha256), EXPECTED):
        raise PermissionError("not the key of this run")
    asked = json.loads((await receive())["body"])
    keys = [f"{{default:stt}}:{name}" for name in ("breakers", "policies", "events")]
    keys.append(f"{{default:stt}}:call:{asked['call_id']}")
    chain = [word for name in CHAIN for word in (name, "ask")]
    arguments = [secrets.token_hex(8), asked["call_id"], asked["route"], "probe", "", "", *chain]
    reply = await connection.ask("EVALSHA", DECIDE.sha, str(len(keys)), *keys, *arguments)
    chosen = CHAIN[int(reply[3]) - 1]
    body = json.dumps({"call_id": asked["call_id"], "provider": chosen}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
