"""The control plane away, hung, failing, slow and back: no call waits, no outcome is lost."""

import asyncio
import signal
import time

import pytest

from stt_guard import SttGuard, outcomes
from tests.conftest import eventually
from tests.control_plane import ControlPlane, free_port
from tests.plane_double import PlaneDouble


def client(url: str, **options: object) -> SttGuard:
    """Return a client that asks for each call."""
    fixed = {"key": "k", "route": "r", "can_use": ["soniox", "deepgram"], "feed": "off"}
    return SttGuard(url, **{**fixed, **options})


@pytest.mark.parametrize("fault", ["hang", "500", "429"])
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


@pytest.mark.parametrize("fault", ["hang", "500", "429", "lost"])
async def test_outcomes_wait_for_its_return_and_count_once(monkeypatch, fault):
    monkeypatch.setattr(outcomes, "BACKOFF_LAST_S", 0.2)
    monkeypatch.setattr(outcomes, "POST_TIMEOUT_S", 0.3)
    double = PlaneDouble()
    double.fault = fault
    async with double.running(), client(double.url) as guard:
        await guard.start()
        for number in range(120):
            guard.outbox.put({"id": f"o{number}", "kind": "mid_call_failure", "call_id": "c"})
        await asyncio.sleep(0.5)
        double.fault = None

        assert await eventually(lambda: guard.outbox.waiting == 0)
        assert {f"o{number}" for number in range(120)} <= set(double.taken)
        counts = guard.outbox.counts
        assert counts.accepted + counts.duplicate == counts.queued
        assert counts.retries > 0


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


async def test_a_full_queue_sheds_the_ends_of_calls_before_failures():
    guard = client("http://127.0.0.1:9")
    for number in range(outcomes.QUEUE_MAX):
        kind = "call_end" if number % 2 else "mid_call_failure"
        guard.outbox.put({"id": f"o{number}", "kind": kind, "call_id": "c"})
    for number in range(600):
        guard.outbox.put({"id": f"n{number}", "kind": "stall", "call_id": "c"})

    kinds = [entry.body["kind"] for entry in guard.outbox._queue]
    assert (len(kinds), kinds.count("call_end"), guard.stats()["shed"]) == (1_000, 0, 600)
    assert guard.outbox._queue[0].body["id"] == "o200"  # a hundred of the oldest failures went last


async def test_what_is_older_than_five_minutes_is_dropped_and_counted():
    now = {"s": 0.0}
    double = PlaneDouble()
    async with double.running(), client(double.url, clock=lambda: now["s"]) as guard:
        guard.outbox.put({"id": "old", "kind": "stall", "call_id": "c"})
        now["s"] = 301.0
        guard.outbox.put({"id": "new", "kind": "stall", "call_id": "c"})
        assert await eventually(lambda: guard.outbox.waiting == 0)

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
        (await lost.call("c2")).failed("soniox")
        began = time.perf_counter()
        await lost.aclose(0.3)

    assert set(double.taken) == {"c1:soniox:mid_call_failure", "c1:soniox:call_end"}
    assert (lost.stats()["unsent"], time.perf_counter() - began < 1) == (2, True)


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
