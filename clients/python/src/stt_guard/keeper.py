"""Keeps a machine's state file fresh where no process listens: one of them asks, for all.

Off the way of every call: a job that finds the file old asks in the background, and the next jobs
find what it was told.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from stt_guard.memory import Memory
from stt_guard.said import Said, advice
from stt_guard.state import Picture

LOOK_S: Final = 10.0
ASK_S: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Keeper:
    """Looks at the file every LOOK_S, and asks for the status when it is old and its turn."""

    base_url: str
    headers: Mapping[str, str]
    session: Callable[[], aiohttp.ClientSession]
    memory: Memory
    said: Said
    clock: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        """Keep it for ever; every failure only makes the file older."""
        while True:
            try:
                if self.memory.claim():
                    await self._ask()
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                log.debug("the status cannot be had", exc_info=True)
            except Exception:  # a fault of ours must not let the file grow old for ever
                log.exception("the state file could not be kept; it is tried again")
            await asyncio.sleep(LOOK_S * random.uniform(0.8, 1.2))

    async def _ask(self) -> None:
        async with (
            asyncio.timeout(ASK_S),
            self.session().get(f"{self.base_url}/api/v1/status", headers=self.headers) as response,
        ):
            if response.status != 200:
                status = response.status
                self.said.warn("the status cannot be had: %d%s", status, advice(status))
                return
            picture = Picture()
            picture.replace(await response.json(), self.clock())
            self.memory.save(picture.body())
