"""Real noise: recordings that the LiveKit package ships, as the rig's audio."""

from functools import cache
from importlib import resources

import av

from tests.fakes.coded import RATE


@cache
def recording(name: str, seconds: float = 60.0) -> bytes:
    """Return a recording's first seconds as 16 bit mono."""
    source = resources.files("livekit.agents.resources") / f"{name}.ogg"
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with source.open("rb") as file, av.open(file) as container:
        frames = (one for frame in container.decode(audio=0) for one in resampler.resample(frame))
        whole = b"".join(frame.to_ndarray().tobytes() for frame in frames)
    return whole[: round(seconds * RATE) * 2]
