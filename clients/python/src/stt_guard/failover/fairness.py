"""Waiting that does not blame a provider for what this process was too busy to see."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

STEP_S: Final = 0.1


async def wait_fairly(waits: Iterable[asyncio.Future[Any]], limit_s: float) -> None:
    """Wait for the first of these, at most so long.

    A loop that was blocked for longer finds the answer and the timeout at the same moment; so time
    counts only in steps in which the loop went round.
    """
    waits, left_s = set(waits), limit_s
    while left_s > 0:
        step_s = min(left_s, STEP_S)
        done, _ = await asyncio.wait(waits, timeout=step_s, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
        left_s -= step_s
