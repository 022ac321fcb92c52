"""No framework: any asyncio program. Prints what a WAV file says.

python examples/plain_asyncio.py speech.wav       # 16 kHz, 16 bit, mono
"""

import asyncio
import json
import sys
import uuid
import wave
from collections.abc import AsyncIterator

import aiohttp
from settings import CAN_USE, DEEPGRAM, SONIOX

from stt_guard import SttGuard


async def play(socket: aiohttp.ClientWebSocketResponse, audio: bytes, end: str) -> None:
    """Send audio in real time, then the provider's word for the end."""
    for at in range(0, len(audio), 640):
        await socket.send_bytes(audio[at : at + 640])
        await asyncio.sleep(0.02)
    await asyncio.sleep(1)
    await socket.send_str(end)


async def with_soniox(audio: bytes, settings) -> AsyncIterator[str]:
    """Yield what Soniox hears."""
    headers = {"Authorization": f"Bearer {SONIOX.key}"}
    config = {"audio_format": "pcm_s16le", "sample_rate": 16_000, "num_channels": 1, **settings}
    url = f"{SONIOX.url}/transcribe-websocket"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers) as socket:
        await socket.send_json(config)
        playing = asyncio.create_task(play(socket, audio, ""))
        async for message in socket:
            body = json.loads(message.data)
            if text := "".join(t["text"] for t in body.get("tokens", []) if t["is_final"]):
                yield text
        await playing


async def with_deepgram(audio: bytes, settings) -> AsyncIterator[str]:
    """Yield what Deepgram hears."""
    headers = {"Authorization": f"Token {DEEPGRAM.key}"}
    query = {"encoding": "linear16", "sample_rate": "16000", **settings}
    url = f"{DEEPGRAM.url}/v1/listen"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, headers=headers, params=query) as socket,
    ):
        playing = asyncio.create_task(play(socket, audio, '{"type": "CloseStream"}'))
        async for message in socket:
            body = json.loads(message.data)
            if body["type"] == "Results" and body["is_final"]:
                yield body["channel"]["alternatives"][0]["transcript"]
        await playing


TRANSCRIBE = {"soniox": with_soniox, "deepgram": with_deepgram}


async def main(path: str) -> None:
    """Transcribe the file as one call, with whoever can."""
    with wave.open(path) as file:
        audio = file.readframes(file.getnframes())
    async with (
        SttGuard(can_use=CAN_USE) as guard,
        await guard.call(uuid.uuid4().hex, language="en") as call,
    ):
        for provider in call.order:
            try:
                async with call.attempt(provider) as settings:
                    async for text in TRANSCRIBE[provider](audio, settings):
                        if text:
                            call.transcript(provider)
                            print(text, flush=True)
                break
            except Exception as error:
                print(f"{provider}: {type(error).__name__}, the next one", file=sys.stderr)
        print(f"{call.mode} by {call.source}, ended on {call.provider}", file=sys.stderr)


asyncio.run(main(sys.argv[1]))
