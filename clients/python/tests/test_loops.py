"""Several jobs of one process: in one event loop, and each in a thread with a loop of its own."""

import asyncio
import gc
import itertools
import os
import random
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stt_guard import SttGuard, outcomes, waiting
from tests.conftest import eventually
from tests.plane_double import PlaneDouble

SRC = Path(__file__).resolve().parents[1] / "src"


def guard_at(url: str, **options: object) -> SttGuard:
    """Return a client of a double."""
    fixed = {"key": "k", "route": "r", "can_use": ["soniox", "deepgram"]}
    return SttGuard(url, **{**fixed, **options})


async def in_thread(job: Coroutine[Any, Any, Any]) -> Any:
    """Run a job in a thread with a loop of its own, as LiveKit's thread executor does."""
    return await asyncio.to_thread(asyncio.run, job)


def tasks() -> int:
    """Return how many tasks of the client this loop has."""
    return sum(task.get_name() == "stt_guard" for task in asyncio.all_tasks())


async def test_a_jobs_end_leaves_the_calls_of_its_loop_alone():
    double = PlaneDouble()
    async with double.running():
        guard = guard_at(double.url)
        await guard.start(2)
        first, second = await guard.call("c1"), await guard.call("c2")
        first.end()
        await guard.aclose()  # the first job's shutdown callback
        assert "c1:soniox:call_end" in double.taken
        await double.move("soniox", "open")
        assert await eventually(lambda: guard.picture.version == 2)
        third = await guard.call("c3")
        second.failed("soniox")
        assert await eventually(lambda: "c2:soniox:mid_call_failure" in double.taken)
        for call in (second, third):
            call.end()
        await guard.aclose()
        assert tasks() == 0

    assert third.provider == "deepgram"
    assert guard.stats()["accepted"] == guard.stats()["queued"] == 7


async def test_a_call_that_nobody_holds_any_more_is_not_going_on():
    double = PlaneDouble()
    async with double.running():
        guard = guard_at(double.url)
        await guard.call("c1")  # forgotten without an end
        await guard.aclose()
        assert tasks() == 0


async def test_a_call_that_is_being_decided_is_not_closed_under():
    double = PlaneDouble()
    double.fault = "slow"
    async with double.running():
        guard = guard_at(double.url, feed="off")
        deciding = asyncio.create_task(guard.call("c1"))
        await asyncio.sleep(0.05)
        await guard.aclose()
        call = await deciding
        call.end()
        await guard.aclose()

    assert (call.source, tasks()) == ("remote", 0)


async def test_the_end_of_a_with_block_closes_whatever_goes_on():
    double = PlaneDouble()
    async with double.running():
        async with guard_at(double.url) as guard:
            call = await guard.call("c1")
        assert tasks() == 0
        call.end()  # nobody sends it now
        assert guard.stats()["unsent"] == 1
        async with guard:
            assert await eventually(lambda: guard.stats()["unsent"] == 0)
            assert await eventually(lambda: "c1:soniox:call_end" in double.taken)


async def test_closing_in_one_thread_leaves_another_threads_job_alone():
    double, began, held = PlaneDouble(), threading.Event(), threading.Event()
    async with double.running():
        guard = guard_at(double.url)

        async def long_job() -> str:
            async with await guard.call("long") as call:
                began.set()
                await asyncio.to_thread(held.wait, 10)
                call.failed("soniox", reason="connection")
                later = await guard.call("later")
                later.end()
            await guard.aclose()
            return later.provider

        async def short_job(number: int) -> None:
            async with await guard.call(f"short-{number}"):
                pass
            await guard.aclose()

        long = asyncio.create_task(in_thread(long_job()))
        assert await eventually(began.is_set)
        await asyncio.gather(*(in_thread(short_job(number)) for number in range(3)))
        assert await eventually(lambda: double.sockets)
        await double.move("soniox", "open")
        assert await eventually(lambda: guard.picture.version == 2)
        held.set()
        provider = await long

    assert provider == "deepgram"  # its feed went on
    assert guard.stats()["accepted"] == guard.stats()["queued"] > 0
    assert (guard.stats()["waiting"], guard.stats()["unsent"]) == (0, 0)


async def test_a_job_in_a_new_loop_knows_what_the_others_were_told():
    double = PlaneDouble()
    async with double.running(), guard_at(double.url) as guard:
        await guard.start(2)
        await double.move("soniox", "open")
        assert await eventually(lambda: guard.picture.version == 2)

        async def job() -> tuple[str, str]:
            async with await guard.call("c1") as call:
                pass
            await guard.aclose()
            return call.source, call.provider

        assert await in_thread(job()) == ("pushed", "deepgram")
        assert "decide" not in double.asked
        assert guard.feed.heard_s > 0
        assert (await guard.call("c2")).source == "pushed"


async def test_a_loop_that_ends_without_a_close_is_let_go_and_nothing_is_lost(recwarn):
    double = PlaneDouble()
    async with double.running(), guard_at(double.url) as guard:
        await guard.start(2)

        async def careless(number: int) -> None:
            call = await guard.call(f"careless-{number}")
            call.failed(call.provider)

        for number in range(5):
            await in_thread(careless(number))
        (await guard.call("last")).end()
        assert await eventually(lambda: guard.stats()["waiting"] == 0)
        gc.collect()
        stats, links = guard.stats(), len(guard._links.alive)

    assert links == 1
    assert stats["accepted"] == stats["queued"] == 12
    assert not [one for one in recwarn if "nclosed" in str(one.message)]


def test_a_loop_that_is_closed_without_a_word_is_let_go_by_the_next():
    guard = guard_at("http://127.0.0.1:9")

    async def careless() -> None:
        (await guard.call("c1")).end()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(careless())
    loop.close()  # nobody cancelled its tasks
    del loop

    async def next_job() -> int:
        await guard.start()
        links = len(guard._links.alive)
        await guard.aclose(0.1)
        return links

    assert asyncio.run(next_job()) == 1
    assert guard.stats()["unsent"] == guard.stats()["queued"] == 2


async def test_a_verb_from_another_thread_is_sent_at_once():
    double = PlaneDouble()
    async with double.running(), guard_at(double.url) as guard:
        call = await guard.call("c1")
        assert await eventually(lambda: guard.stats()["waiting"] == 0)
        await asyncio.to_thread(call.failed, "soniox")

        assert await eventually(lambda: "c1:soniox:mid_call_failure" in double.taken, 1)


@pytest.mark.parametrize("feed", ["auto", "off"])
async def test_calls_from_many_threads_at_once_are_decided_and_counted(feed):
    double = PlaneDouble()
    async with double.running():
        guard = guard_at(double.url, feed=feed)

        async def job(thread: int) -> set[str]:
            sources = set()
            for number in range(25):
                async with await guard.call(f"c{thread}-{number}") as call:
                    call.transcript(call.provider)
                sources.add(call.source)
            await guard.aclose(5)
            return sources

        with ThreadPoolExecutor(8) as pool:
            loop = asyncio.get_running_loop()
            jobs = [loop.run_in_executor(pool, asyncio.run, job(thread)) for thread in range(8)]
            sources = set().union(*await asyncio.gather(*jobs))

    stats = guard.stats()
    assert "local_chain" not in sources
    assert {f"c{thread}-{n}:soniox:call_end" for thread in range(8) for n in range(25)} <= set(
        double.taken
    )
    assert stats["accepted"] + stats["duplicate"] == stats["queued"] >= 400
    assert (stats["unsent"], stats["waiting"], guard._links.alive) == (0, 0, {})


FORKING = """
import asyncio, multiprocessing
from stt_guard import default_guard

async def job(name):
    async with await default_guard().call(name, can_use=["soniox", "deepgram"]) as call:
        pass
    await default_guard().aclose()
    print(call.source, default_guard().stats()["accepted"], flush=True)

def child():
    asyncio.run(job("child"))

async def main():
    guard = await default_guard().start(5)
    await guard.call("parent-0", can_use=["soniox"])
    while guard.stats()["waiting"]:
        await asyncio.sleep(0.05)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    await asyncio.to_thread(process.join)
    before = guard.feed.heard_s
    await asyncio.sleep(0.5)
    print(guard.feed.heard_s > before, flush=True)
    await job("parent-1")

asyncio.run(main())
"""


async def test_a_fork_has_connections_of_its_own_and_leaves_its_parents_alone():
    double = PlaneDouble()
    told = {"STT_GUARD_KEY": "k", "STT_GUARD_ROUTE": "r", "PYTHONPATH": str(SRC)}

    async def beats() -> None:
        while True:
            await double.beat()
            await asyncio.sleep(0.1)

    async with double.running():
        beating = asyncio.create_task(beats())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FORKING,
            env={**os.environ, **told, "STT_GUARD_URL": double.url},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
        beating.cancel()

    assert printed.decode().split() == ["pushed", "2", "True", "pushed", "3"]
    assert set(double.taken) == {
        "parent-0:soniox:started",
        *(f"{name}:soniox:{kind}" for name in ("child", "parent-1")
          for kind in ("started", "call_end")),
    }  # fmt: skip


async def test_jobs_one_after_the_other_say_a_fault_once(caplog):
    double = PlaneDouble()
    double.fault = "401"
    async with double.running():
        guard = guard_at(double.url, feed="off")
        for number in range(3):
            async with await guard.call(f"c{number}"):
                pass
            await guard.aclose(0.05)

    said = [one.getMessage() for one in caplog.records if "STT_GUARD_KEY" in one.getMessage()]
    assert len(said) == len({text.split()[0] for text in said}) == 2  # decisions, and outcomes


async def test_jobs_that_come_and_go_through_faults_lose_nothing(monkeypatch):
    monkeypatch.setattr(outcomes, "BACKOFF_LAST_S", 0.2)
    monkeypatch.setattr(outcomes, "POST_TIMEOUT_S", 0.3)
    monkeypatch.setattr(waiting, "QUEUE_MAX", 100_000)  # what is shed is another test's
    double, numbers, stop = PlaneDouble(), itertools.count(), threading.Event()
    seen: set[str] = set()

    async def job(guard: SttGuard, number: int) -> None:
        chance, calls = random.Random(number), []
        for each in range(3):
            calls.append(await guard.call(f"c{number}-{each}"))
            calls[-1].failed(calls[-1].provider)
            seen.add(f"c{number}-{each}:{calls[-1].provider}:mid_call_failure")
            await asyncio.sleep(chance.random() * 0.05)
        for call in calls[: chance.randint(0, 3)]:
            call.end()
        if chance.random() < 0.6:  # the others end without a close
            await guard.aclose(0.1)

    def thread(guard: SttGuard) -> None:
        while not stop.is_set():
            asyncio.run(job(guard, next(numbers)))

    async with double.running():
        guard = guard_at(double.url)
        threads = [asyncio.create_task(asyncio.to_thread(thread, guard)) for _ in range(4)]
        for fault in ("401", None, "reset", "lost", None, "500", "hang", "404", None):
            double.fault = fault
            await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*threads)
        await guard.start()
        assert await eventually(lambda: not guard.stats()["waiting"] + guard.stats()["unsent"])
        await guard.aclose()
        stats = guard.stats()

    assert len(seen) > 50
    assert seen <= set(double.taken)
    assert stats["accepted"] + stats["duplicate"] == stats["queued"]
    assert guard._links.alive == {}


async def test_two_hundred_calls_leave_no_task_no_socket_and_no_link():
    double = PlaneDouble()
    async with double.running():
        guard = guard_at(double.url)

        async def job(number: int) -> None:
            async with await guard.call(f"c{number}"):
                pass
            await guard.aclose()

        for number in range(5):  # what is made once is made
            await job(number)
            await in_thread(job(number + 400))
        gc.collect()
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        for number in range(100):
            await job(number + 10)
            await in_thread(job(number + 500))
        gc.collect()
        await asyncio.sleep(0.2)  # the server's ends of the sockets
        after = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

    assert (tasks(), guard._links.alive) == (0, {})
    assert after <= before + 3
    assert guard.stats()["accepted"] == guard.stats()["queued"] > 400
