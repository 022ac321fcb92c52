"""What the caller said since the last transcript, to be said again to a provider."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kept:
    """A piece of the call: audio of `seconds`, or a mark of no length (speech began, it ended)."""

    number: int
    item: Any
    seconds: float
    is_beginning: bool


class Tail:
    """The last `seconds` of audio, with where speech began and ended between."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[Kept] = deque()
        self._audio_s = 0.0
        self._next = 0

    def add(self, item: Any, seconds: float = 0.0, *, is_beginning: bool = False) -> None:
        """Keep a piece, and forget what is too old. `is_beginning`: speech begins here."""
        self._kept.append(Kept(self._next, item, seconds, is_beginning))
        self._next += 1
        self._audio_s += seconds
        while self._audio_s > self._seconds:
            self._audio_s -= self._kept.popleft().seconds

    def answered(self, *, is_speaking: bool) -> None:
        """Forget all of it, but for the beginning of an utterance that goes on."""
        beginnings = [one for one in self._kept if one.is_beginning]
        self._kept.clear()
        self._audio_s = 0.0
        if is_speaking and beginnings:
            self._kept.append(beginnings[-1])

    @property
    def last_beginning(self) -> int | None:
        """The number of the piece where speech began last; None when it is not kept."""
        return next((one.number for one in reversed(self._kept) if one.is_beginning), None)

    def after(self, number: int, before: int | None = None) -> Iterator[Kept]:
        """Yield what is newer than `number`, also what is added meanwhile, but for `before` on."""
        while found := next((one for one in self._kept if one.number > number), None):
            if before is not None and found.number >= before:
                return
            yield found
            number = found.number
