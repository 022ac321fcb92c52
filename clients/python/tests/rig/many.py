"""Many scenarios at once, but not so many that the machine decides what comes of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from loguru import logger

from tests.rig.account import Account
from tests.rig.lines import Arm
from tests.rig.load import Lateness, measured
from tests.rig.scene import Result, Scenario, run_scenario

AT_ONCE: Final = 32
APART_S: Final = 0.12  # between two beginnings: setting a call up is the dearest of it

Job = tuple[Scenario, Arm]
Came = dict[Job, list[Result | BaseException]]


async def run_many(
    jobs: Sequence[Job], lateness: Lateness, *, blocks: Sequence[tuple[float, float]] = ()
) -> Came:
    """Run them; return what came of each, as often as it is among them, an exception too.

    `blocks`: when nothing runs at all, and for how long. All calls begin at once then.
    """
    gate, door = asyncio.Semaphore(AT_ONCE), asyncio.Lock()

    async def one(job: Job) -> Result | BaseException:
        async with gate:
            if not blocks:
                async with door:
                    await asyncio.sleep(APART_S)
            try:
                return await run_scenario(*job)
            except Exception as error:
                return error

    async with quietly(), measured(lateness):
        results, _ = await asyncio.gather(
            asyncio.gather(*(one(job) for job in jobs)), block(blocks)
        )
    came: Came = {}
    for job, result in zip(jobs, results, strict=True):
        came.setdefault(job, []).append(result)
    return came


def account_of(came: Came, job: Job) -> Account:
    """The account of the middle one of its runs, by dead air; raises what one of them raised."""
    for result in came[job]:
        if not isinstance(result, Result):
            raise result
    accounts = sorted((one.account for one in came[job]), key=lambda one: one.dead_air_s)
    return accounts[len(accounts) // 2]


async def block(blocks: Sequence[tuple[float, float]]) -> None:
    """Stop everything, at those times and for so long."""
    began_s = time.monotonic()
    for at_s, seconds in blocks:
        await asyncio.sleep(began_s + at_s - time.monotonic())
        time.sleep(seconds)


@asynccontextmanager
async def quietly() -> AsyncIterator[None]:
    """Without Pipecat's log of each frame, which would cost more than the calls."""
    logger.disable("pipecat")
    try:
        yield
    finally:
        logger.enable("pipecat")
