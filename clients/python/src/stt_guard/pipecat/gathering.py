"""Replayed words as one turn.

Said again in a moment, a sentence comes back in pieces within a moment more. An aggregator that
sees the caller silent takes the first piece for a whole turn, and the rest comes while the bot
already answers. So the pieces are gathered until no more come.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from pipecat.frames.frames import TranscriptionFrame

QUIET_S: Final = 0.3  # without another piece: that was all
LONGEST_S: Final = 1.5


class Gathering:
    """Keeps finals from `begin` on, and gives them to `done` as one."""

    def __init__(self, done: Callable[[TranscriptionFrame], None]) -> None:
        self._done = done
        self._pieces: list[TranscriptionFrame] = []
        self._until_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether pieces are gathered."""
        return self._until_s is not None

    def begin(self, pieces: Sequence[TranscriptionFrame]) -> None:
        """Gather from now; `pieces` came already."""
        self._pieces.extend(pieces)
        self._until_s = asyncio.get_running_loop().time() + LONGEST_S
        self._wait(QUIET_S if self._pieces else LONGEST_S)

    def add(self, piece: TranscriptionFrame) -> None:
        """Take another piece."""
        self._pieces.append(piece)
        self._wait(QUIET_S)

    def finish(self) -> None:
        """That was all."""
        self._until_s = None
        if self._timer:
            self._timer.cancel()
        pieces, self._pieces = self._pieces, []
        if pieces:
            text = " ".join(text for piece in pieces if (text := piece.text.strip()))
            self._done(replace(pieces[-1], text=text, timestamp=pieces[0].timestamp))

    def _wait(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
        due_s = min(loop.time() + limit_s, self._until_s or 0.0)
        self._timer = loop.call_at(max(due_s, loop.time()), self.finish)
