"""How late the loop was: figures of a starved machine are not worth much, and must say so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

EVERY_S: Final = 0.05
TOO_LATE_S: Final = 0.25


class Lateness:
    """By how much each of many short sleeps was too long."""

    def __init__(self) -> None:
        self.late_s: list[float] = []

    @property
    def p99_s(self) -> float:
        """Of a hundred sleeps the second worst."""
        if not self.late_s:
            return 0.0
        return sorted(self.late_s)[int(len(self.late_s) * 0.99)]

    @property
    def is_starved(self) -> bool:
        """Whether what was measured meanwhile says more of the machine than of the clients."""
        return self.p99_s > TOO_LATE_S

    def __str__(self) -> str:
        worst_s = max(self.late_s, default=0.0)
        text = f"loop late by {self.p99_s:.2f} s at the 99th percentile, {worst_s:.2f} s at most"
        if self.is_starved:
            text += ": THE MACHINE WAS STARVED, measure again"
        return text

    async def measure(self) -> None:
        """Sleep and look, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.late_s.append(loop.time() - due_s)


@asynccontextmanager
async def measured(lateness: Lateness | None = None) -> AsyncIterator[Lateness]:
    """Measure in the block."""
    found = lateness or Lateness()
    task = asyncio.create_task(found.measure())
    try:
        yield found
    finally:
        task.cancel()
