"""Bodies stop at their limit: nothing is spooled, held without end, or waited for without end."""

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from controlplane import bodies
from controlplane import handler as handling
from controlplane.handler import CALL_BODIES, OTHER_BODIES, Handler
from tests.asking import ask
from tests.serving import serving

EVERYWHERE = [
    "/livez",
    "/api/v1/decisions",
    "/api/nope",
    "/slack/events",
    "/admin/login/",
    "/admin/fallback/policy/add/",
    "/orders",
    "/",
    "/nope",
    "/static/admin/css/base.css",
    "/metrics",
]
MB = b"x" * 1024 * 1024


@pytest.fixture
def handler(monkeypatch) -> Handler:
    monkeypatch.setattr(handling, "UNHEARD_S", 0.05)
    return Handler()


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_s6_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read(handler, path):
    declared = {"content-length": "99999999999"}
    answered = await ask(handler, path, "POST", body=(), headers=declared)

    assert answered.problem["status"] == answered.status == 413
    assert answered.read == 0
    assert answered.headers["connection"] == "close"
    assert answered.problem["request_id"] == answered.headers["x-request-id"]


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_s6_a_body_without_a_length_stops_at_the_limit(handler, path):
    answered = await ask(handler, path, "POST", body=[MB[: 64 * 1024]] * 100)

    assert answered.problem["status"] == answered.status == 413
    assert answered.read <= bodies.limit_of(path) // (64 * 1024) + 1
    assert (CALL_BODIES.held, OTHER_BODIES.held) == (0, 0)


@pytest.mark.parametrize("path", ["/api/v1/decisions", "/slack/events", "/admin/login/"])
async def test_a_body_of_exactly_the_limit_is_taken(handler, path):
    limit = bodies.limit_of(path)
    answered = await ask(
        handler, path, "POST", body=[b"x" * limit], headers={"content-length": str(limit)}
    )

    assert answered.status not in {200, 413}


def spooled() -> int:
    """Return how many bytes of files that have no name this process holds open."""
    files = Path("/proc/self/fd")
    found = 0
    for descriptor in files.iterdir() if files.exists() else ():
        try:
            if os.readlink(descriptor).endswith("(deleted)"):
                found += descriptor.stat().st_size
        except OSError:
            continue
    return found


async def test_s6_over_a_real_socket_the_answer_comes_and_nothing_is_written_to_disk():
    before = spooled()
    async with serving() as address:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /nope HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            writer.write(b"100000\r\n" + MB + b"\r\n")
        head = await asyncio.wait_for(reader.readline(), 5)
        during = spooled()
        writer.write(b"0\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), 5)
        writer.close()

    assert b" 413 " in head
    assert b'"code": "too_large"' in rest
    assert during - before < len(MB)


async def test_s7_a_body_that_does_not_come_is_answered_and_the_connection_closed(
    handler, monkeypatch
):
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    answered = await ask(
        handler, "/api/v1/decisions", "POST", body=(), headers={"content-length": "100"}
    )

    assert answered.problem["status"] == answered.status == 408
    assert answered.headers["connection"] == "close"


async def test_s7_a_body_that_trickles_is_bounded_as_a_whole(monkeypatch):
    monkeypatch.setattr(bodies, "BODY_S", 0.2)
    sent = itertools.count()

    async def receive():
        await asyncio.sleep(0.02)
        next(sent)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(bodies.Refused) as refused:
        await bodies.read({"path": "/api/v1/outcomes", "headers": []}, receive, CALL_BODIES)

    assert refused.value.status == 408
    assert 2 <= next(sent) <= 12
    assert CALL_BODIES.held == 0


async def test_s6_large_bodies_of_others_leave_decisions_their_share(handler, monkeypatch):
    monkeypatch.setattr(OTHER_BODIES, "held", OTHER_BODIES.most)
    refused = await ask(handler, "/admin/login/", "POST", body=[b"name=a"])
    taken = await ask(handler, "/api/v1/decisions", "POST", body=[b"{}"])

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert taken.status == 401
    assert OTHER_BODIES.held == OTHER_BODIES.most


async def test_a_client_that_goes_away_while_it_sends_leaves_nothing_behind():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(bodies.RequestAborted):
        await bodies.read({"path": "/api/v1/outcomes", "headers": []}, receive, CALL_BODIES)

    assert CALL_BODIES.held == 0
