"""The time of a call begins when its request is here: waiting for a thread is part of it."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from controlplane.handler import CALLS, Handler
from fallback import catalog, deadline, services
from fallback.aside import Aside
from tests.configuration import make_route
from tests.rest import make_key, outcome

pytestmark = pytest.mark.django_db(transaction=True)


def prepared() -> str:
    """Make a route that decisions know, and return a key."""
    make_route()
    key = make_key()
    catalog.reload()
    services.publish_configuration()
    return key


async def post(
    handler: Handler, path: str, key: str, body: Any
) -> tuple[int, dict[str, Any], float]:
    """Ask as uvicorn does; return status, answer and seconds."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [
        (b"host", b"testserver"), (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {key}".encode()),
    ]  # fmt: skip
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"",
             "headers": headers, "client": ("127.0.0.1", 1)}  # fmt: skip
    began_s = time.monotonic()
    await handler(scope, receive, send)
    raw = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(raw), time.monotonic() - began_s


async def test_a2_a_call_that_finds_no_thread_is_answered_from_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = await sync_to_async(prepared)()
    handler, release = Handler(), threading.Event()
    asked = {"route": "breeze-buddy", "call_id": "CA1"}
    assert (await post(handler, "/api/v1/decisions", key, asked))[1]["degraded"] is False
    monkeypatch.setattr(deadline, "CALL_S", 0.2)
    hanging = [asyncio.create_task(CALLS.run(release.wait, 20)) for _ in range(CALLS.threads)]
    await asyncio.sleep(0.05)
    try:
        decided = await post(handler, "/api/v1/decisions", key, asked)
        report = {"outcomes": [outcome(reason="connection")]}
        reported = await post(handler, "/api/v1/outcomes", key, report)
    finally:
        release.set()
        await asyncio.gather(*hanging)

    print(f"no thread free: a decision after {decided[2] * 1000:.0f} ms")
    assert (decided[0], decided[1]["degraded"], decided[1]["provider"]) == (200, True, "soniox")
    assert (reported[0], reported[1]["code"]) == (503, "breaker_unavailable")
    assert max(decided[2], reported[2]) < 1


def test_deadlines_of_a_thread_nest_and_end() -> None:
    assert deadline.left_s() > 1e9
    with deadline.within(10):
        with deadline.within(1), deadline.within(5):
            assert 0 < deadline.left_s() <= 1
        assert 1 < deadline.left_s() <= 10
    with deadline.within(1, since=time.monotonic() - 2):
        assert deadline.left_s() < 0

    assert deadline.left_s() > 1e9


def test_what_takes_too_long_is_left_and_what_has_not_begun_is_dropped() -> None:
    release, done = threading.Event(), []
    aside = Aside("tested", threads=1, at_most_s=5)
    with deadline.within(0.05), pytest.raises(TimeoutError):
        aside.ask(lambda: release.wait(5))
    with deadline.within(0.05), pytest.raises(TimeoutError):
        aside.ask(lambda: done.append("late"))
    release.set()

    assert aside.ask(lambda: "next") == "next"
    assert done == []
