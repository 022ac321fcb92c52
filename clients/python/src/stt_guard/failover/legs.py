"""What an adapter implements for its framework, and what a bot is told of a swap."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from stt_guard.call import Call
from stt_guard.failover.drops import Drops
from stt_guard.failover.limits import Limits
from stt_guard.words import Seen

SETTLE_S: Final = 1.0  # a connection that breaks sooner never was one


class Leg(ABC):
    """One provider's connection in this call. Nothing here raises, and each wait has a limit."""

    def __init__(self, provider: str, limits: Limits) -> None:
        self.provider = provider
        self.drops = Drops(limits)
        self.doubted_since_s: float | None = None  # left for its silence, and may still write
        self.tries = 0  # since the call was last heard
        self.is_out = False  # it failed for a reason that does not heal
        self.has_written = False
        self._first_up_s: float | None = None

    @property
    def was_up(self) -> bool:
        """Whether it ever wrote, or was up for more than a moment: then a failure is mid-call."""
        if self.has_written or self._first_up_s is None:
            return self.has_written
        return self.now() - self._first_up_s >= SETTLE_S

    def came_up(self) -> None:
        """It is connected."""
        now_s = self.now()
        self._first_up_s = self._first_up_s or now_s
        self.drops.up(now_s)

    def wrote(self) -> None:
        """It wrote something new."""
        self.has_written = True
        self.drops.wrote()

    @staticmethod
    def now() -> float:
        """The running loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    @abstractmethod
    async def connect(self, limit_s: float) -> Seen | None:
        """Connect anew. None when connected, else why not; a timeout ends the attempt."""

    @abstractmethod
    async def heal(self, limit_s: float) -> Seen | None:
        """Come back after a drop, by itself or made to. None when back, else why not."""

    @abstractmethod
    async def say(self, item: Any) -> None:
        """Give it a kept piece of the call."""

    @abstractmethod
    async def let_go(self) -> None:
        """Disconnect, and stop what it tries by itself."""


@dataclass(frozen=True, slots=True)
class Swap:
    """The call has moved. `reason` is the contract's; `stall` when the other found words."""

    call: Call
    left: str
    joined: str
    reason: str


class Host(Protocol):
    """The pipeline around the legs."""

    async def ready(self) -> None:
        """Wait until the pipeline runs."""

    async def activate(self, leg: Any) -> None:
        """Send everything to this leg from now."""

    def replayed(self, finals: Sequence[Any]) -> None:
        """What was kept has been said to the active leg. `finals`: its answers until here, to be
        let out; more of them may follow in pieces."""

    async def end(self) -> None:
        """End the call."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run this within the call."""

    def tell(self, event: str, value: Any) -> None:
        """Tell the bot: `on_swap` with a `Swap`, `on_last` with the call."""
