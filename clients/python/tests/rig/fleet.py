"""`bin/fleet`: a fleet through one outage. Who is hurt, who is diverted, and how many probe.

Processes of callers, each with a client of its own, and one real control plane. The first provider
goes out while every caller is in a call, stays out for more than one open time, and heals.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.control_plane import ControlPlane
from tests.readme import FOLDER, OWN, table, write_between
from tests.rig.fleet_figures import Found, Spell, rows, spells_of, total
from tests.rig.fleet_providers import Providers
from tests.rig.fleet_worker import SPREAD_S, Job, Talk
from tests.rig.load import measured
from tests.routes import route

MARK: Final = "fleet"  # in the README
SLUG: Final = "fleet"
LEAD_S: Final = 4.0  # calls as on any day, before the outage
AFTER_S: Final = 3.0  # and after it
SLACK_S: Final = 15.0  # beyond the open time, until the provider is used again
REPORT_S: Final = 60.0

# What an operator writes to have the providers of this route back sooner, level in each trip.
_POLICY: Final = "policies:\n  quick:\n    open_duration_s: {0}\n    open_duration_max_s: {0}\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a fleet, and how long its first provider is out."""

    processes: int = 4
    callers: int = 50
    outage_s: float = 16.0
    open_s: int = 6
    route: str = SLUG
    can_use: Sequence[str] = field(default_factory=lambda: route(SLUG)["chain"])


USUAL: Final = Plan()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write it into the README when UPDATE_README is set."""
    asked = options().parse_args(arguments)
    plan = Plan(asked.processes, asked.callers, asked.outage, asked.open)
    began_s = time.monotonic()
    with plane_for(plan) as plane:
        found = asyncio.run(measure(plan, plane))
    printed = report(plan, found)
    print(f"{printed}\n\n{found.lateness}; it took {time.monotonic() - began_s:.0f} s", flush=True)
    if not os.environ.get("UPDATE_README"):
        return 0
    return 1 if found.lateness.is_starved else write(printed)


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("bin/fleet", description=__doc__, formatter_class=shape)
    parser.add_argument("--processes", type=int, default=USUAL.processes)
    parser.add_argument("--callers", type=int, default=USUAL.callers, help="in each, at a time")
    parser.add_argument("--outage", type=float, default=USUAL.outage_s, help="seconds")
    parser.add_argument("--open", type=int, default=USUAL.open_s, help="the breaker's open time")
    return parser


@contextmanager
def plane_for(plan: Plan) -> Iterator[ControlPlane]:
    """Run a control plane with the route, and its providers out for so long."""
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder), [route(plan.route, quick=True)])
        try:
            policy = Path(folder) / "policy.yaml"
            policy.write_text(_POLICY.format(plan.open_s))
            plane._manage("config_apply", str(policy))
            yield plane
        finally:
            plane.stop()


# --- the run


async def measure(plan: Plan, plane: ControlPlane) -> Found:
    """Take a fleet through one outage; return what its callers and the server saw."""
    primary = plan.can_use[0]
    providers = Providers(primary)
    async with (
        providers.running(),
        measured() as lateness,
        crew(plan, plane, providers.port) as reports,
    ):
        await asyncio.sleep(SPREAD_S + LEAD_S)
        await providers.busy(plan.processes * plan.callers)
        out_s, in_progress = providers.go_out()
        await asyncio.sleep(plan.outage_s)
        healed_s = providers.heal()
        await back(plan, plane, primary)
        await asyncio.sleep(AFTER_S)
        told = await reports()
    for one in told:
        lateness.late_s += one["late_s"]
    proven = await spells(plane, primary, out_s)  # first: the incident is written with its last
    return Found(
        out_s,
        healed_s,
        in_progress,
        talks=[Talk(**talk) for one in told for talk in one["talks"]],
        counts=total(one["stats"] for one in told),
        spells=proven,
        incident=(await history(plane, "incidents", primary))[0],
        lateness=lateness,
    )


async def back(plan: Plan, plane: ControlPlane, primary: str) -> None:
    """Wait until the breaker is closed again. Raises TimeoutError when it stays as it is."""
    async with asyncio.timeout(plan.open_s + SLACK_S):
        while (await asyncio.to_thread(plane.breaker, primary))["state"] != "closed":
            await asyncio.sleep(0.2)


async def history(plane: ControlPlane, what: str, provider: str) -> list[dict[str, Any]]:
    """Return what the server keeps of a provider, newest first."""
    told = await asyncio.to_thread(plane.get, what, provider=provider, page_size="100")
    return told["results"]


async def spells(plane: ControlPlane, primary: str, since_s: float) -> list[Spell]:
    """Return the half-open spells, once the server's history has the last one."""
    async with asyncio.timeout(SLACK_S):
        while True:
            transitions = await history(plane, "transitions", primary)
            if transitions and transitions[0]["to"] == "closed":
                return [one for one in spells_of(transitions) if one.begun_s > since_s]
            await asyncio.sleep(0.2)


@asynccontextmanager
async def crew(plan: Plan, plane: ControlPlane, port: int) -> AsyncIterator[Callable[[], Any]]:
    """Run the processes; give what stops them and returns what each of them saw."""
    processes = [
        await begin(
            Job(
                host=f"pod-{number}",
                callers=plan.callers,
                url=plane.url,
                key=plane.keys["agent"],
                route=plan.route,
                can_use=list(plan.can_use),
                port=port,
            )
        )
        for number in range(1, plan.processes + 1)
    ]

    async def reports() -> list[dict[str, Any]]:
        async with asyncio.timeout(REPORT_S):
            return await asyncio.gather(*(end(process) for process in processes))

    try:
        yield reports
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def begin(job: Job) -> asyncio.subprocess.Process:
    """Start one process of the fleet."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.rig.fleet_worker",
        cwd=FOLDER, env={**os.environ, "PYTHONPATH": "src"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
    await process.stdin.drain()
    return process


async def end(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Have a process's callers finish; return what it saw."""
    assert process.stdin
    process.stdin.close()
    told, _ = await process.communicate()
    assert process.returncode == 0, "a process of the fleet failed: it says why above"
    return json.loads(told)


# --- what is printed


def report(plan: Plan, found: Found) -> str:
    """Return the table, and what was measured."""
    head = ["one outage of the primary", f"{plan.processes} processes of {plan.callers} callers"]
    footnote = (
        f"{len(found.in_progress)} calls were in progress when it began; it lasted "
        f"{plan.outage_s:.0f} s with an open time of {plan.open_s} s. Calls of 0.9 to 3 s, each "
        f"followed by the next. `bin/fleet` measures it."
    )
    return f"{table(head, rows(found))}\n\n{footnote}"


def write(printed: str) -> int:
    """Write it into the README; 1 where that has no place for it."""
    if write_between(OWN, MARK, printed):
        return 0
    print(f"{OWN} has no markers for {MARK}: not written", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
