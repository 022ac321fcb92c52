"""`bin/dead-air`: how long callers are not heard in an outage, in three arms.

none        one service, no fallback
framework   the framework's own failover over the same two services
ours        stt-guard, with the decisions of a real control plane
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from itertools import count
from pathlib import Path

from loguru import logger

from stt_guard import Call, SttGuard
from tests.control_plane import ControlPlane
from tests.readme import OWN, ROOT, table, write_between
from tests.rig.account import ALLOWED_S, Account
from tests.rig.lines import Arm
from tests.rig.load import Lateness, measured
from tests.rig.outages import AFTER_S, FAULTS, NEW_S, Cell, Decide, Seen, run_cell

ARMS: dict[Arm, str] = {"none": "no fallback", "framework": "", "ours": "stt-guard"}
OF_FRAMEWORK = {"pipecat": "`ServiceSwitcher` with failover", "livekit": "`FallbackAdapter`"}
PACKAGES = {"pipecat": "pipecat-ai", "livekit": "livekit-agents"}
MUCH_S = 2.0
MARKS = {"pipecat": "dead-air", "livekit": "dead-air-livekit"}  # in the READMEs
Found = dict[tuple[Cell, Arm], list[Seen]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write it into the READMEs when UPDATE_README is set."""
    asked = options().parse_args(arguments)
    lateness = Lateness()
    with plane_for(asked) as plane:
        found = asyncio.run(measure(asked, plane, lateness))
    printed = report(asked, found)
    print(f"{printed}\n\n{lateness}", flush=True)
    if not os.environ.get("UPDATE_README"):
        return 0
    return 1 if lateness.is_starved else write(MARKS[asked.framework], printed)


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("bin/dead-air", description=__doc__, formatter_class=shape)
    parser.add_argument("--calls", type=int, default=16, help="in each cell; half begin after it")
    parser.add_argument("--faults", type=words_of(FAULTS), default="all", help=f"of {[*FAULTS]}")
    parser.add_argument(
        "--primaries", type=words_of(["soniox", "deepgram"], "both"), default="both"
    )
    parser.add_argument("--arms", type=words_of(ARMS), default="all")
    parser.add_argument("--framework", choices=[*OF_FRAMEWORK], default="pipecat")
    return parser


def words_of(known: Sequence[str] | dict[str, object], everything: str = "all") -> Callable:
    """Return what reads words with commas between, or one that means all of them."""

    def read(text: str) -> list[str]:
        words = [*known] if text == everything else text.split(",")
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError(f"{unknown} not in {[*known]}")
        return words

    return read


def cells_of(asked: argparse.Namespace) -> list[Cell]:
    """What is to be measured in each arm."""
    return [Cell(fault, primary) for fault in asked.faults for primary in asked.primaries]


@contextmanager
def plane_for(asked: argparse.Namespace) -> Iterator[ControlPlane | None]:
    """Run a control plane with a route for each cell, if an arm needs it."""
    if "ours" not in asked.arms:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        routes = [{"slug": cell.route, "chain": cell.chain} for cell in cells_of(asked)]
        plane = ControlPlane(Path(folder), routes)
        try:
            yield plane
        finally:
            plane.stop()


@asynccontextmanager
async def decisions(plane: ControlPlane | None):
    """Give what decides a call: one guard for all, as in a process of agents."""
    if plane is None:
        yield None
        return
    numbers = count(1)
    async with SttGuard(
        plane.url, key=plane.keys["agent"], route="dead-air", can_use=["none"], host="pod-1"
    ) as guard:
        await guard.start(5)

        async def decide(cell: Cell) -> Call:
            call_id = f"{cell.route}-{next(numbers)}"
            return await guard.call(call_id, route=cell.route, can_use=cell.chain)

        yield decide


async def measure(
    asked: argparse.Namespace, plane: ControlPlane | None, lateness: Lateness
) -> Found:
    """Run every cell in every arm, one after the other."""
    found: Found = {}
    async with measured(lateness), decisions(plane) as decide:
        for arm in asked.arms:
            for cell in cells_of(asked):
                found[cell, arm] = await run_one(asked, cell, arm, decide)
    return found


async def run_one(
    asked: argparse.Namespace, cell: Cell, arm: Arm, decide: Decide | None
) -> list[Seen]:
    """Run a cell and say so."""
    async with measured() as lateness:
        seen = await run_cell(cell, arm, asked.framework, asked.calls, decide)
    print(f"{arm:9} {cell.fault:9} {cell.primary:9} {dead_s(seen):6.2f} s a call; {lateness}",
          file=sys.stderr, flush=True)  # fmt: skip
    return seen


# --- what is printed


def report(asked: argparse.Namespace, found: Found) -> str:
    """Return the table, and what it was measured with."""
    arms = asked.arms
    titles = {**ARMS, "framework": OF_FRAMEWORK[asked.framework]}
    head = ["outage", "primary", *(titles[arm] for arm in arms)]
    head += ["ours: in progress / new"] if "ours" in arms else []
    slashed = " / ".join("ours" if arm == "ours" else arm for arm in arms)
    head += [f"utterances lost, {slashed}", f"ended early, {slashed}"]
    rows = [
        row(FAULTS[cell.fault].title, cell.primary, arms, lambda arm, cell=cell: found[cell, arm])
        for cell in cells_of(asked)
    ]

    def everything(arm: Arm) -> list[Seen]:
        return [seen for cell in cells_of(asked) for seen in found[cell, arm]]

    rows.append([f"**{text}**" if text else "" for text in row("all", "", arms, everything)])
    return f"{table(head, rows)}\n\n{footnote(asked, everything)}"


def row(title: str, primary: str, arms: list[Arm], of: Callable[[Arm], list[Seen]]) -> list[str]:
    """Return one row: seconds of dead air a call in each arm, and what was lost."""
    cells = [title, primary, *(f"{dead_s(of(arm)):.2f} s" for arm in arms)]
    if "ours" in arms:
        halves = ([seen for seen in of("ours") if seen.is_new is new] for new in (False, True))
        cells.append(" / ".join(f"{dead_s(half):.2f}" for half in halves))
    said = sum(seen.account.utterances for seen in of(arms[0]))
    lost = " / ".join(str(sum(one.account.utterances_lost for one in of(arm))) for arm in arms)
    early = " / ".join(str(sum(one.account.ended_early for one in of(arm))) for arm in arms)
    return [*cells, f"{lost} of {said}", early]


def footnote(asked: argparse.Namespace, everything: Callable[[Arm], list[Seen]]) -> str:
    """Say how it was measured."""

    def sums(what: Callable[[Account], int]) -> str:
        return " / ".join(
            str(sum(what(one.account) for one in everything(arm))) for arm in asked.arms
        )

    first = everything(asked.arms[0])
    package = PACKAGES[asked.framework]
    return (
        f"Seconds of dead air a call, {package} {version(package)}: time in which a finished "
        f"utterance, {ALLOWED_S} s after its end, had no transcript of it or of a later one. "
        f"{asked.calls} calls a cell, half of them in progress at the outage, half begun within "
        f"{NEW_S:.0f} s after it, each with {AFTER_S:.0f} s or more of call left. The same callers "
        f"in each arm (speech and pauses of 0.6 to 2 s). More than {MUCH_S:.0f} s of dead air: "
        f"{sums(lambda one: one.dead_air_s > MUCH_S)} of {len(first)} calls. Words lost: "
        f"{sums(lambda one: one.words_lost)}, heard twice: {sums(lambda one: one.words_doubled)}, "
        f"of {sum(one.account.words for one in first)}. `bin/dead-air` measures it."
    )


def dead_s(seen: list[Seen]) -> float:
    """Dead air a call."""
    return sum(one.account.dead_air_s for one in seen) / max(1, len(seen))


def write(mark: str, printed: str) -> int:
    """Write it into the client's README, Pipecat's last line also on the repository's first screen.

    Returns 1 where there is no place for it.
    """
    places = {OWN: printed}
    if mark == MARKS["pipecat"]:
        places[ROOT] = last_line(printed)
    missing = [path for path, text in places.items() if not write_between(path, mark, text)]
    for path in missing:
        print(f"{path} has no markers for {mark}: not written", file=sys.stderr)
    return 1 if missing else 0


def last_line(printed: str) -> str:
    """Return the table with its last line alone, that of all outages."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return "\n".join([*lines[:2], lines[-1]])


if __name__ == "__main__":
    logger.remove()  # Pipecat's log of each frame would cost more than the calls
    logging.disable(logging.CRITICAL)  # both frameworks tell of each fault at length
    sys.exit(main())
