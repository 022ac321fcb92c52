"""What a call came to: dead air, and each word that was lost or heard twice."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.rig.script import Script

ALLOWED_S: Final = 0.7  # between the end of an utterance and its transcript
_WORD = re.compile(r"(\w\w):(\d+)")


@dataclass(frozen=True, slots=True)
class Heard:
    """A final transcript, at a time of the script."""

    at_s: float
    text: str

    @property
    def words(self) -> list[int]:
        """The numbers of its words."""
        return [int(number) for _, number in _WORD.findall(self.text)]

    @property
    def tags(self) -> set[str]:
        """Who heard them."""
        return {tag for tag, _ in _WORD.findall(self.text)}


@dataclass(frozen=True, slots=True)
class Account:
    """What one call came to."""

    dead_air_s: float
    words: int
    words_lost: int
    words_doubled: int
    utterances: int
    utterances_lost: int
    ended_early: bool


def account(script: Script, heard: Sequence[Heard], ended_s: float | None = None) -> Account:
    """Compare what was said with what was heard. `ended_s`: when the call ended by itself."""
    ended_early = ended_s is not None and ended_s < script.length_s
    counts = Counter(word for final in heard for word in final.words)
    lost = [one for one in script.utterances if not any(counts[word] for word in one.words)]
    return Account(
        dead_air_s=sum(end - begin for begin, end in dead_air(script, heard, ended_s)),
        words=script.words,
        words_lost=sum(not counts[word] for word in range(script.words)),
        words_doubled=sum(max(0, count - 1) for count in counts.values()),
        utterances=len(script.utterances),
        utterances_lost=len(lost),
        ended_early=ended_early,
    )


def dead_air(
    script: Script, heard: Iterable[Heard], ended_s: float | None = None
) -> list[tuple[float, float]]:
    """When somebody had spoken and nobody had heard it.

    An utterance is answered by the first final that has a word of it or of a later one; without
    any it waits until the call would have ended. A call that ends early is dead from then on.
    """
    finals = [(final.at_s, max(final.words)) for final in heard if final.words]
    spans = []
    for one in script.utterances:
        answers = (at_s for at_s, word in finals if word >= one.words.start)
        spans.append((one.end_s + ALLOWED_S, min(answers, default=script.length_s)))
    if ended_s is not None:
        spans.append((ended_s, script.length_s))
    return _union((begin, min(end, script.length_s)) for begin, end in spans)


def _union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found
