"""The product's ASGI application on a real uvicorn, in the test's own loop, and feed clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from controlplane.asgi import application
from controlplane.connections import Connection


@asynccontextmanager
async def serving(app: Any = application) -> AsyncIterator[str]:
    """Serve in the block; yield `host:port`."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        lifespan="off",
        http=Connection,
        log_level="error",
        timeout_graceful_shutdown=3,
    )
    async with running_server(config) as address:
        yield address


@asynccontextmanager
async def running_server(config: uvicorn.Config) -> AsyncIterator[str]:
    """Run a server in the block; yield `host:port`."""
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


def listen(address: str, key: str = "", **options: Any) -> connect:
    """Return a connection to the feed, to be entered; with a key unless that is empty."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= options.pop("headers", {})
    return connect(
        f"ws://{address}/ws/v1/status", additional_headers=headers, proxy=None, **options
    )


async def heard(feed: ClientConnection, kind: str, within_s: float = 5.0) -> dict[str, Any]:
    """Return the next message of this kind, past others."""
    async with asyncio.timeout(within_s):
        while (message := json.loads(await feed.recv()))["type"] != kind:
            pass
    return message
