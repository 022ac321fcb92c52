"""A LiveKit call for the rig, in a real AgentSession: a plugin alone, its FallbackAdapter, ours."""

import asyncio
import contextlib
from typing import Any

import aiohttp
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.stt import STT, FallbackAdapter
from livekit.agents.vad import VAD, VADCapabilities, VADEvent, VADEventType, VADStream
from livekit.agents.voice.io import AudioInput
from livekit.plugins import deepgram, soniox

from stt_guard import Call
from stt_guard.livekit import failover_stt, watch
from tests.fakes import FakeProvider
from tests.fakes.coded import LOUD, RATE
from tests.rig.lines import Arm, Chain, Line, needs_call
from tests.rig.script import VAD_S, Cue

# Turns by the VAD: LiveKit's own detector is a model that has nothing to do with hearing, and costs
# more than all the rest of a call.
BY_VAD: dict[str, Any] = {"turn_handling": {"turn_detection": "vad"}}


def plugin_of(fake: FakeProvider, http: aiohttp.ClientSession) -> STT:
    """Return the real plugin against the fake."""
    if fake.tag == "sx":
        return soniox.STT(api_key="k", base_url=f"{fake.url}/any", http_session=http)
    return deepgram.STT(
        api_key="k",
        base_url=f"{fake.url}/v1/listen",
        model="nova-3",
        language="en-US",
        sample_rate=RATE,
        http_session=http,
    )


class Microphone(AudioInput):
    """What a script plays into it."""

    def __init__(self) -> None:
        super().__init__(label="script")
        self.frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    async def __anext__(self) -> rtc.AudioFrame:
        """Wait for the next."""
        return await self.frames.get()


class LevelVad(VAD):
    """Takes what is loud for speech, with a transport's delay at both ends."""

    def __init__(self) -> None:
        super().__init__(capabilities=VADCapabilities(update_interval=0.04))

    def stream(self) -> VADStream:
        """Return a stream."""
        return LevelStream(self)


class LevelStream(VADStream):
    """Tells of speech by the level of each frame."""

    async def _main_task(self) -> None:
        self._loud_s = self._quiet_s = self._index = 0.0
        self._is_speaking = False
        async for frame in self._input_ch:
            if isinstance(frame, rtc.AudioFrame):
                self._judge(frame)

    def _judge(self, frame: rtc.AudioFrame) -> None:
        self._index += frame.samples_per_channel
        is_loud = abs(frame.data[0]) > LOUD
        if is_loud:
            self._loud_s, self._quiet_s = self._loud_s + frame.duration, 0.0
        else:
            self._quiet_s += frame.duration
        self._tell(VADEventType.INFERENCE_DONE, frame)
        if not self._is_speaking and self._loud_s >= VAD_S - 0.001 and is_loud:
            self._is_speaking = True
            self._tell(VADEventType.START_OF_SPEECH, frame)
        if self._quiet_s >= VAD_S - 0.001:
            if self._is_speaking:
                self._is_speaking = False
                self._tell(VADEventType.END_OF_SPEECH, frame)
            self._loud_s = 0.0

    def _tell(self, kind: VADEventType, frame: rtc.AudioFrame) -> None:
        self._event_ch.send_nowait(
            VADEvent(
                type=kind,
                samples_index=int(self._index),
                timestamp=self._index / RATE,
                silence_duration=self._quiet_s,
                speech_duration=self._loud_s,
                raw_accumulated_speech=self._loud_s,
                raw_accumulated_silence=self._quiet_s,
                frames=[frame],
                probability=float(self._is_speaking),
                speaking=self._is_speaking,
            )
        )


class LiveKitLine(Line):
    """A session with an STT and a VAD, and nobody who answers."""

    def __init__(self, arm: Arm, chain: Chain, call: Call | None = None) -> None:
        super().__init__()
        self._arm, self._chain, self._call = arm, chain, call
        self._microphone = Microphone()
        self._http: aiohttp.ClientSession | None = None
        self.session: AgentSession[Any] | None = None

    async def begin(self) -> None:
        """Start the session."""
        self._http = aiohttp.ClientSession()
        stt = self._stt(self._http)
        self.session = AgentSession(stt=stt, vad=LevelVad(), **BY_VAD)
        self.session.on("user_input_transcribed", self._on_text)
        self.session.on("close", self._on_close)
        if self._arm == "ours":
            watch(self.session, needs_call(self._arm, self._call), stt)
        self.session.input.audio = self._microphone
        await self.session.start(Agent(instructions=""))

    async def ready(self) -> None:
        """Return: a session listens once it is started."""

    def _stt(self, http: aiohttp.ClientSession) -> Any:
        if self._arm == "ours":
            factories = {
                name: lambda _, fake=fake: plugin_of(fake, http)
                for name, fake in self._chain.items()
            }
            return failover_stt(needs_call(self._arm, self._call), factories)
        plugins = [plugin_of(fake, http) for fake in self._chain.values()]
        if self._arm == "none" or len(plugins) == 1:
            return plugins[0]
        return FallbackAdapter(plugins)

    def _on_text(self, event: Any) -> None:
        if event.is_final:
            self.finals.append((asyncio.get_running_loop().time(), event.transcript))

    def _on_close(self, _: Any) -> None:
        self.ended_s = self.ended_s or asyncio.get_running_loop().time()

    async def take(self, cue: Cue) -> None:
        """Put audio into the microphone; the session has a VAD of its own."""
        if cue.audio:
            samples = len(cue.audio) // 2
            self._microphone.frames.put_nowait(rtc.AudioFrame(cue.audio, RATE, 1, samples))

    async def mute(self, is_muted: bool) -> None:
        """Switch the session's audio input off, or on."""
        if self.session:
            self.session.input.set_audio_enabled(not is_muted)

    async def hang_up(self) -> None:
        """Close the session."""
        await self.stop()

    async def stop(self) -> None:
        """Close the session and its connections, within seconds."""
        with contextlib.suppress(TimeoutError):
            if self.session:
                await asyncio.wait_for(self.session.aclose(), 10)
        if self._http:
            await self._http.close()
