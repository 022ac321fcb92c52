"""How a request runs under ASGI: one visit to a thread, and threads of their own for calls."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from controlplane import handler as handling
from controlplane.handler import PAGES, Handler
from controlplane.pools import Pool
from tests.asking import ask
from tests.configuration import make_route
from tests.rest import api, make_key, outcome

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


def either(request: HttpRequest) -> HttpResponse:
    """Hang if told so."""
    return hang(request) if "hang" in request.GET else page(request)


urlpatterns = [
    path("page", page),
    path("hang", hang),
    path("admin/login/", either),
    path("api/v1/decisions", either),
    path("api/v1/outcomes", either),
    path("api/v1/status", either),
    path("api/v1/transitions", hang),
]


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


@asynccontextmanager
async def hanging(handler: Handler, path: str, count: int) -> AsyncIterator[None]:
    """Have so many requests hang in the block."""
    tasks = [asyncio.create_task(ask(handler, path, query="hang=1")) for _ in range(count)]
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        release.set()
        await asyncio.gather(*tasks)


async def test_a8_status_does_not_wait_behind_pages_that_hang(handler: Handler) -> None:
    async with hanging(handler, "/api/v1/transitions", 80):
        answer = await asyncio.wait_for(ask(handler, "/api/v1/status"), 5)

    assert (answer.status, answer.body) == (200, b"done")


async def test_s8_a_flood_of_sign_ins_takes_no_thread_of_pages_or_status(handler: Handler) -> None:
    async with hanging(handler, "/admin/login/", 64):
        pages = [ask(handler, path) for path in ("/page", "/api/v1/status", "/api/v1/decisions")]
        answers = await asyncio.wait_for(asyncio.gather(*pages), 5)

    assert [answer.status for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize(
    ("path", "pool"),
    [("/page", PAGES), ("/api/v1/status", handling.STATUS), ("/admin/login/", handling.SIGN_IN)],
)
async def test_s7_whoever_finds_the_queue_full_is_told_at_once(handler, path, pool) -> None:
    filler = "/hang" if path == "/page" else path
    async with hanging(handler, filler, pool.room):
        answer = await asyncio.wait_for(ask(handler, path), 1)

    assert answer.problem["status"] == answer.status == 503
    assert (answer.problem["code"], answer.headers["retry-after"]) == ("busy", "1")
    assert answer.problem["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-frame-options"] == "DENY"


async def test_s7_whoever_waits_in_the_queue_for_too_long_is_told(handler, monkeypatch) -> None:
    monkeypatch.setattr(PAGES, "wait_s", 0.1)
    async with hanging(handler, "/hang", PAGES.threads):
        late = await asyncio.wait_for(ask(handler, "/page"), 5)
    after = await ask(handler, "/page")

    assert (late.status, after.status) == (503, 200)
    assert PAGES.under_way == 0


async def test_s7_no_decision_is_a_503_however_full_it_is(handler, monkeypatch) -> None:
    for name in ("CALLS", "LATE"):
        monkeypatch.setattr(handling, name, Pool(name, threads=1, waiting=0, wait_s=0.1))
    async with hanging(handler, "/api/v1/outcomes", 2):
        decision = await asyncio.wait_for(ask(handler, "/api/v1/decisions"), 5)
        outcome = await asyncio.wait_for(ask(handler, "/api/v1/outcomes"), 5)

    assert (decision.status, decision.headers["retry-after"]) == (429, "1")
    assert (outcome.status, outcome.headers["retry-after"]) == (503, "1")


@contextmanager
def locked(table: str) -> Iterator[None]:
    """Have every read of a table hang in the block."""
    with psycopg.connect(**psycopg_parameters()) as own:
        own.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        own.rollback()


def psycopg_parameters() -> dict[str, Any]:
    """Return how the test's database is reached."""
    wanted = connection.get_connection_params()
    return {
        name: wanted[name]
        for name in ("host", "port", "dbname", "user", "password")
        if name in wanted
    }


@pytest.fixture
def key() -> str:
    """Return a reader's key, with an outage that no pump has stored: only the database could know
    its number, and is asked for it again and again."""
    make_route()
    made = make_key("reader")
    api().report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))
    return made


@pytest.mark.skipif(connection.vendor != "postgresql", reason="locks a table of PostgreSQL's")
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
async def test_a8_status_is_answered_while_80_reads_hang_on_a_locked_table(key) -> None:
    handler, headers = Handler(), {"authorization": f"Bearer {key}"}
    first = await ask(handler, "/api/v1/status", headers=headers)
    with locked("fallback_transition, fallback_incident"):
        reads = [
            asyncio.create_task(ask(handler, "/api/v1/transitions", headers=headers))
            for _ in range(80)
        ]
        await asyncio.sleep(1)
        took_s = []
        for _ in range(5):
            began_s = time.monotonic()
            now = await ask(handler, "/api/v1/status", headers=headers)
            took_s.append(time.monotonic() - began_s)
            await asyncio.sleep(0.3)
    found = [read.status for read in await asyncio.gather(*reads)]

    assert (first.status, now.status) == (200, 200)
    assert max(took_s) < 1.5, took_s
    assert set(found) <= {200, 503}
