"""The control plane away, hung, failing, slow and back: no call waits, no outcome is lost."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web

from stt_guard import SttGuard, feed, outcomes
from stt_guard.said import Said
from stt_guard.waiting import QUEUE_MAX, Counts, Waiting
from tests.conftest import eventually
from tests.control_plane import ControlPlane, free_port
from tests.plane_double import PlaneDouble


def client(url: str, **options: object) -> SttGuard:
    """Return a client that asks for each call."""
    fixed = {"key": "k", "route": "r", "can_use": ["soniox", "deepgram"], "feed": "off"}
    return SttGuard(url, **{**fixed, **options})


FAULTS = [
    "hang", "reset", "500", "503", "429", "401", "403", "404", "408",
    "garbage", "foreign", "slow", "slower", "lost",
]  # fmt: skip
LOST = ("refused", "shed", "stale", "unsent", "waiting", "invalid")


@pytest.fixture
def hasty(monkeypatch):
    """Have the client lose patience sooner, so that a window can be short."""
    monkeypatch.setattr(outcomes, "BACKOFF_LAST_S", 0.2)
    monkeypatch.setattr(outcomes, "POST_TIMEOUT_S", 0.4)


@pytest.mark.parametrize("feed_mode", ["auto", "off"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_in_a_window_no_outcome_is_lost_none_is_doubled_and_no_call_waits(
    hasty, fault, feed_mode
):
    double, waits_s, ids = PlaneDouble(), [], set()

    async def one_call(guard: SttGuard, number: int) -> None:
        began = time.perf_counter()
        call = await guard.call(f"c{number}")
        waits_s.append(time.perf_counter() - began)
        call.failed(call.provider, reason="connection")
        call.end()
        ids.update(
            {f"c{number}:{call.order[0]}:{kind}" for kind in ("mid_call_failure", "call_end")}
        )

    async with double.running(), client(double.url, feed=feed_mode) as guard:
        await guard.start(2)
        double.fault = fault
        for ten in range(5):
            await asyncio.gather(*(one_call(guard, 10 * ten + number) for number in range(10)))
            await asyncio.sleep(0.1)
        double.fault = None
        assert await eventually(lambda: guard.stats()["waiting"] == 0)
        stats = guard.stats()

    assert ids <= set(double.taken)
    assert {name: stats[name] for name in LOST} == dict.fromkeys(LOST, 0)
    assert stats["accepted"] + stats["duplicate"] == stats["queued"]
    assert stats["duplicate"] == sum(double.taken.values()) - len(double.taken) or fault == "lost"
    assert max(waits_s) < 0.6  # 0.3 s, and what a busy machine adds


@pytest.mark.parametrize("status", ["401", "403", "404"])
async def test_what_a_refused_window_says_and_counts(hasty, caplog, status):
    double = PlaneDouble()
    double.fault = status
    async with double.running(), client(double.url) as guard:
        (await guard.call("c1")).failed("soniox")
        assert await eventually(lambda: guard.stats()["held"] > 2)
        double.fault = None
        assert await eventually(lambda: guard.stats()["waiting"] == 0)
        stats = guard.stats()

    said = [one.getMessage() for one in caplog.records if "outcomes wait" in one.getMessage()]
    assert len(said) == 1  # a minute
    assert ("STT_GUARD_URL" if status == "404" else "STT_GUARD_KEY") in said[0]
    assert (stats["refused"], stats["accepted"]) == (0, 2)


@pytest.mark.parametrize("status", ["400", "413", "418", "422"])
async def test_what_no_other_try_heals_is_dropped_and_counted(status):
    double = PlaneDouble()
    double.fault = status
    async with double.running(), client(double.url) as guard:
        (await guard.call("c1")).failed("soniox")
        assert await eventually(lambda: guard.stats()["waiting"] == 0)
        stats = guard.stats()

    assert (stats["refused"], stats["held"], stats["retries"]) == (2, 0, 0)


async def test_what_waits_through_a_refused_window_grows_stale_in_the_end(hasty):
    now = {"s": 0.0}
    double = PlaneDouble()
    double.fault = "401"
    async with double.running(), client(double.url, clock=lambda: now["s"]) as guard:
        guard.outbox.put({"id": "old", "kind": "stall", "call_id": "c"})
        assert await eventually(lambda: guard.stats()["held"] > 0)
        now["s"] = 299.0
        assert not await eventually(lambda: guard.stats()["waiting"] == 0, 0.5)
        now["s"] = 301.0
        assert await eventually(lambda: guard.stats()["waiting"] == 0)

    assert (guard.stats()["stale"], double.taken) == (1, {})


@pytest.mark.parametrize("status", ["401", "403", "404", "503"])
async def test_after_a_refused_window_state_is_pushed_again_within_seconds(monkeypatch, status):
    monkeypatch.setattr(feed, "BACKOFF_LAST_S", 0.5)
    double = PlaneDouble()
    async with double.running(), client(double.url, feed="auto") as guard:
        await guard.start(2)
        double.fault = status
        for socket in list(double.sockets):
            await socket.close(code=1012)
        await asyncio.sleep(2)
        assert not double.sockets
        double.fault = None
        assert await eventually(lambda: double.sockets, 4)
        await double.move("soniox", "open")
        assert await eventually(lambda: guard.picture.version == 2, 1)


@pytest.mark.parametrize("status", ["401", "404"])
async def test_a_client_that_began_in_a_refused_window_hears_within_seconds(monkeypatch, status):
    monkeypatch.setattr(feed, "BACKOFF_LAST_S", 0.5)
    double = PlaneDouble()
    double.fault = status
    async with double.running(), client(double.url, feed="auto") as guard:
        first = await guard.call("c1")
        await asyncio.sleep(1)
        double.fault = None
        assert await eventually(lambda: double.sockets, 4)
        assert await eventually(lambda: guard.stats()["state_age_s"] < 2, 1)

    assert (first.source, (await guard.call("c2")).source) == ("local_chain", "pushed")
    await guard.aclose()


async def test_a_feed_that_is_dropped_each_moment_costs_no_decision_and_no_outcome(monkeypatch):
    monkeypatch.setattr(feed, "POLL_S", 0.1)
    double = PlaneDouble()
    async with double.running(), client(double.url, feed="auto") as guard:
        await guard.start(2)
        calls = []
        for number in range(10):
            for socket in list(double.sockets):
                await socket.close(code=1012)
            calls.append(await guard.call(f"c{number}"))
            calls[-1].end()
            await asyncio.sleep(0.1)
        assert await eventually(lambda: guard.stats()["waiting"] == 0)

    assert {call.source for call in calls} == {"pushed"}
    assert guard.stats()["accepted"] == 20


@pytest.mark.parametrize(
    "fault", ["hang", "reset", "500", "503", "429", "401", "403", "404", "garbage"]
)
async def test_a_decision_is_given_within_its_budget_whatever_is_wrong(fault):
    double = PlaneDouble()
    double.fault = fault
    async with double.running(), client(double.url) as guard:
        began = time.perf_counter()
        call = await guard.call("c1")
        took_s = time.perf_counter() - began

    assert (call.source, call.order) == ("local_chain", ("soniox", "deepgram"))
    assert took_s < 0.4


async def test_a_refused_connection_costs_milliseconds():
    async with client(f"http://127.0.0.1:{free_port()}") as guard:
        await guard.call("c0")
        began = time.perf_counter()
        await guard.call("c1")

        assert time.perf_counter() - began < 0.1


async def test_a_slow_answer_within_the_budget_is_taken():
    double = PlaneDouble()
    double.fault = "slow"
    async with double.running(), client(double.url) as guard:
        assert (await guard.call("c1")).source == "remote"


async def test_the_age_of_an_outcome_is_that_at_sending():
    double = PlaneDouble()
    double.fault = "500"
    async with double.running(), client(double.url) as guard:
        guard.outbox.put({"id": "o1", "kind": "mid_call_failure", "call_id": "c"})
        await guard.start()
        await asyncio.sleep(0.5)
        double.fault = None
        assert await eventually(lambda: guard.outbox.waiting == 0)

    assert 400 <= double.bodies["o1"]["age_ms"] <= 4_000


def test_a_full_queue_sheds_the_ends_of_calls_before_failures():
    counts = Counts()
    waiting = Waiting(counts, Said())
    for number in range(QUEUE_MAX):
        kind = "call_end" if number % 2 else "mid_call_failure"
        waiting.put({"id": f"o{number}", "kind": kind, "call_id": "c"})
    for number in range(600):
        waiting.put({"id": f"n{number}", "kind": "stall", "call_id": "c"})

    left = [entry.body for entry in waiting.close()]
    kinds = [body["kind"] for body in left]
    assert (len(kinds), kinds.count("call_end"), counts.shed) == (1_000, 0, 600)
    assert left[0]["id"] == "o200"  # a hundred of the oldest failures went last


async def test_a_queue_that_is_full_in_a_refused_window_sheds_and_is_sent_after_it(hasty):
    double = PlaneDouble()
    double.fault = "401"
    async with double.running(), client(double.url) as guard:
        await guard.start()
        for number in range(1_100):
            guard.outbox.put({"id": f"o{number}", "kind": "stall", "call_id": "c"})
            await asyncio.sleep(0)
        double.fault = None
        assert await eventually(lambda: guard.stats()["waiting"] == 0)
        stats = guard.stats()

    assert stats["shed"] + stats["accepted"] + stats["duplicate"] == stats["queued"] == 1_100
    assert 0 < stats["shed"] <= 100


async def test_what_is_older_than_five_minutes_is_dropped_and_counted():
    now = {"s": 0.0}
    double = PlaneDouble()
    async with double.running(), client(double.url, clock=lambda: now["s"]) as guard:
        guard.outbox.put({"id": "old", "kind": "stall", "call_id": "c"})
        now["s"] = 301.0
        guard.outbox.put({"id": "new", "kind": "stall", "call_id": "c"})
        assert await eventually(lambda: guard.stats()["waiting"] == 0)

    assert (set(double.taken), guard.stats()["stale"]) == ({"new"}, 1)


async def test_closing_sends_what_is_queued_and_says_what_it_could_not():
    double = PlaneDouble()
    async with double.running():
        guard = client(double.url)
        call = await guard.call("c1")
        call.failed("soniox")
        call.end()
        await guard.aclose()
        lost = client(f"http://127.0.0.1:{free_port()}")
        async with await lost.call("c2"):
            pass
        began = time.perf_counter()
        await lost.aclose(0.3)

    assert set(double.taken) == {"c1:soniox:mid_call_failure", "c1:soniox:call_end"}
    assert (lost.stats()["unsent"], time.perf_counter() - began < 1) == (2, True)


@asynccontextmanager
async def balancer(plane_url: str) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """Stand before a control plane; answer `state["status"]` in its place where that is set."""
    state: dict[str, int] = {}

    async def forward(request: web.Request) -> web.Response:
        if status := state.get("status"):
            return web.Response(status=status, text="<h1>No</h1>", content_type="text/html")
        headers = {"Authorization": request.headers["Authorization"]}
        headers["Content-Type"] = "application/json"
        async with session.request(
            request.method, plane_url + request.path, data=await request.read(), headers=headers
        ) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", state
    await runner.cleanup()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_balancers_bad_minute_before_a_real_control_plane_loses_nothing(
    hasty, plane: ControlPlane, new_id, status
):
    ids = [new_id() for _ in range(30)]
    providers = ["soniox-quiet", "deepgram-quiet"]
    async with balancer(plane.url) as (url, state):
        options = {"key": plane.keys["agent"], "route": "quiet", "can_use": providers}
        async with SttGuard(url, feed="poll", **options) as guard:
            await guard.start(3)
            for number, call_id in enumerate(ids):
                if number == 10:
                    state["status"] = status
                call = await guard.call(call_id)
                call.failed(call.provider, reason="bad_request")  # weighs nothing
                call.end()
                await asyncio.sleep(0.02)
            state.clear()
            assert await eventually(lambda: guard.stats()["waiting"] == 0)
            stats = guard.stats()

    assert {name: stats[name] for name in LOST} == dict.fromkeys(LOST, 0)
    assert stats["accepted"] + stats["duplicate"] == stats["queued"] == 90
    assert stats["held"] > 0
    for call_id in ids:
        kinds = [one["kind"] for one in plane.calls_outcomes(call_id)]
        assert kinds.count("mid_call_failure") == 1


async def test_killed_and_back_no_call_waits_and_each_outcome_counts_once(tmp_path):
    chain = ["soniox-k", "deepgram-k"]
    plane = ControlPlane(tmp_path, [{"slug": "k", "chain": chain}])
    try:
        guard = SttGuard(plane.url, key=plane.keys["agent"], route="k", can_use=chain)
        async with guard:
            await guard.start(3)
            before = await guard.call("before")
            plane.stop(signal.SIGKILL)
            waits = []
            for number in range(20):
                began = time.perf_counter()
                call = await guard.call(f"away-{number}")
                waits.append(time.perf_counter() - began)
                call.transcript(call.provider)
                call.end()
            before.failed("soniox-k", reason="connection")
            away = await guard.call("away-hurt")
            away.failed("soniox-k", reason="bad_request")
            await asyncio.to_thread(plane.start)

            assert await eventually(lambda: guard.outbox.waiting == 0, 15)
            assert max(waits) < 0.35
            assert guard.stats()["accepted"] == guard.stats()["queued"]
        assert await eventually(lambda: plane.breaker("soniox-k")["failures"] == 1)
        assert [one["counted"] for one in plane.calls_outcomes("before")
                if one["kind"] == "mid_call_failure"] == [True]  # fmt: skip
    finally:
        plane.stop()
