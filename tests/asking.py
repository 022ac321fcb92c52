"""Requests straight to the handler, as a server passes them on."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.handler import Handler


@dataclass
class Answered:
    """A response. `read` is how many pieces of the body were taken before it was begun."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    read: int = 0

    @property
    def problem(self) -> dict[str, Any]:
        """Return the problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        found: dict[str, Any] = json.loads(self.body)
        return found


async def ask(
    handler: Handler,
    path: str,
    method: str = "GET",
    *,
    body: Iterable[bytes] = (b"",),
    headers: dict[str, str] | None = None,
    query: str = "",
    client: str = "127.0.0.1",
    scheme: str = "http",
) -> Answered:
    """Ask for a path as uvicorn does; the body comes in these pieces, and then for ever no more."""
    answered, pieces, taken = Answered(), list(body), 0
    sent = {"host": "testserver", **(headers or {})}

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        if not pieces:
            await asyncio.Event().wait()
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.status, answered.read = message["status"], taken
            answered.headers = {
                str(name, "latin-1").lower(): str(value, "latin-1")
                for name, value in message["headers"]
            }
        answered.body += message.get("body", b"")

    scope = {
        "type": "http",
        "scheme": scheme,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
        "client": (client, 1),
    }
    await handler(scope, receive, send)
    return answered
