"""Runs the matrix: each case is a headless Pipecat call through its fault, all of them at once."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from stt_guard import Call, SttGuard
from tests.cases import CASES, Case
from tests.control_plane import ControlPlane
from tests.fakes import FakeProvider, fake_of
from tests.headless import Headless, headless

AT_ONCE = 12
LIMIT_S = 9.0
LAST_S = 18.0  # with nobody left, all are tried again for 15 s
VERDICT_S = 9.0  # a stall is reported when the provider that was left stays silent for 8 s
SILENT = frozenset({"stall", "empty", "garbage", "freeze"})


@dataclass(slots=True)
class Row:
    """What was seen of a case. Times are seconds after the fault (set-up: after the call began)."""

    case: Case
    detected_s: float | None = None
    fallback_s: float | None = None
    ended_s: float | None = None
    reported: list[dict[str, Any]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    standby_handshakes_before: int = 0
    doubled_frames: int = 0

    def of(self, provider: str) -> list[dict[str, Any]]:
        """The failures and recoveries reported of a provider."""
        kinds = {"init_failure", "mid_call_failure", "stall", "recovered"}
        mine = [one for one in self.reported if one["provider"].startswith(provider)]
        return [one for one in mine if one["kind"] in kinds]


async def run_matrix(plane: ControlPlane) -> dict[str, Row]:
    """Run every case against the control plane; return the rows by the case's route."""
    gate = asyncio.Semaphore(AT_ONCE)
    first = CASES[0]
    async with SttGuard(
        plane.url, key=plane.keys["agent"], route=first.route, can_use=["none"], host="pod-1"
    ) as guard:
        await guard.start(5)

        async def one(case: Case) -> Row:
            async with gate:
                return await run_case(case, guard)

        rows = await asyncio.gather(*(one(case) for case in CASES))
    for row in rows:
        row.taken = plane.calls_outcomes(f"matrix-{row.case.route}")
    return {row.case.route: row for row in rows}


async def run_case(case: Case, guard: SttGuard) -> Row:
    """Run one case."""
    row = Row(case)
    fakes = {case.primary: fake_of(case.primary), case.standby: fake_of(case.standby)}
    async with fakes[case.primary].running(), fakes[case.standby].running():
        chain = {f"{name}-{case.route}": fake for name, fake in fakes.items()}
        if case.when == "set-up":
            await do_at_set_up(case, fakes)
        call = await guard.call(f"matrix-{case.route}", route=case.route, can_use=list(chain))
        watch(call, row)
        async with headless(call, chain) as running:
            if case.when == "set-up":
                await asyncio.wait_for(running.started.wait(), 15)
                await follow(row, running, fakes, running.began_s)
            else:
                await through_mid_call(case, row, running, fakes)
            await running.hang_up()
            row.doubled_frames = running.sink.vad_stops
    return row


def watch(call: Call, row: Row) -> None:
    """Note what is reported, and when."""
    put = call._put

    def noting(body: dict[str, Any]) -> None:
        row.reported.append({**body, "at_s": time.monotonic()})
        put(body)

    call._put = noting


async def do_at_set_up(case: Case, fakes: dict[str, FakeProvider]) -> None:
    """Break the primary before the call begins."""
    primary, standby = fakes[case.primary], fakes[case.standby]
    if case.fault == "refused":
        await primary.stop()
    elif case.fault == "both down":
        primary.behaviour.connect = standby.behaviour.connect = "http:503"
    elif case.fault.startswith("immediate_close"):
        primary.behaviour.stream = case.fault
    else:
        primary.behaviour.connect = case.fault


async def through_mid_call(
    case: Case, row: Row, running: Headless, fakes: dict[str, FakeProvider]
) -> None:
    """Speak twice, break the primary, and see who hears the rest."""
    await asyncio.wait_for(running.started.wait(), 15)
    await running.speak()
    await running.speak()
    row.standby_handshakes_before = fakes[case.standby].counters.handshakes
    fault_s = time.monotonic()
    healing = asyncio.create_task(do_mid_call(case, fakes))
    await follow(row, running, fakes, fault_s)
    await healing


async def do_mid_call(case: Case, fakes: dict[str, FakeProvider]) -> None:
    """Break the primary's live connection, and what comes after it."""
    primary, standby = fakes[case.primary], fakes[case.standby]
    how, _, after = case.fault.partition(", ")
    if case.fault in {"both down", "end"}:
        primary.behaviour.connect = "http:503"
        standby.behaviour.connect = "http:503" if case.fault == "both down" else "ok"
        primary.kill_all()
    elif how == "drop":
        if after == "refused":
            await primary.stop()
        elif after != "heals":
            primary.behaviour.connect = after
        primary.kill_all()
    else:
        primary.behaviour.tokens = after != "no tokens"
        primary.behaviour.after_s = 0.0
        primary.behaviour.stream = how
        if how in {"close:1000", "error:503"}:  # once: the next connection is well
            before = primary.counters.sessions
            while primary.open and primary.counters.sessions == before:
                await asyncio.sleep(0)
            primary.behaviour.stream = "ok"


async def follow(
    row: Row, running: Headless, fakes: dict[str, FakeProvider], fault_s: float
) -> None:
    """Keep speaking until the standby is heard, the pipeline ends, or nothing of it will be."""
    case, swaps = row.case, list[float]()
    running.stt.add_event_handler("on_swap", lambda *_: swaps.append(time.monotonic()))
    limit_s = 3.0 if heals(case) else LAST_S if case.fault == "both down" else LIMIT_S
    found = await running.wait_for(fakes[case.standby].tag, fault_s, limit_s)
    row.fallback_s = None if found is None else found - fault_s
    if case.fault in SILENT and found:
        deadline_s = time.monotonic() + VERDICT_S
        while not row.of(case.primary) and time.monotonic() < deadline_s:
            await running.speak()
    seen = [one["at_s"] for one in row.of(case.primary) if one["at_s"] >= fault_s]
    row.detected_s = min([*seen, *swaps]) - fault_s if seen or swaps else None
    if running.is_over and running.ended_s:
        row.ended_s = running.ended_s - fault_s


def heals(case: Case) -> bool:
    """Whether the provider is well again at once."""
    return case.when == "mid-call" and case.fault in {"drop, heals", "close:1000", "error:503"}


def table(rows: dict[str, Row]) -> str:
    """Return the matrix as the README prints it."""
    lines = [
        "| when | fault | primary | detected | heard on the fallback | reported | counted |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        case = row.case
        said = [_said(one) for one in row.of(case.primary)]
        effects = [
            one["effect"] if one["effect"] != "none" else "no"
            for one in row.taken
            if one["provider"].startswith(case.primary) and one["kind"] in KINDS
        ]
        heard = _s(row.fallback_s) if row.fallback_s is not None else _without(row)
        lines.append(
            f"| {case.when} | {case.fault} | {case.primary} | {_s(row.detected_s)} | {heard} | "
            f"{', '.join(dict.fromkeys(said))} | {effects[-1] if effects else 'no'} |"
        )
    return "\n".join(lines)


KINDS = frozenset({"init_failure", "mid_call_failure", "stall", "recovered"})


def _said(body: dict[str, Any]) -> str:
    code = f" {body['code']}" if "code" in body else ""
    reason = "" if body["kind"] == "stall" else f" `{body['reason']}`"
    return f"{body['kind']}{reason}{code}"


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def _without(row: Row) -> str:
    return f"ends at {row.ended_s:.2f} s" if row.ended_s is not None else "stays"
