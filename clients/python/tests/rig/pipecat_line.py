"""A Pipecat call for the rig: one service alone, Pipecat's own failover, or the client's."""

import asyncio
import contextlib
from typing import Final

from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    STTMuteFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.service_switcher import ServiceSwitcher, ServiceSwitcherStrategyFailover
from pipecat.processors.frame_processor import FrameProcessor

from stt_guard import Call
from stt_guard.pipecat import FailoverSTT
from tests.fakes.coded import RATE
from tests.headless import Pipe, factory_of
from tests.rig.lines import Arm, Chain, Line, needs_call
from tests.rig.script import VAD_S, Cue

READY_S: Final = 5.0


def stt_of(arm: Arm, chain: Chain, call: Call | None) -> FrameProcessor:
    """Return what sits where the STT sits."""
    factories = {name: factory_of(fake) for name, fake in chain.items()}
    if arm == "ours":
        return FailoverSTT(needs_call(arm, call), factories)
    services = [make({}) for make in factories.values()]
    if arm == "none" or len(services) == 1:
        return services[0]
    return ServiceSwitcher(services, ServiceSwitcherStrategyFailover)


class PipecatLine(Line):
    """A pipeline of an STT and a sink. What comes before it runs is lost, as in a transport."""

    def __init__(self, arm: Arm, chain: Chain, call: Call | None = None) -> None:
        super().__init__()
        self.stt = stt_of(arm, chain, call)
        self.pipe: Pipe | None = None

    async def begin(self) -> None:
        """Run the pipeline."""
        self.pipe = Pipe(self.stt)
        self.finals = self.pipe.sink.finals
        self.pipe.on_end(self._ended)

    async def ready(self) -> None:
        """Wait for the StartFrame to be through."""
        if self.pipe:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.pipe.started.wait(), READY_S)

    def _ended(self, at_s: float) -> None:
        self.ended_s = at_s

    async def take(self, cue: Cue) -> None:
        """Queue it as a frame."""
        if self.pipe and self.pipe.started.is_set():
            await self.pipe.queue(frame_of(cue))

    async def mute(self, is_muted: bool) -> None:
        """Queue an STTMuteFrame."""
        await self.put(STTMuteFrame(mute=is_muted))

    async def put(self, frame: Frame) -> None:
        """Queue any frame."""
        if self.pipe:
            await self.pipe.queue(frame)

    async def hang_up(self) -> None:
        """Queue an EndFrame."""
        if self.pipe:
            await self.pipe.hang_up()

    async def stop(self) -> None:
        """Cancel the worker."""
        if self.pipe:
            await self.pipe.stop()


def frame_of(cue: Cue) -> Frame:
    """What a transport makes of it."""
    if cue.speaking is None:
        return InputAudioRawFrame(cue.audio, RATE, 1)
    if cue.speaking:
        return VADUserStartedSpeakingFrame(start_secs=VAD_S)
    return VADUserStoppedSpeakingFrame(stop_secs=VAD_S)
