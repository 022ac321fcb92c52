"""A Pipecat call without a transport: real services, a real worker, synthetic speech."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.soniox.stt import SonioxSTTService
from pipecat.workers.runner import WorkerRunner

from stt_guard import Call
from stt_guard.pipecat import FailoverSTT
from tests.fakes import FakeProvider

RATE = 16_000
CHUNK_S = 0.04
_SILENCE = b"\x00\x01" * int(RATE * CHUNK_S)


class Sink(FrameProcessor):
    """Keeps the transcripts that come out, with their time."""

    def __init__(self) -> None:
        super().__init__()
        self.finals: list[tuple[float, str]] = []
        self.vad_stops = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Keep and pass on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            self.finals.append((time.monotonic(), frame.text.strip()))
        self.vad_stops += isinstance(frame, VADUserStoppedSpeakingFrame)
        await self.push_frame(frame, direction)


def factory_of(fake: FakeProvider, **values: Any) -> Callable[[dict[str, Any]], Any]:
    """Return what builds the real service against the fake."""
    if fake.tag == "sx":
        return lambda settings: SonioxSTTService(
            api_key="sx-key",
            url=f"{fake.url}/transcribe-websocket",
            sample_rate=RATE,
            settings=SonioxSTTService.Settings(**settings),
            **values,
        )
    return lambda settings: DeepgramSTTService(
        api_key="dg-key",
        base_url=fake.url,
        sample_rate=RATE,
        settings=DeepgramSTTService.Settings(**settings),
        **values,
    )


class Pipe:
    """A running pipeline of this and a sink. `ended_s` is when it was over, `began_s` it began."""

    def __init__(self, *processors: FrameProcessor) -> None:
        self.sink = Sink()
        self.worker = PipelineWorker(
            Pipeline([*processors, self.sink]),
            enable_rtvi=False,
            cancel_on_idle_timeout=False,
            params=PipelineParams(audio_in_sample_rate=RATE),
        )
        self.began_s = time.monotonic()
        self.ended_s: float | None = None
        self.started = asyncio.Event()
        self.worker.add_event_handler("on_pipeline_started", lambda *_: self.started.set())
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
        await runner.add_workers(self.worker)
        await runner.run()
        self.ended_s = time.monotonic()

    def on_end(self, do: Callable[[float], None]) -> None:
        """Have this done with the time when it is over."""
        self._task.add_done_callback(lambda _: do(time.monotonic()))

    @property
    def is_over(self) -> bool:
        """Whether the pipeline has ended."""
        return self._task.done()

    async def queue(self, frame: Frame) -> None:
        """Put a frame into it, unless it is over."""
        if not self.is_over:
            await self.worker.queue_frame(frame)

    async def hang_up(self) -> None:
        """End in order."""
        if not self.is_over:
            await self.worker.queue_frame(EndFrame())
        await asyncio.wait({self._task}, timeout=10)

    async def stop(self) -> None:
        """End however it can."""
        if not self.is_over:
            await self.worker.cancel()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._task, 10)


class Headless(Pipe):
    """One running call with the client in it."""

    def __init__(self, call: Call, fakes: Mapping[str, FakeProvider], **options: Any) -> None:
        self.call, self.fakes = call, fakes
        self.stt = FailoverSTT(call, {p: factory_of(f) for p, f in fakes.items()}, **options)
        super().__init__(self.stt)

    async def speak(self, seconds: float = 0.8, pause_s: float = 0.3) -> None:
        """Say one utterance, with its audio in real time, then be quiet for a moment."""
        await self.queue(VADUserStartedSpeakingFrame(start_secs=0.2))
        await self._audio(seconds)
        await self.queue(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await self._audio(pause_s)

    async def listen(self, seconds: float) -> None:
        """Send audio in which nobody speaks."""
        await self._audio(seconds)

    async def _audio(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        for number in range(round(seconds / CHUNK_S)):
            await self.queue(InputAudioRawFrame(_SILENCE, RATE, 1))
            await asyncio.sleep(max(0.0, begin_s + (number + 1) * CHUNK_S - loop.time()))

    def first_final(self, tag: str, after_s: float = 0.0) -> float | None:
        """Return when the provider was first heard after that time."""
        return next((at for at, text in self.sink.finals if tag in text and at >= after_s), None)

    async def wait_for(self, tag: str, after_s: float, limit_s: float) -> float | None:
        """Keep speaking until the provider is heard; None if it is not within the limit."""
        while time.monotonic() - after_s < limit_s and not self.is_over:
            await self.speak()
            if found := self.first_final(tag, after_s):
                return found
        return self.first_final(tag, after_s)


@asynccontextmanager
async def headless(
    call: Call, fakes: Mapping[str, FakeProvider], **options: Any
) -> AsyncIterator[Headless]:
    """Run a call in the block; it is stopped after it."""
    running = Headless(call, fakes, **options)
    try:
        yield running
    finally:
        await running.stop()
