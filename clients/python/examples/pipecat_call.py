"""A Pipecat pipeline whose speech-to-text outlives its provider: prints what a WAV file says.

    python examples/pipecat_call.py speech.wav        # 16 kHz, 16 bit, mono

A bot does the same with `transport.input()` before the STT and its agent behind it; with the
providers' own addresses, the classes alone do instead of the factories.
"""

import asyncio
import sys
import wave

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
from settings import DEEPGRAM, SONIOX

from stt_guard import default_guard
from stt_guard.pipecat import FailoverSTT

FACTORIES = {
    "soniox": lambda settings: SonioxSTTService(
        api_key=SONIOX.key,
        url=f"{SONIOX.url}/transcribe-websocket",
        settings=SonioxSTTService.Settings(**settings),
    ),
    "deepgram": lambda settings: DeepgramSTTService(
        api_key=DEEPGRAM.key,
        base_url=DEEPGRAM.url,
        settings=DeepgramSTTService.Settings(**settings),
    ),
}


class Printer(FrameProcessor):
    """Stands where the rest of a bot would."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Print transcripts."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            print(frame.text, flush=True)
        await self.push_frame(frame, direction)


async def speak(worker: PipelineWorker, path: str) -> None:
    """Play the file in real time, as a transport with a VAD would."""
    with wave.open(path) as file:
        rate, chunk = file.getframerate(), file.getframerate() // 50
        await worker.queue_frame(VADUserStartedSpeakingFrame())
        while audio := file.readframes(chunk):
            await worker.queue_frame(InputAudioRawFrame(audio, rate, 1))
            await asyncio.sleep(0.02)
    await worker.queue_frame(VADUserStoppedSpeakingFrame())
    await asyncio.sleep(1)
    await worker.queue_frame(EndFrame())


async def main(path: str) -> None:
    """Transcribe the file as one call."""
    stt = FailoverSTT(FACTORIES, language="en")
    worker = PipelineWorker(
        Pipeline([stt, Printer()]), params=PipelineParams(audio_in_sample_rate=16_000)
    )
    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), speak(worker, path))
    await default_guard().aclose()
    call = stt.call
    print(f"{call.mode} by {call.source}, ended on {call.provider}", file=sys.stderr)


asyncio.run(main(sys.argv[1]))
