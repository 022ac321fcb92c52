"""The state file of a fleet that runs each call in a process of its own."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from stt_guard import SttGuard, keeper, memory
from stt_guard.memory import Memory
from tests.conftest import eventually
from tests.control_plane import free_port
from tests.plane_double import PlaneDouble

SRC = Path(__file__).resolve().parents[1] / "src"
# A job as a fleet runs it: one call, which takes a moment, in a process of its own.
JOB = """
import asyncio
from stt_guard import SttGuard

async def main():
    guard = SttGuard(can_use=["soniox", "deepgram"])
    async with await guard.call("job") as call:
        print(call.source, call.provider, flush=True)
        await asyncio.sleep(SPOKEN_S)
    await guard.aclose()

asyncio.run(main())
"""


async def run_job(url: str, state_file: Path, spoken_s: float = 0.3) -> tuple[str, ...]:
    """Run a job; return its decision's source and provider."""
    told = {"STT_GUARD_URL": url, "STT_GUARD_KEY": "k", "STT_GUARD_ROUTE": "r"}
    told |= {"STT_GUARD_FEED": "off", "STT_GUARD_STATE_FILE": str(state_file)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", JOB.replace("SPOKEN_S", str(spoken_s)),
        env={**os.environ, **told, "PYTHONPATH": str(SRC)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return tuple(printed.decode().split())


def job_at(url: str, state_file: Path) -> SttGuard:
    """Return the client of such a job."""
    chain = ["soniox", "deepgram"]
    return SttGuard(url, key="k", route="r", can_use=chain, feed="off", state_file=state_file)


def kept(state_file: Path, **values: object) -> None:
    """Write a good file by hand, with these values changed."""
    body = {"saved_at": time.time(), "status": PlaneDouble().status(), **values}
    state_file.write_text(json.dumps(body))


async def test_a_job_avoids_a_dead_primary_by_what_its_siblings_were_told(state_file):
    double = PlaneDouble()
    double.breakers["soniox"]["state"] = "open"
    async with double.running():
        before = [await run_job(double.url, state_file) for _ in range(3)]
    after = await run_job(f"http://127.0.0.1:{free_port()}", state_file)

    assert before == [("remote", "deepgram")] * 3
    assert after == ("last_known", "deepgram")


async def test_jobs_that_start_at_once_ask_once(state_file):
    double = PlaneDouble()
    async with double.running():
        jobs = [job_at(double.url, state_file) for _ in range(50)]
        calls = await asyncio.gather(*(job.call("c") for job in jobs))
        assert await eventually(state_file.exists)
        asked = double.asked.count("status")
        for call in calls:
            call.end()
        await jobs[0].aclose()
        # All of them in one loop here, each with its own link: close them as their jobs would.
        await asyncio.gather(*(job.aclose() for job in jobs))

    assert asked == 1
    assert len(list(state_file.parent.iterdir())) == 2  # the file, and whose turn it was


async def test_processes_that_start_at_once_ask_once(state_file):
    double = PlaneDouble()
    async with double.running():
        await asyncio.gather(*(run_job(double.url, state_file, 2) for _ in range(6)))

    assert 1 <= double.asked.count("status") <= 2  # two where their starts took over 5 s


async def test_a_fresh_file_is_left_alone_and_an_old_one_is_asked_for(state_file, monkeypatch):
    monkeypatch.setattr(keeper, "LOOK_S", 0.1)
    monkeypatch.setattr(memory, "OLD_S", 0.5)
    double = PlaneDouble()
    kept(state_file)
    async with double.running(), job_at(double.url, state_file) as job:
        await job.call("c1")
        await asyncio.sleep(0.2)
        assert "status" not in double.asked
        await double.move("soniox", "open")
        assert await eventually(lambda: '"version": 2' in state_file.read_text())
        await asyncio.sleep(1.5)

    assert 2 <= double.asked.count("status") <= 5  # each half second, not each tenth


async def test_the_call_does_not_wait_for_the_file(state_file):
    double = PlaneDouble()
    async with double.running(), job_at(double.url, state_file) as job:
        call = await job.call("c1")
        assert (call.source, double.asked[0]) == ("remote", "decide")
        assert await eventually(state_file.exists)


async def test_a_turn_that_brought_nothing_comes_again(state_file, monkeypatch):
    monkeypatch.setattr(keeper, "LOOK_S", 0.1)
    monkeypatch.setattr(memory, "OLD_S", 0.5)
    double = PlaneDouble()
    double.fault = "401"
    async with double.running(), job_at(double.url, state_file) as job:
        await job.start()
        await asyncio.sleep(1.2)
        asked = double.asked.count("status")
        double.fault = None
        assert await eventually(state_file.exists)

    assert 2 <= asked <= 4


async def test_without_a_file_nothing_is_asked_for_it():
    double = PlaneDouble()
    async with (
        double.running(),
        SttGuard(double.url, key="k", route="r", can_use=["soniox"], feed="off") as job,
    ):
        await job.call("c1")
        await asyncio.sleep(0.1)

    assert "status" not in double.asked


async def test_a_good_file_is_decided_from(state_file, caplog):
    kept(state_file)
    async with job_at(f"http://127.0.0.1:{free_port()}", state_file) as job:
        call = await job.call("c1")

    assert (call.source, call.settings) == ("last_known", {"model": "s"})
    assert not [one for one in caplog.records if "state file" in one.getMessage()]


NONSENSE = {
    "cut off": json.dumps({"saved_at": time.time(), "status": PlaneDouble().status()})[:-20],
    "foreign": '{"name": "something else"}',
    "a list": "[1]",
    "null": "null",
    "empty": "",
    "deep": "[" * 100_000,
    "bytes": "\udcff",
    "no status": json.dumps({"saved_at": time.time(), "status": [1]}),
    "wrong words": json.dumps({"saved_at": time.time(), "status": {"routes": [3]}}),
    "wrong breakers": json.dumps(
        {"saved_at": time.time(), "status": {**PlaneDouble().status(), "breakers": {"a": 1}}}
    ),
    "from the future": json.dumps(
        {"saved_at": time.time() + 3_600, "status": PlaneDouble().status()}
    ),
    "of no time": '{"saved_at": NaN, "status": {}}',
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE.keys())
async def test_a_file_that_makes_no_sense_is_ignored_and_said_once(state_file, caplog, text):
    state_file.write_bytes(text.encode("utf-8", "surrogateescape"))
    async with job_at(f"http://127.0.0.1:{free_port()}", state_file) as job:
        calls = [await job.call(f"c{number}") for number in range(3)]

    assert {call.source for call in calls} == {"local_chain"}
    said = [one for one in caplog.records if "is ignored" in one.getMessage()]
    assert len(said) == 1


async def test_a_folder_in_its_place_is_said_once_and_costs_nothing(tmp_path, caplog):
    double = PlaneDouble()
    (tmp_path / "state").mkdir()
    os.utime(tmp_path / "state", (0, 0))
    async with double.running(), job_at(double.url, tmp_path / "state") as job:
        call = await job.call("c1")
        assert await eventually(
            lambda: [one for one in caplog.records if "cannot be written" in one.getMessage()]
        )
        double.fault = "500"
        again = await job.call("c2")

    assert (call.source, again.source) == ("remote", "local_chain")


async def test_an_old_file_says_nothing_of_now(state_file, caplog):
    kept(state_file, saved_at=time.time() - 16 * 60)
    async with job_at(f"http://127.0.0.1:{free_port()}", state_file) as job:
        assert (await job.call("c1")).source == "local_chain"
    assert not [one for one in caplog.records if "state file" in one.getMessage()]


def test_a_process_that_died_with_its_turn_is_in_nobodys_way_for_long(state_file):
    now = {"s": 1_000.0}
    first, second = (Memory(state_file, lambda: now["s"]) for _ in range(2))

    assert (first.claim(), second.claim()) == (True, False)
    now["s"] += memory.OLD_S
    assert (second.claim(), first.claim()) == (True, False)


def test_a_folder_that_is_not_there_is_said_once(tmp_path, caplog):
    lost = Memory(tmp_path / "no" / "state.json")

    assert [lost.claim() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
