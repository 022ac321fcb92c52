"""Connections that keep us waiting: closed in time, and first of all when there is no room."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from controlplane import connections, descriptors
from tests.configuration import make_route
from tests.processes import clean_environment, database_url, eventually, free_port
from tests.rest import make_key
from tests.serving import serving

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Half: "
HALF_A_BODY = b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
WHOLE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
NOFILE = 256


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    """Have the bounds be tenths of seconds."""
    bounds = {"HEAD_S": 0.3, "BODY_S": 0.4, "IDLE_S": 0.5, "UNREAD_S": 0.3, "SWEEP_S": 0.05}
    for name, value in bounds.items():
        monkeypatch.setattr(connections, name, value)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes; return what it said."""
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GE", HALF_A_HEAD, HALF_A_BODY, WHOLE + b"GET"])
async def test_s7_whoever_does_not_send_a_whole_request_is_closed(sent):
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(sent)
        said = await until_closed(reader)
        writer.close()

    assert said.startswith(b"HTTP/1.1 200") == sent.startswith(WHOLE)


async def test_s7_a_head_that_trickles_is_bounded_as_a_whole():
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        began_s = asyncio.get_running_loop().time()
        for letter in HALF_A_HEAD + b"x" * 200:
            writer.write(bytes([letter]))
            await asyncio.sleep(0.02)
            if reader.at_eof() or writer.is_closing():
                break
        took_s = asyncio.get_running_loop().time() - began_s
        writer.close()

    assert took_s < 3


async def test_s7_whoever_sends_whole_requests_is_kept_and_may_take_its_time_between_them():
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        for _ in range(4):
            writer.write(WHOLE)
            head = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.2)
        writer.close()
        await asyncio.sleep(0.2)
        [book] = [
            it for it in connections._books.values() if it._loop is asyncio.get_running_loop()
        ]
        assert not any(book._waiting.values())  # whoever left is not remembered


async def test_s7_a_head_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 60.0)
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        for number in range(40):
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 4_000))
            await asyncio.sleep(0)
        said = await until_closed(reader)
        writer.close()

    assert said == b"" or said.startswith(b"HTTP/1.1 431")


async def test_a_large_head_that_ends_is_taken():
    async with serving() as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nCookie: %s\r\n\r\n" % (b"a=" * 15_000)
        )
        said = await asyncio.wait_for(reader.readline(), 5)
        writer.close()

    assert said.startswith(b"HTTP/1.1 200")


async def test_s7_an_answer_that_nobody_reads_is_given_up(monkeypatch):
    async def flood(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving(flood) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"), limit=1000)
        writer.write(WHOLE)
        await asyncio.sleep(1.5)  # the socket's buffers are full, and nothing is read
        said = await until_closed(reader)
        writer.close()

    assert len(said) < 20_000_000


async def test_s7_the_oldest_half_request_makes_room_and_a_whole_one_does_not(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_S", 60.0)
    monkeypatch.setattr(connections, "IDLE_S", 60.0)
    async with serving() as address:
        idle = await asyncio.open_connection(*address.split(":"))
        idle[1].write(WHOLE)
        await idle[0].readuntil(b"0\r\n\r\n")
        half = [await asyncio.open_connection(*address.split(":")) for _ in range(5)]
        for _, writer in half:
            writer.write(HALF_A_HEAD)
        await asyncio.sleep(0.1)
        for book in connections._books.values():
            monkeypatch.setattr(book, "_room", 0)
        late = await asyncio.open_connection(*address.split(":"))
        late[1].write(WHOLE)
        answer = await asyncio.wait_for(late[0].readuntil(b"0\r\n\r\n"), 5)
        gone = await until_closed(half[0][0])

        assert answer.startswith(b"HTTP/1.1 200")
        assert gone == b""
        assert [reader.at_eof() for reader, _ in half[1:]] == [False] * 4
        assert not idle[0].at_eof()
        for _, writer in [idle, late, *half]:
            writer.close()


def test_what_is_kept_free_is_a_quarter_and_at_most_a_thousand(monkeypatch):
    found = {}
    for limit in (1_024, 4_096, 65_536, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        found[limit] = descriptors.room()

    assert list(found.values()) == [768, 3_072, 64_512, 64_512]


@asynccontextmanager
async def web(var_dir, nofile: int) -> AsyncIterator[int]:
    """Run one web process that may open so many descriptors; yield its port."""
    port = free_port()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

    environment = clean_environment(
        var_dir,
        DATABASE_URL=database_url(),
        REDIS_URL=settings.REDIS_URL,
        SECRET_KEY=settings.SECRET_KEY,
        FALLBACK_NAMESPACE=settings.FALLBACK_NAMESPACE,
        PUBLIC_URL="http://localhost",
    )
    process = subprocess.Popen(
        [sys.executable, "manage.py", "web", "--port", str(port)],
        cwd=settings.BASE_DIR, env=environment, preexec_fn=limit,
        stderr=(var_dir / "web.log").open("w"),
    )  # fmt: skip
    try:
        await sync_to_async(eventually)(lambda: answers(port), within_s=30)
        yield port
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    """Say whether the process is ready."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def key() -> str:
    make_route()
    return make_key("agent")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, HALF_A_BODY])
async def test_s7_with_more_half_requests_than_descriptors_every_decision_gets_through(
    key, tmp_path, sent
):
    asked = {"route": "breeze-buddy", "call_id": "CA1"}
    async with web(tmp_path, NOFILE) as port:
        held = []
        for _ in range(NOFILE + 80):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            held.append(writer)
        statuses = []
        for _ in range(5):
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(
                    f"http://127.0.0.1:{port}/api/v1/decisions",
                    content=json.dumps(asked),
                    headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                )
                statuses.append((answer.status_code, answer.json()["degraded"]))
        for writer in held:
            writer.close()

    assert statuses == [(200, False)] * 5
