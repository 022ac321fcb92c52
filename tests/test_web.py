"""`manage.py web`: the options of the server, and whom it believes about a request's origin."""

from typing import Any

import httpx
import pytest
import uvicorn

from fallback.management.commands.web import options
from tests.serving import running_server

FORGED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}


async def told(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with whom the server takes for the client, and by which scheme."""
    body = f"{scope['client'][0]} {scope['scheme']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def seen() -> str:
    """Return what the application is told of a request from this machine with a forged address."""
    config = uvicorn.Config(told, host="127.0.0.1", port=0, **{**options(), "log_level": "error"})
    async with running_server(config) as address, httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://{address}/", headers=FORGED)).text


async def test_s19_nobody_is_believed_unless_a_proxy_is_named():
    assert await seen() == "127.0.0.1 http"


@pytest.mark.parametrize("named", ["127.0.0.1", "127.0.0.0/8"])
async def test_s19_a_proxy_that_is_named_is_believed(settings, named: str):
    settings.FORWARDED_ALLOW_IPS = [named]

    assert await seen() == "203.0.113.7 https"


async def test_s19_another_address_than_the_named_one_is_not_believed(settings):
    settings.FORWARDED_ALLOW_IPS = ["10.0.0.0/8"]

    assert await seen() == "127.0.0.1 http"
