"""The examples, run as a reader would, against local providers of which the first is down."""

import asyncio
import os
import sys
import wave
from pathlib import Path

import pytest

from tests.control_plane import ControlPlane
from tests.fakes import fake_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Return two seconds of what the fakes take for speech."""
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\x00\x01" * 32_000)
    return path


@pytest.mark.parametrize("name", ["plain_asyncio", "pipecat_call", "livekit_call"])
async def test_an_example_prints_what_the_standby_hears(plane: ControlPlane, speech: Path, name):
    soniox, deepgram = fake_of("soniox"), fake_of("deepgram")
    soniox.behaviour.connect = "http:503"
    async with soniox.running(), deepgram.running():
        ran = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "examples" / f"{name}.py"),
            str(speech),
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT / "src"),
                "STT_GUARD_URL": plane.url,
                "STT_GUARD_KEY": plane.keys["agent"],
                "SONIOX_URL": soniox.url,
                "SONIOX_API_KEY": "k",
                "DEEPGRAM_URL": deepgram.url,
                "DEEPGRAM_API_KEY": "k",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complained = await asyncio.wait_for(ran.communicate(), 60)

    assert ran.returncode == 0, complained.decode()[-3000:]
    assert b"dg3" in printed, complained.decode()[-3000:]
    assert b"ended on deepgram" in complained
