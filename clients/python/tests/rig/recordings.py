"""Real noise: recordings that the LiveKit package ships, and what Pipecat's Silero says of them.

Silero is asked beforehand: in many calls at once it would fall behind, and then decide later.
"""

import asyncio
from functools import cache
from importlib import resources

import av
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADState

from tests.fakes.coded import RATE
from tests.rig.script import CHUNK_S, Part, Told, sound


@cache
def recording(name: str, seconds: float = 60.0) -> bytes:
    """Return a recording's first seconds as 16 bit mono."""
    source = resources.files("livekit.agents.resources") / f"{name}.ogg"
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with source.open("rb") as file, av.open(file) as container:
        frames = (one for frame in container.decode(audio=0) for one in resampler.resample(frame))
        whole = b"".join(frame.to_ndarray().tobytes() for frame in frames)
    return whole[: round(seconds * RATE) * 2]


@cache
def judged(audio: bytes) -> Told:
    """Return when Silero, with Pipecat's settings, tells of speech in it and of its end."""
    return asyncio.run(_judge(audio))


async def _judge(audio: bytes) -> Told:
    analyzer = SileroVADAnalyzer(sample_rate=RATE)
    analyzer.set_sample_rate(RATE)
    told: list[tuple[float, bool]] = []
    size = round(RATE * CHUNK_S) * 2
    for end in range(size, len(audio) + 1, size):
        state = await analyzer.analyze_audio(audio[end - size : end])
        is_speaking = bool(told) and told[-1][1]
        if state is (VADState.QUIET if is_speaking else VADState.SPEAKING):
            told.append((end / 2 / RATE, not is_speaking))
    await analyzer.cleanup()
    if told and told[-1][1]:
        told.append((len(audio) / 2 / RATE, False))
    return tuple(told)


def played(name: str, seconds: float = 60.0) -> Part:
    """Play a recording's first seconds, with what Silero tells of them."""
    audio = recording(name, seconds)
    return sound(audio, judged(audio))
