"""What is no failure, what stays whole in a swap, and a whole outage of a fleet."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pipecat.frames.frames import (
    STTMuteFrame,
    STTUpdateSettingsFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
)

from stt_guard import Call, Step
from stt_guard.pipecat import FailoverSTT
from stt_guard.words import Decision
from tests.conftest import eventually
from tests.control_plane import ControlPlane
from tests.fakes import FakeProvider, fake_of
from tests.headless import factory_of, headless

FAILURES = {"init_failure", "mid_call_failure", "stall"}


def local_call(*providers: str, settings: Mapping[str, Any] | None = None, **values: Any):
    """Return a call that reports into the list beside it."""
    said: list[dict[str, Any]] = []
    steps = tuple(Step(provider, (settings or {}).get(provider, {})) for provider in providers)
    decision = Decision(steps, "primary", "remote", **values)
    return Call("call", "r", "pod", decision, said.append), said


def failures(said: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The failures among what was reported."""
    return [(one["provider"], one["kind"], one["reason"]) for one in said
            if one["kind"] in FAILURES]  # fmt: skip


@asynccontextmanager
async def both() -> AsyncIterator[dict[str, FakeProvider]]:
    """Run both fakes."""
    fakes = {provider: fake_of(provider) for provider in ("soniox", "deepgram")}
    async with fakes["soniox"].running(), fakes["deepgram"].running():
        yield fakes


def chain(fakes: dict[str, FakeProvider], primary: str) -> dict[str, FakeProvider]:
    """The fakes, primary first."""
    return dict(sorted(fakes.items(), key=lambda one: one[0] != primary))


def on_both(scenario: Callable[[str], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Run a scenario with each provider as the primary, both at once."""

    async def test() -> None:
        await asyncio.gather(scenario("soniox"), scenario("deepgram"))

    return test


# --- what is no failure


@on_both
async def test_a_healthy_call_reports_its_transcript_and_its_end(primary):
    async with both() as fakes:
        call, said = local_call(*chain(fakes, primary))
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.speak()
            await running.speak()
            await running.hang_up()
        standby = next(p for p in fakes if p != primary)

        assert [one["kind"] for one in said] == ["first_transcript", "call_end"]
        assert fakes[standby].counters.handshakes == 0


@pytest.mark.parametrize("how", ["hang_up", "stop"])
@pytest.mark.parametrize("primary", ["soniox", "deepgram"])
async def test_a_caller_who_hangs_up_at_once_is_no_failure(primary, how):
    async with both() as fakes:
        call, said = local_call(*chain(fakes, primary))
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.listen(0.4)
            await getattr(running, how)()

        assert [one["kind"] for one in said] == ["call_end"]


@on_both
async def test_one_cough_that_nobody_transcribes_is_no_stall(primary):
    async with both() as fakes:
        fakes[primary].behaviour.stream, fakes[primary].behaviour.after_s = "stall", 0.0
        call, said = local_call(*chain(fakes, primary))
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.speak(0.4)
            await running.listen(5)
            await running.hang_up()

        assert failures(said) == []


@on_both
async def test_a_muted_caller_is_no_stall(primary):
    async with both() as fakes:
        call, said = local_call(*chain(fakes, primary))
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.speak()
            await running.worker.queue_frame(STTMuteFrame(mute=True))
            for _ in range(4):
                await running.speak()
            await running.worker.queue_frame(STTMuteFrame(mute=False))
            await running.speak()
            await running.hang_up()

        assert failures(said) == []


@on_both
async def test_a_slow_provider_is_no_stall_and_its_latency_is_told(primary):
    async with both() as fakes:
        fakes[primary].behaviour.latency_s = 0.4
        call, said = local_call(*chain(fakes, primary))
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            for _ in range(5):
                await running.speak()
            await running.listen(2)
            await running.hang_up()

        assert failures(said) == []
        assert said[0]["kind"] == "first_transcript"


async def test_a_drop_that_heals_is_told_and_is_no_failure():
    async with both() as fakes:
        call, said = local_call(*chain(fakes, "soniox"))
        async with headless(call, chain(fakes, "soniox")) as running:
            await running.started.wait()
            for _ in range(2):  # a third within 5 s each, and Pipecat gives up
                await running.speak()
                fakes["soniox"].kill_all()
            await running.speak()
            await running.hang_up()

        kinds = [one["kind"] for one in said]
        assert failures(said) == []
        assert kinds.count("recovered") == 2
        assert len({one["id"] for one in said}) == len(said)


# --- what a swap keeps


@on_both
async def test_the_callers_words_survive_a_stall_and_vad_is_not_said_twice(primary):
    async with both() as fakes:
        call, said = local_call(*chain(fakes, primary))
        standby = next(p for p in fakes if p != primary)
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.speak()
            fakes[primary].behaviour.stream, fakes[primary].behaviour.after_s = "stall", 0.0
            spoken = 1
            while not running.first_final(fakes[standby].tag) and spoken < 9:
                await running.speak()
                spoken += 1
            await running.listen(0.5)
            heard = " ".join(text for _, text in running.sink.finals)

            assert failures(said) == []  # slow or dead is not known yet
            assert await eventually(lambda: failures(said) == [(primary, "stall", "stall")], 9)
            assert running.sink.vad_stops == spoken
            assert heard.count(fakes[standby].tag) >= (spoken - 1) * 1.6  # two words of each 1.1 s
            assert running.stt.provider == standby


async def test_each_provider_gets_its_own_settings():
    settings = {
        "soniox": {"model": "stt-rt-v5", "language_hints": ["hi"]},
        "deepgram": {"model": "nova-3", "endpointing": 300},
    }
    async with both() as fakes:
        call, _ = local_call(*chain(fakes, "soniox"), settings=settings)
        async with headless(call, chain(fakes, "soniox")) as running:
            await running.started.wait()
            fakes["soniox"].behaviour.connect = "http:503"
            fakes["soniox"].kill_all()
            assert await running.wait_for("dg", 0.0, 1e9)
            await running.hang_up()

        assert fakes["soniox"].configs[0]["language_hints"] == ["hi"]
        assert "endpointing=300" in fakes["deepgram"].counters.paths[0]


@on_both
async def test_a_demoted_provider_is_disconnected_and_not_heard_again(primary):
    async with both() as fakes:
        call, _ = local_call(*chain(fakes, primary))
        standby = next(p for p in fakes if p != primary)
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.speak()
            fakes[primary].behaviour.stream = "stall"
            swapped = await running.wait_for(fakes[standby].tag, time.monotonic(), 9)
            fakes[primary].behaviour.stream = "ok"
            demoted = running.stt.services[0]
            await demoted.push_frame(TranscriptionFrame(fakes[primary].tag, "", ""))
            await running.speak()
            await running.speak()
            await asyncio.sleep(0.5)
            late = running.first_final(fakes[primary].tag, swapped)

            assert late is None
            assert not fakes[primary].open


async def test_a_factory_that_raises_costs_only_its_own_provider():
    def broken(settings: dict[str, Any]) -> Any:
        raise TypeError("no such setting")

    call, said = local_call("soniox", "deepgram")
    async with both() as fakes:
        stt = FailoverSTT(call, {"soniox": broken, "deepgram": factory_of(fakes["deepgram"])})

    assert failures(said) == [("soniox", "init_failure", "bad_request")]
    assert (stt.provider, call.provider) == ("deepgram", "deepgram")
    assert len(stt.services) == 1


async def test_where_none_can_be_built_the_engineer_is_told():
    call, _ = local_call("soniox", "deepgram")

    with pytest.raises(RuntimeError, match="none of soniox, deepgram could be built"):
        FailoverSTT(call, {})


async def test_a_route_that_ends_calls_still_falls_back_at_set_up():
    async with both() as fakes:
        fakes["soniox"].behaviour.connect = "http:503"
        call, said = local_call("soniox", "deepgram", on_mid_call_failure="end")
        async with headless(call, chain(fakes, "soniox")) as running:
            await running.started.wait()

            assert await running.wait_for("dg", 0.0, 1e9)
            assert failures(said) == [("soniox", "init_failure", "server_error")]


# --- a whole outage


async def test_a_fleet_through_an_outage(plane: ControlPlane, guard_of, new_id):
    async with both() as fakes, guard_of("fleet") as guard:
        of = {"soniox-fleet": fakes["soniox"], "deepgram-fleet": fakes["deepgram"]}
        await guard.start(3)
        breaker = ("stt", "soniox-fleet")

        async def talk(*, breaks: bool = False) -> tuple[Call, float | None]:
            call = await guard.call(new_id())
            async with headless(call, of) as running:
                await running.started.wait()
                await running.speak()
                if breaks:
                    fakes["soniox"].behaviour.connect = "http:503"
                    fakes["soniox"].kill_all()
                heard = await running.wait_for("dg" if breaks else "", 0.0, 1e9)
                await running.hang_up()
            return call, heard

        hurt = await asyncio.gather(talk(breaks=True), talk(breaks=True))
        assert all(heard for _, heard in hurt)
        assert await eventually(lambda: guard.picture.breakers[breaker].state == "open")
        refused = fakes["soniox"].counters.handshakes
        began_s = time.perf_counter()
        calls = [await guard.call(new_id()) for _ in range(100)]
        took_s = time.perf_counter() - began_s
        diverted, _ = await talk()
        assert {(call.source, call.mode, call.provider) for call in [*calls, diverted]} == {
            ("pushed", "fallback", "deepgram-fleet")
        }
        assert took_s < 0.5
        assert fakes["soniox"].counters.handshakes == refused

        fakes["soniox"].behaviour.connect = "ok"
        await asyncio.sleep(3.2)
        three = [call for call, _ in await asyncio.gather(talk(), talk(), talk())]
        assert sorted(call.mode for call in three) == ["fallback", "fallback", "probe"]
        assert await eventually(lambda: plane.breaker("soniox-fleet")["state"] == "closed")
        assert await eventually(lambda: guard.picture.breakers[breaker].state == "closed")
        back = await guard.call(new_id())
        assert (back.mode, back.source) == ("primary", "pushed")

    def told() -> list[tuple[str, str, str]]:
        page = plane.get("transitions", provider="soniox-fleet")["results"]
        return [(one["from"], one["to"], one["cause"]) for one in reversed(page)]

    assert await eventually(lambda: len(told()) == 3)
    assert [move[:2] for move in told()] == [
        ("closed", "open"), ("open", "half_open"), ("half_open", "closed"),
    ]  # fmt: skip
    incident = plane.get("incidents", provider="soniox-fleet")["results"][0]
    assert incident["closed_at"]


def test_the_core_needs_neither_framework():
    code = (
        "import sys, stt_guard; bad = [m for m in sys.modules if m.split('.')[0] in "
        "('pipecat', 'livekit', 'websockets', 'deepgram')]; sys.exit(str(bad) if bad else 0)"
    )

    source = str(Path(__file__).resolve().parents[1] / "src")
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, check=False
    )

    assert ran.returncode == 0, ran.stderr


@on_both
async def test_settings_that_change_in_the_middle_reconnect_and_are_no_drop(primary):
    async with both() as fakes:
        call, said = local_call(*chain(fakes, primary))
        async with headless(call, chain(fakes, primary)) as running:
            await running.started.wait()
            await running.speak()
            delta = running.stt.services[0].Settings(model="another")
            await running.worker.queue_frame(STTUpdateSettingsFrame(delta=delta))
            await running.queue(UserStoppedSpeakingFrame())  # a reconnect waits for the turn's end
            await running.listen(0.5)
            before = len(running.sink.finals)
            await running.speak()
            await running.speak()
            await running.listen(0.5)

            assert fakes[primary].counters.sessions == 2
            assert len(running.sink.finals) > before
            assert running.stt.provider == primary
            assert [one["kind"] for one in said] == ["first_transcript"]
