"""What the caller said since the last transcript, to be said again to the next provider."""

from collections import deque
from typing import Final

from pipecat.frames.frames import Frame, InputAudioRawFrame, VADUserStartedSpeakingFrame

TAIL_S: Final = 8.0


class Tail:
    """The last `seconds` of audio, with where speech began and ended between."""

    def __init__(self, seconds: float = TAIL_S) -> None:
        self._seconds = seconds
        self._frames: deque[tuple[int, Frame]] = deque()
        self._audio_s = 0.0
        self._next = 0

    def add(self, frame: Frame) -> None:
        """Keep a frame, and forget what is too old."""
        self._frames.append((self._next, frame))
        self._next += 1
        self._audio_s += _seconds(frame)
        while self._audio_s > self._seconds:
            self._audio_s -= _seconds(self._frames.popleft()[1])

    def answered(self, *, is_speaking: bool) -> None:
        """Forget all of it, but for the beginning of an utterance that goes on."""
        starts = [one for one in self._frames if isinstance(one[1], VADUserStartedSpeakingFrame)]
        self._frames.clear()
        self._audio_s = 0.0
        if is_speaking and starts:
            self._frames.append(starts[-1])

    def after(self, number: int) -> tuple[int, Frame] | None:
        """Return the first kept frame whose number is greater, with its number."""
        return next((one for one in self._frames if one[0] > number), None)


def _seconds(frame: Frame) -> float:
    if not isinstance(frame, InputAudioRawFrame) or not frame.sample_rate:
        return 0.0
    return float(frame.num_frames) / frame.sample_rate
