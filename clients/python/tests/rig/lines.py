"""A call that a script can be played into, whatever framework runs it and whoever guards it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

from stt_guard import Call
from tests.fakes import FakeProvider
from tests.rig.account import Heard
from tests.rig.script import Cue, Script

Arm = Literal["none", "framework", "ours"]
Chain = Mapping[str, FakeProvider]  # who may be used, best first, by the names of the call's order


class Line(ABC):
    """One running call. Times are of the loop's clock."""

    def __init__(self) -> None:
        self.finals: list[tuple[float, str]] = []
        self.ended_s: float | None = None

    @abstractmethod
    async def begin(self) -> None:
        """Begin the call; it need not be ready when this returns."""

    @abstractmethod
    async def ready(self) -> None:
        """Return when it listens, or when it has not begun to for too long."""

    @abstractmethod
    async def take(self, cue: Cue) -> None:
        """Take what the caller does."""

    @abstractmethod
    async def mute(self, is_muted: bool) -> None:
        """Stop listening to the caller, or listen again."""

    @abstractmethod
    async def hang_up(self) -> None:
        """End the call in order."""

    @abstractmethod
    async def stop(self) -> None:
        """End it however it can, within seconds."""

    def heard_since(self, began_s: float) -> list[Heard]:
        """The finals, at times since then."""
        return [Heard(at_s - began_s, text) for at_s, text in self.finals]


async def play(script: Script, line: Line, began_s: float) -> None:
    """Play a script into a call in real time, from that time on."""
    loop = asyncio.get_running_loop()
    for cue in script.cues:
        wait_s = began_s + cue.at_s - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await line.take(cue)
    await asyncio.sleep(max(0.0, began_s + script.length_s - loop.time()))


def needs_call(arm: Arm, call: Call | None) -> Call:
    """The call that the client guards."""
    assert call is not None, f"arm {arm} needs a decided call"
    return call
