"""Outages of a fleet: some calls are in progress when a provider fails, others begin after it.

Every arm gets the same callers and the same fault at the same moment, one arm after the other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stt_guard import Call
from tests.fakes import FakeProvider, fake_of
from tests.rig.account import Account, account
from tests.rig.lines import Arm, Chain, Line, play
from tests.rig.livekit_line import LiveKitLine
from tests.rig.pipecat_line import PipecatLine
from tests.rig.scene import Framework, other_than
from tests.rig.script import Script, caller

LEAD_S: Final = 7.0  # from the first call to the outage
STARTING_S: Final = 3.0  # within which the calls in progress begin, so that they are not in step
AFTER_S: Final = 13.0  # of call, at least, after the outage
NEW_S: Final = 4.0  # within which the new calls begin


@dataclass(frozen=True, slots=True)
class Fault:
    """How a provider behaves from the outage on; `resets` its live connections, or is gone."""

    title: str
    behaviour: Mapping[str, Any] = field(default_factory=dict)
    resets: bool = False
    is_gone: bool = False

    async def strike(self, fake: FakeProvider) -> None:
        """Begin."""
        for name, value in {"after_s": 0.0, **self.behaviour}.items():
            setattr(fake.behaviour, name, value)
        if self.is_gone:
            await fake.stop()
        elif self.resets:
            fake.kill_all()


FAULTS: Final = {
    "503": Fault("503 and a reset", {"connect": "http:503"}, resets=True),
    "hang": Fault("connecting hangs, and a reset", {"connect": "hang"}, resets=True),
    "stall": Fault("a stall", {"stream": "stall"}),
    "close": Fault("each connection closed with 1011", {"stream": "close:1011"}),
    "refused": Fault("the server is gone", is_gone=True),
    "in-band": Fault("each connection ends with an error in it", {"stream": "error:503"}),
    "flapping": Fault("each connection reset after 4 s", {"flap_s": 4.0}, resets=True),
    "slow": Fault("results 6 s late", {"latency_s": 6.0}),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault of one primary."""

    fault: str
    primary: str

    @property
    def route(self) -> str:
        """A route of its own at the control plane, with providers of its own."""
        return f"dead-air-{self.fault}-{self.primary}"

    @property
    def chain(self) -> list[str]:
        """Their slugs, best first."""
        return [f"{name}-{self.route}" for name in (self.primary, other_than(self.primary))]


@dataclass(frozen=True, slots=True)
class Seen:
    """One call of a cell."""

    is_new: bool
    account: Account


@dataclass(frozen=True, slots=True)
class Planned:
    """When a call begins, in seconds after the cell, and who calls."""

    begins_s: float
    is_new: bool
    script: Script


Decide = Callable[[Cell], Awaitable[Call]]


def plan(cell: Cell, calls: int) -> list[Planned]:
    """Half of the calls are in progress at the outage, half are begun after it."""
    half, found = calls // 2, []
    for number in range(half):
        begins_s = STARTING_S * number / half
        length_s = LEAD_S - begins_s + AFTER_S + 0.1 * number
        script = caller(f"{cell.route} {number}", length_s)
        found.append(Planned(begins_s, False, script))
    for number in range(calls - half):
        begins_s = LEAD_S + 0.3 + (NEW_S - 0.3) * number / max(1, calls - half)
        script = caller(f"{cell.route} new {number}", AFTER_S + 0.1 * number)
        found.append(Planned(begins_s, True, script))
    return found


async def run_cell(
    cell: Cell, arm: Arm, framework: Framework, calls: int, decide: Decide
) -> list[Seen]:
    """Run the calls of a cell in one arm, through its outage."""
    fakes = [fake_of(name, hears=True) for name in (cell.primary, other_than(cell.primary))]
    chain = dict(zip(cell.chain, fakes, strict=True))
    if arm == "none":
        chain = dict(list(chain.items())[:1])
    async with fakes[0].running(), fakes[1].running():
        zero_s = time.monotonic()

        async def strike() -> None:
            await asyncio.sleep(max(0.0, zero_s + LEAD_S - time.monotonic()))
            await FAULTS[cell.fault].strike(fakes[0])

        async def one(planned: Planned) -> Seen:
            began_s = zero_s + planned.begins_s
            await asyncio.sleep(max(0.0, began_s - time.monotonic()))
            call = await decide(cell) if arm == "ours" else None
            return await talk(planned, line_of(framework, arm, chain, call), began_s)

        striking = asyncio.create_task(strike())
        seen = await asyncio.gather(*(one(planned) for planned in plan(cell, calls)))
        await striking
    return seen


def line_of(framework: Framework, arm: Arm, chain: Chain, call: Call | None) -> Line:
    """Return a call that is to begin."""
    return (LiveKitLine if framework == "livekit" else PipecatLine)(arm, chain, call)


async def talk(planned: Planned, line: Line, began_s: float) -> Seen:
    """Play one caller to the end, and take down what came of it."""
    try:
        await line.begin()
        await play(planned.script, line, began_s)
        ended_s = None if line.ended_s is None else line.ended_s - began_s
        return Seen(planned.is_new, account(planned.script, line.heard_since(began_s), ended_s))
    finally:
        await line.stop()
