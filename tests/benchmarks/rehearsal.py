"""A month of a million calls: read, rehearsed and searched, from the database."""

import random
import resource
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from fallback import backtest, past
from fallback.backtest import Span
from fallback.domain import Kind, Policy
from fallback.models import RecordedSlot
from fallback.past import Failure, Flag, Sighting, Slot, What
from fallback.past.sightings import SLOT_MS, merge, pack
from tests.benchmarks.stage import Stage
from tests.benchmarks.table import Row

CALLS: Final = 1_000_000
DAYS: Final = 30
STRAY_SHARE: Final = 0.005  # of the calls of a healthy provider that fail
OUTAGES: Final = 20
OUTAGE_MS: Final = 20 * 60_000
PROVIDER: Final = "recorded"
UNTIL_MS: Final = 1_790_000_400_000
SPAN: Final = Span(UNTIL_MS - DAYS * 86_400_000, UNTIL_MS)
COUNTED: Final = {"today": Policy(), "proposed": Policy(failure_threshold=4)}
RATED: Final = {
    name: Policy(
        failure_threshold=0, failure_rate_percent=percent, slow_rate_percent=50, minimum_calls=10
    )
    for name, percent in (("today", 30), ("proposed", 50))
}


def run(_stage: Stage) -> list[Row]:
    """Time each over the same month, beside reading it alone."""
    _record()
    read_s, _, calls = _timed(_read)
    stored_mb = sum(len(row.data) for row in RecordedSlot.objects.iterator()) / 2**20
    figure = f"{read_s:.1f} s, {calls:,} calls, {stored_mb:.0f} MB stored"
    rows = [Row("read alone", figure, 1.0, "read")]
    cases: dict[str, Callable[[], Any]] = {
        "rehearse, count rule": lambda: _rehearse(COUNTED),
        "rehearse, rate rules": lambda: _rehearse(RATED),
        "suggest": _suggest,
    }
    for name, work in cases.items():
        took_s, grew_mb, found = _timed(work)
        figure = f"{took_s:.1f} s, {grew_mb:.0f} MB more, {found}"
        rows.append(Row(name, figure, took_s / read_s, "read"))
    return rows


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = work()
    took_s = time.perf_counter() - began
    return took_s, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024, found


def _read() -> int:
    slots = past.read(Kind.STT, PROVIDER, SPAN.since_ms, SPAN.until_ms)
    return sum(slot.calls for slot in slots)


def _rehearse(lanes: dict[str, Policy]) -> str:
    report = backtest.rehearse([(Kind.STT, PROVIDER)], lanes, SPAN).as_json()
    return ", ".join(
        f"{name} {lane['trips']} trips" for name, lane in report["providers"][0]["lanes"].items()
    )


def _suggest() -> str:
    found = backtest.suggest([(Kind.STT, PROVIDER)], Policy(), SPAN, progress=lambda done: True)
    return f"{len(found['points'])} points"


def _record() -> None:
    """Store a month as the pump would: stray failures, some outages, slow and quick transcripts."""
    chance = random.Random(7)
    length_ms = SPAN.until_ms - SPAN.since_ms
    outages = [SPAN.since_ms + chance.randrange(length_ms) for _ in range(OUTAGES)]
    times = sorted(chance.randrange(length_ms) for _ in range(CALLS))
    slot: Slot | None = None
    rows: list[RecordedSlot] = []
    for number, offset in enumerate(times):
        at_ms = SPAN.since_ms + offset
        if slot is None or at_ms >= slot.start_ms + SLOT_MS:
            rows += _rows(slot)
            slot = Slot(at_ms - at_ms % SLOT_MS)
        is_sick = any(began <= at_ms < began + OUTAGE_MS for began in outages)
        _add_call(slot, number, at_ms, chance, share=0.95 if is_sick else STRAY_SHARE)
    RecordedSlot.objects.bulk_create([*rows, *_rows(slot)], batch_size=200)


def _add_call(slot: Slot, call: int, at_ms: int, chance: random.Random, *, share: float) -> None:
    flags = Flag.TAKEN | Flag.MAY_PROBE
    host = f"pod-{call % 20}"
    slot.add(Sighting(at_ms, call, 0, 0, 0, What.ASKED, flags), host)
    later_ms = min(at_ms + 1000, slot.start_ms + SLOT_MS - 1)
    if chance.random() < share:
        failure = Failure("connection", f"CA{call}", 0, "init_failure")
        slot.add(Sighting(later_ms, call, 0, 0, 0, What.FAILED, 0), host, failure)
    else:
        latency_ms = 5_000 if chance.random() < 0.01 else 700
        slot.add(Sighting(later_ms, call, latency_ms, 0, 0, What.HEARD, 0), host)


def _rows(slot: Slot | None) -> Iterator[RecordedSlot]:
    if slot:
        slot = merge(slot.start_ms, [slot])
        yield RecordedSlot(
            kind=Kind.STT, provider=PROVIDER, at=datetime.fromtimestamp(slot.start_ms / 1000, UTC),
            calls=slot.calls, failures=len(slot.failures), data=pack(slot),
        )  # fmt: skip
