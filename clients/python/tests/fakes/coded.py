"""Audio that carries words: 0.2 s of one sample value is one word, and the value says which.

So a fake provider can say what it really heard, and a test can count, word by word, what was lost
on the way and what was said twice. Noise is loud and constant, but no word.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

RATE: Final = 16_000
WORD_S: Final = 0.2
LOUD: Final = 300  # a sample beyond it is speech to a VAD that goes by level
NOISE: Final = -12_000
WORDS_FROM: Final = 1_000  # the sample value of word 0

# Most of a word must be heard, so that one cut in two by a drop is heard by one side at most.
ENOUGH_S: Final = 0.12
SLICE_BYTES: Final = RATE // 50 * 2


def level(value: int, seconds: float) -> bytes:
    """Return that long of one sample value."""
    return value.to_bytes(2, "little", signed=True) * round(RATE * seconds)


def value_of(word: int) -> int:
    """The sample value that says this word."""
    return WORDS_FROM + word


class Ear:
    """Hears words in coded audio. `quiet_s`: audio since the last word was understood."""

    def __init__(self) -> None:
        self.quiet_s = 0.0
        self._value: int | None = None
        self._run = 0  # samples of that value so far
        self._heard = 0  # words understood of them

    def hear(self, audio: bytes) -> list[int]:
        """Take some audio; return the words that were understood with it."""
        words = []
        for value, samples in _runs(audio):
            if value != self._value:
                self._value, self._run, self._heard = value, 0, 0
            self._run += samples
            self.quiet_s += samples / RATE
            while value >= WORDS_FROM and self._run >= self._due():
                self._heard += 1
                self.quiet_s = 0.0
                words.append(value - WORDS_FROM)
        return words

    def _due(self) -> int:
        """How many samples the next word of this run needs."""
        return round(RATE * (self._heard * WORD_S + ENOUGH_S))


def slices(audio: bytes) -> Iterator[bytes]:
    """Cut audio into 20 ms: a long message may hold words and pauses."""
    for begin in range(0, len(audio), SLICE_BYTES):
        yield audio[begin : begin + SLICE_BYTES]


def _runs(audio: bytes) -> Iterator[tuple[int, int]]:
    """Return each sample value with how often it comes in a row."""
    count = len(audio) // 2
    if audio == audio[:2] * count:  # nearly always, and quick
        yield int.from_bytes(audio[:2], "little", signed=True), count
        return
    for value, equal in groupby(memoryview(audio[: count * 2]).cast("h")):
        yield value, sum(1 for _ in equal)
