"""What a caller does in a call, to the word: speech, noise and pauses, in audio that is coded.

A script is the same in each arm of a comparison. It also says what a VAD tells of it: the start of
speech 0.2 s late and its end 0.2 s late, as a transport's does.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from tests.fakes.coded import NOISE, RATE, WORD_S, level, value_of

CHUNK_S: Final = 0.04
VAD_S: Final = 0.2
QUIET: Final = 0

Kind = Literal["words", "noise", "quiet", "nothing", "sound"]


Told = tuple[tuple[float, bool], ...]  # when a VAD told of speech, and when of its end


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that the caller does. `nothing` sends no audio.

    A `sound` is a recording, and `told` what a real VAD told of it.
    """

    kind: Kind
    seconds: float
    audio: bytes = b""
    told: Told = ()

    @property
    def is_speech(self) -> bool:
        """Whether a VAD takes it for speech, as far as that goes by level."""
        return self.kind in {"words", "noise"}


def say(seconds: float) -> Part:
    """Speak: a word each 0.2 s."""
    return Part("words", round(seconds / WORD_S) * WORD_S)


def noise(seconds: float) -> Part:
    """Be speech to a VAD, and no words: a TV, a cough, a key."""
    return Part("noise", seconds)


def quiet(seconds: float) -> Part:
    """Send audio in which nobody speaks."""
    return Part("quiet", seconds)


def nothing(seconds: float) -> Part:
    """Send no audio at all."""
    return Part("nothing", seconds)


def sound(audio: bytes, told: Told = ()) -> Part:
    """Play a recording."""
    return Part("sound", len(audio) / 2 / RATE, audio, told)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Words that were said in one go, and when. Times are seconds of the script."""

    begin_s: float
    end_s: float
    words: range


@dataclass(frozen=True, slots=True)
class Cue:
    """What reaches the agent at a time: audio, or what the VAD tells."""

    at_s: float
    audio: bytes = b""
    speaking: bool | None = None


class Script:
    """Parts in a row. With `jitter_s` the audio is late, by another time for each chunk."""

    def __init__(self, *parts: Part, jitter_s: float = 0.0) -> None:
        self.parts, self.jitter_s = parts, jitter_s
        self.length_s = sum(part.seconds for part in parts)

    @cached_property
    def utterances(self) -> tuple[Utterance, ...]:
        """What is said, in order."""
        found, first = [], 0
        for begin_s, part in self._placed():
            if part.kind == "words":
                words = range(first, first + round(part.seconds / WORD_S))
                first = words.stop
                found.append(Utterance(begin_s, begin_s + part.seconds, words))
        return tuple(found)

    @property
    def words(self) -> int:
        """How many words are said."""
        return sum(len(one.words) for one in self.utterances)

    @cached_property
    def cues(self) -> tuple[Cue, ...]:
        """Everything in the order of its time."""
        return tuple(sorted([*self._audio(), *self._vad()], key=lambda cue: cue.at_s))

    def _placed(self) -> Iterator[tuple[float, Part]]:
        at_s = 0.0
        for part in self.parts:
            yield at_s, part
            at_s += part.seconds

    def _audio(self) -> Iterator[Cue]:
        """Return the chunks when they arrive, none before another."""
        chance, last_s = random.Random(0), 0.0
        for cue in self._chunks():
            last_s = max(last_s, cue.at_s + chance.uniform(0.0, self.jitter_s))
            yield Cue(last_s, cue.audio)

    def _chunks(self) -> Iterator[Cue]:
        """Cut the audio into chunks; each is there when it was spoken to its end."""
        size = round(RATE * CHUNK_S) * 2
        said = iter(self.utterances)
        for begin_s, part in self._placed():
            whole = _audio_of(part, next(said).words if part.kind == "words" else range(0))
            for number, at in enumerate(range(0, len(whole), size), start=1):
                end_s = min(begin_s + number * CHUNK_S, begin_s + part.seconds)
                yield Cue(end_s, audio=whole[at : at + size])

    def _vad(self) -> Iterator[Cue]:
        for begin_s, end_s in self.spoken():
            yield Cue(begin_s + VAD_S, speaking=True)
            yield Cue(end_s + VAD_S, speaking=False)
        for begin_s, part in self._placed():
            for at_s, is_speaking in part.told:
                yield Cue(begin_s + at_s, speaking=is_speaking)

    def spoken(self) -> list[tuple[float, float]]:
        """When a VAD takes it for speech: what is too short is none, nor is a gap too short."""
        spans: list[tuple[float, float]] = []
        for begin_s, part in self._placed():
            if not part.is_speech:
                continue
            end_s = begin_s + part.seconds
            if spans and begin_s - spans[-1][1] < VAD_S:
                begin_s, _ = spans.pop()
            spans.append((begin_s, end_s))
        return [(begin_s, end_s) for begin_s, end_s in spans if end_s - begin_s >= VAD_S]


def _audio_of(part: Part, words: range) -> bytes:
    if part.kind == "words":
        return b"".join(level(value_of(word), WORD_S) for word in words)
    if part.kind in {"quiet", "noise"}:
        return level(NOISE if part.kind == "noise" else QUIET, part.seconds)
    return part.audio


def turns(times: int, *, speech_s: float = 1.2, pause_s: float = 1.0) -> list[Part]:
    """Speak and wait, so many times."""
    return [part for _ in range(times) for part in (say(speech_s), quiet(pause_s))]


def caller(seed: str, length_s: float, *, first_s: float = 1.0, last_s: float = 1.2) -> Script:
    """A caller who says 0.6 to 2 s and pauses as long, from `first_s` on, the same for a seed.

    The last word is said at least `last_s` before the end: there is time to hear it.
    """
    chance = random.Random(seed)
    parts, left_s = [quiet(first_s)], length_s - first_s - last_s
    while left_s >= 0.6:
        speech = say(min(chance.uniform(0.6, 2.0), left_s))
        left_s -= speech.seconds
        pause = quiet(min(round(chance.uniform(0.6, 2.0), 2), max(0.0, left_s)))
        left_s -= pause.seconds
        parts += [speech, pause]
    return Script(*parts, quiet(max(0.0, left_s) + last_s))
