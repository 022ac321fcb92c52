"""How a request runs under ASGI: one visit to a thread, and threads of their own for calls."""

import asyncio
import threading
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from controlplane.handler import PAGES, Handler

seen: list[str] = []
release = threading.Event()


def page(_request: HttpRequest) -> HttpResponse:
    """Note the thread."""
    seen.append(threading.current_thread().name)
    return HttpResponse(b"done")


def hang(_request: HttpRequest) -> HttpResponse:
    """Wait as for a database that is away."""
    release.wait(20)
    return HttpResponse(b"late")


def watching(get_response: Any) -> Any:
    """A synchronous middleware that notes its thread before and after."""

    def middleware(request: HttpRequest) -> HttpResponse:
        seen.append(threading.current_thread().name)
        response = get_response(request)
        seen.append(threading.current_thread().name)
        return response

    return middleware


urlpatterns = [path("page", page), path("hang", hang), path("api/v1/decisions", page)]


@pytest.fixture
def handler(settings) -> Handler:
    seen.clear()
    release.clear()
    settings.ROOT_URLCONF = __name__
    own = f"{__name__}.watching"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:3], own, *settings.MIDDLEWARE[3:], own]
    return Handler()


async def get(handler: Handler, path: str) -> tuple[int, bytes]:
    """Ask for a path as uvicorn does; return status and body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"",
             "headers": [(b"host", b"testserver")], "client": ("127.0.0.1", 1)}  # fmt: skip
    await handler(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_all_that_is_synchronous_runs_in_one_visit_to_one_thread(handler: Handler) -> None:
    assert await get(handler, "/page") == (200, b"done")

    assert len(seen) == 5
    assert len(set(seen)) == 1
    assert seen[0].startswith("page")


async def test_health_and_static_files_enter_no_thread(handler: Handler) -> None:
    status, style = await get(handler, "/static/admin/css/base.css")

    assert (status, b"{" in style) == (200, True)
    assert (await get(handler, "/livez"))[0] == 200
    assert seen == []


async def test_a_decision_finds_a_thread_while_every_page_hangs(handler: Handler) -> None:
    hanging = [asyncio.create_task(get(handler, "/hang")) for _ in range(PAGES.threads + 1)]
    try:
        answer = await asyncio.wait_for(get(handler, "/api/v1/decisions"), 5)
    finally:
        release.set()
        await asyncio.gather(*hanging)

    assert answer == (200, b"done")
    assert any(name.startswith("call") for name in seen)
