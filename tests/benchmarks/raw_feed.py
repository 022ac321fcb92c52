"""The yardstick: raw ASGI sockets, one reader of the event stream, each entry to all of them."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

Send = Callable[[dict[str, Any]], Awaitable[None]]
clients: set[Send] = set()
reading: list[asyncio.Task[None]] = []


async def read() -> None:
    """Send each entry of the stream to everybody, one after the other."""
    client = redis.asyncio.Redis(unix_socket_path=os.environ["RAW_REDIS"])
    after = "$"
    while True:
        reply = await client.xread({"{default:stt}:events": after}, block=250)
        for _, entries in reply or ():
            for entry_id, fields in entries:
                after = entry_id
                text = json.dumps({name.decode(): value.decode() for name, value in fields.items()})
                for send in list(clients):
                    await send({"type": "websocket.send", "text": text})


async def application(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """Take a socket, and keep it until it is left."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    if not reading:
        reading.append(asyncio.create_task(read()))
    clients.add(send)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    clients.discard(send)
