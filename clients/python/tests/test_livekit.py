"""LiveKit's own plugins against the fakes: the order, the swap, and what is reported."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, APIConnectionError
from livekit.agents.stt import SpeechEventType
from livekit.agents.vad import VAD, VADCapabilities, VADEvent, VADEventType, VADStream
from livekit.agents.voice.io import AudioInput
from livekit.plugins import deepgram, soniox

from stt_guard import Call, Step
from stt_guard.livekit import FailoverAdapter, Limits, failover_stt, watch
from stt_guard.words import Decision
from tests.conftest import eventually
from tests.fakes import FakeProvider, fake_of

RATE = 16_000
SHORT = Limits(late_s=4.0, on_last_s=1.0)
FAILURES = {"init_failure", "mid_call_failure", "stall"}


class Talk:
    """A LiveKit call without a room: audio in, finals out."""

    def __init__(self, adapter: FailoverAdapter) -> None:
        self.adapter, self.finals = adapter, list[tuple[float, str]]()
        self.stream = adapter.stream()
        self.error: BaseException | None = None
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in self.stream:
                if event.type is SpeechEventType.FINAL_TRANSCRIPT and event.alternatives[0].text:
                    self.finals.append((time.monotonic(), event.alternatives[0].text))
        except APIConnectionError as error:
            self.error = error

    async def speak(self, seconds: float) -> None:
        """Send audio in real time."""
        samples = RATE // 20
        for _ in range(round(seconds * 20)):
            if self._reader.done():
                return
            self.stream.push_frame(rtc.AudioFrame(b"\x00\x01" * samples, RATE, 1, samples))
            await asyncio.sleep(0.05)

    def began(self) -> None:
        """The caller begins to speak, as a session's VAD would say."""
        self.adapter.rules.speech_began(asyncio.get_running_loop().time())

    def ended(self) -> None:
        """The caller stops."""
        self.adapter.rules.speech_ended(asyncio.get_running_loop().time())

    async def wait_for(self, tag: str, limit_s: float) -> float | None:
        """Speak until the provider is heard; return after how many seconds."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < limit_s and not self._reader.done():
            await self.speak(0.1)
            found = next((at for at, text in self.finals if tag in text and at > began_s), None)
            if found:
                return found - began_s
        return None

    async def close(self) -> None:
        """End it."""
        with contextlib.suppress(Exception):
            await self.stream.aclose()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self.adapter.aclose()


@asynccontextmanager
async def talk(
    primary: str, fakes: dict[str, FakeProvider], limits: Limits | None = None, **decision: Any
) -> AsyncIterator[tuple[Talk, Call, list[dict[str, Any]]]]:
    """Run a call in the block, the primary first."""
    said: list[dict[str, Any]] = []
    order = sorted(fakes, key=lambda name: name != primary)
    settings = {"deepgram": {"model": "nova-3"}, "soniox": {}}
    steps = tuple(Step(name, settings[name]) for name in order)
    call = Call("call", "r", "pod", Decision(steps, "primary", "remote", **decision), said.append)
    async with aiohttp.ClientSession() as http:
        factories = {
            "soniox": lambda s: soniox.STT(
                api_key="k", base_url=f"{fakes['soniox'].url}/any", http_session=http, **s
            ),
            "deepgram": lambda s: deepgram.STT(
                api_key="k",
                base_url=f"{fakes['deepgram'].url}/v1/listen",
                language="en-US",
                sample_rate=RATE,
                http_session=http,
                **s,
            ),
        }
        running = Talk(failover_stt(call, factories, limits=limits or SHORT))
        try:
            yield running, call, said
        finally:
            await running.close()


@asynccontextmanager
async def both() -> AsyncIterator[dict[str, FakeProvider]]:
    """Run both fakes."""
    fakes = {name: fake_of(name) for name in ("soniox", "deepgram")}
    async with fakes["soniox"].running(), fakes["deepgram"].running():
        yield fakes


def failures(said: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The failures among what was reported."""
    return [(one["provider"], one["kind"], one["reason"]) for one in said
            if one["kind"] in FAILURES]  # fmt: skip


def other(primary: str) -> str:
    """The standby."""
    return "deepgram" if primary == "soniox" else "soniox"


@pytest.fixture(params=["soniox", "deepgram"])
def primary(request: pytest.FixtureRequest) -> str:
    """Each of them as the primary."""
    return str(request.param)


async def test_a_healthy_call_reports_its_transcript_and_no_failure(primary):
    async with both() as fakes, talk(primary, fakes) as (running, call, said):
        assert await running.wait_for(fakes[primary].tag, 4)
        call.end()

        assert [one["kind"] for one in said] == ["first_transcript", "call_end"]
        assert fakes[other(primary)].counters.handshakes == 0


@pytest.mark.parametrize(
    ("connect", "reason"),
    [("http:401", "auth"), ("http:429", "rate_limit"), ("http:503", "server_error"),
     ("hang", "timeout"), ("refused", "connection")],
)  # fmt: skip
async def test_a_refused_set_up_moves_the_call(primary, connect, reason):
    async with both() as fakes:
        if connect == "refused":
            await fakes[primary].stop()
        fakes[primary].behaviour.connect = connect
        async with talk(primary, fakes) as (running, call, said):
            heard_s = await running.wait_for(fakes[other(primary)].tag, 6)

            assert heard_s is not None
            assert heard_s < (4 if connect == "hang" else 2.5)
            assert failures(said) == [(primary, "init_failure", reason)]
            assert call.provider == other(primary)
            assert fakes[primary].counters.handshakes == (connect != "refused")  # no shadow of it


async def test_an_outage_in_the_middle_moves_the_call(primary):
    async with both() as fakes, talk(primary, fakes) as (running, _, said):
        assert await running.wait_for(fakes[primary].tag, 4)
        fakes[primary].behaviour.connect = "http:503"
        fakes[primary].kill_all()

        assert await running.wait_for(fakes[other(primary)].tag, 4)
        assert [one[:2] for one in failures(said)] == [(primary, "mid_call_failure")]


async def test_a_stall_moves_the_call_with_what_was_said(primary):
    async with both() as fakes, talk(primary, fakes) as (running, _, said):
        assert await running.wait_for(fakes[primary].tag, 4)
        fakes[primary].behaviour.stream, fakes[primary].behaviour.after_s = "stall", 0.0
        running.began()
        await running.speak(2.1)
        running.ended()
        heard_s = await running.wait_for(fakes[other(primary)].tag, 4)
        words = [text for _, text in running.finals if fakes[other(primary)].tag in text]

        assert heard_s is not None
        assert heard_s < 2.5
        assert len(" ".join(words).split()) >= 4  # four half seconds were said while it stalled
        assert failures(said) == []  # slow or dead is not known yet
        assert await eventually(lambda: failures(said) == [(primary, "stall", "stall")], 4)
        assert await eventually(lambda: not fakes[primary].open, 2)


async def test_with_both_down_both_are_reported_once_and_the_stream_ends(primary):
    async with both() as fakes:
        for fake in fakes.values():
            fake.behaviour.connect = "http:503"
        async with talk(primary, fakes) as (running, _, said):
            ended = []
            running.adapter.on("on_end", ended.append)
            await running.wait_for("nobody", 5)

            assert sorted(one[:2] for one in failures(said)) == [
                ("deepgram", "init_failure"), ("soniox", "init_failure"),
            ]  # fmt: skip
            assert ended
            assert running.error is not None


async def test_a_route_that_ends_calls_ends_it(primary):
    end = {"on_mid_call_failure": "end"}
    async with both() as fakes, talk(primary, fakes, **end) as (running, _, said):
        ended = []
        running.adapter.on("on_end", ended.append)
        assert await running.wait_for(fakes[primary].tag, 4)
        fakes[primary].behaviour.connect = "http:503"
        fakes[primary].kill_all()

        assert await running.wait_for(fakes[other(primary)].tag, 2) is None
        assert ended
        assert fakes[other(primary)].counters.handshakes == 0
        assert len(failures(said)) == 1


class Microphone(AudioInput):
    """Audio that a test puts in, 50 ms at a time."""

    def __init__(self) -> None:
        super().__init__(label="test")
        self.frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    async def __anext__(self) -> rtc.AudioFrame:
        """Wait for the next."""
        return await self.frames.get()

    async def play(self, seconds: float, level: int) -> None:
        """Play one level of audio in real time."""
        samples = RATE // 20
        for _ in range(round(seconds * 20)):
            audio = level.to_bytes(2, "little") * samples
            self.frames.put_nowait(rtc.AudioFrame(audio, RATE, 1, samples))
            await asyncio.sleep(0.05)


class LevelVad(VAD):
    """Takes everything that is not zero for speech."""

    def __init__(self) -> None:
        super().__init__(capabilities=VADCapabilities(update_interval=0.05))

    def stream(self) -> VADStream:
        """Return a stream."""
        return LevelStream(self)


class LevelStream(VADStream):
    """Tells of speech by its level."""

    async def _main_task(self) -> None:
        spoken_s, now_s, index = 0.0, 0.0, 0
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            now_s, index = now_s + frame.duration, index + len(frame.data)
            is_loud = any(bytes(frame.data[:2]))
            kinds = [VADEventType.INFERENCE_DONE]
            if is_loud and not spoken_s:
                kinds.append(VADEventType.START_OF_SPEECH)
            if not is_loud and spoken_s:
                kinds.append(VADEventType.END_OF_SPEECH)
            duration_s = spoken_s
            spoken_s = spoken_s + frame.duration if is_loud else 0.0
            for kind in kinds:
                self._event_ch.send_nowait(
                    VADEvent(
                        type=kind, samples_index=index, timestamp=now_s, silence_duration=0.0,
                        speech_duration=duration_s, frames=[frame], probability=float(is_loud),
                        speaking=is_loud,
                    )
                )  # fmt: skip


async def test_in_a_real_session_a_stall_moves_the_call_and_its_end_is_told():
    async with both() as fakes, talk("soniox", fakes) as (unused, call, said):
        await unused.close()
        microphone, finals = Microphone(), []
        session = AgentSession(stt=unused.adapter, vad=LevelVad())
        session.on("user_input_transcribed", lambda event: finals.append(event.transcript))
        watch(session, call, unused.adapter)
        session.input.audio = microphone
        await session.start(Agent(instructions=""))
        await microphone.play(1.2, 1)
        await microphone.play(0.6, 0)
        heard = list(finals)
        fakes["soniox"].behaviour.stream, fakes["soniox"].behaviour.after_s = "stall", 0.0
        await microphone.play(1.6, 1)
        for _ in range(40):
            if any("dg" in text for text in finals):
                break
            await microphone.play(0.1, 0)
        await microphone.play(4.0, 0)
        await session.aclose()

        assert any("sx" in text for text in heard)
        assert any("dg" in text for text in finals)
        assert failures(said) == [("soniox", "stall", "stall")]
        assert said[-1]["kind"] == "call_end"
