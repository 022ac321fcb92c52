"""LiveKit's plugins behind the guard: prints what a WAV file says. No room is needed.

    python examples/livekit_call.py speech.wav        # 16 kHz, 16 bit, mono

An agent gives the same factories, or the plugins' classes, to `guarded_session`.
"""

import asyncio
import sys
import uuid
import wave

import aiohttp
from livekit import rtc
from livekit.agents.stt import SpeechEventType
from livekit.plugins import deepgram, soniox
from settings import CAN_USE, DEEPGRAM, SONIOX

from stt_guard import SttGuard
from stt_guard.livekit import failover_stt


async def speak(stream, path: str) -> None:
    """Play the file in real time."""
    with wave.open(path) as file:
        rate, chunk = file.getframerate(), file.getframerate() // 50
        while audio := file.readframes(chunk):
            stream.push_frame(rtc.AudioFrame(audio, rate, 1, len(audio) // 2))
            await asyncio.sleep(0.02)
    await asyncio.sleep(1)
    stream.end_input()


async def main(path: str) -> None:
    """Transcribe the file as one call."""
    async with (
        aiohttp.ClientSession() as http,
        SttGuard(can_use=CAN_USE) as guard,
        await guard.call(uuid.uuid4().hex, language="en") as call,
    ):
        factories = {
            "soniox": lambda s: soniox.STT(
                api_key=SONIOX.key,
                base_url=f"{SONIOX.url}/transcribe-websocket",
                http_session=http,
                params=soniox.STTOptions(**s),
            ),
            "deepgram": lambda s: deepgram.STT(
                api_key=DEEPGRAM.key,
                base_url=f"{DEEPGRAM.url}/v1/listen",
                http_session=http,
                sample_rate=16_000,
                **s,
            ),
        }
        stream = failover_stt(call, factories).stream()
        speaking = asyncio.create_task(speak(stream, path))
        async for event in stream:
            if event.type is SpeechEventType.FINAL_TRANSCRIPT and event.alternatives[0].text:
                print(event.alternatives[0].text, flush=True)
        await speaking
        print(f"{call.mode} by {call.source}, ended on {call.provider}", file=sys.stderr)


asyncio.run(main(sys.argv[1]))
