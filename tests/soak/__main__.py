"""Starts everything, soaks it, tells what was seen. Ends with 1 when something was broken."""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

# The drill's calls, which the agents here make too, import models.
from fallback.drill.tally import Tally  # noqa: E402
from tests.processes import free_port  # noqa: E402
from tests.soak import books  # noqa: E402
from tests.soak.topology import Production, manage, production, wait_for_answer  # noqa: E402
from tests.soak.traffic import CHAIN, DECIDED_WITHIN_S, ROUTE, Counts, Traffic, Waves  # noqa: E402
from tests.soak.watching import Watch  # noqa: E402

# Of the decisions, on a machine that runs all of it and the callers too.
LATE_SHARE_MAX, DEGRADED_SHARE_MAX = 0.01, 0.001


async def soak(running: Production, traffic: Traffic) -> Watch:
    """Have everybody at work, and watch."""
    watch = Watch(running)
    watching = asyncio.create_task(watch.run())
    try:
        await traffic.run()
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return watch


def main() -> None:
    """Run the soak with the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="[%(default)s], at most 120")
    parser.add_argument("--rate", type=float, default=5.0, help="calls a second [%(default)s]")
    asked = parser.parse_args()
    seconds = 60 * min(asked.minutes, 120.0)
    with tempfile.TemporaryDirectory(prefix="stt-soak-") as path:
        Path(path).chmod(0o755)  # PostgreSQL's user must get into its own directory below
        with production(Path(path), free_port) as running:
            broken = _run(running, seconds, asked.rate)
    for one in broken:
        print(f"  BROKEN  {one}")
    print("FAIL" if broken else "PASS")
    sys.exit(bool(broken))


def _run(running: Production, seconds: float, rate: float) -> list[str]:
    environment, password = running.environment, secrets.token_urlsafe(12)
    key = manage("api_key", "soak", "--role", "operator", environment=environment).strip()
    manage(
        "createsuperuser", "--noinput",
        environment={
            **environment,
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_EMAIL": "admin@example.com",
            "DJANGO_SUPERUSER_PASSWORD": password,
        },
    )  # fmt: skip
    for url in running.urls:
        wait_for_answer(f"{url}/api/v1/status", running.logs, key)
    counts = Counts()
    tally = Tally(Waves(route=ROUTE, provider=CHAIN[0], duration_s=seconds))
    traffic = Traffic(running.urls, key, password, environment, seconds, rate, counts, tally)
    watch = asyncio.run(soak(running, traffic))
    broken = [*_traffic_broken(counts, tally), *watch.broken(), *books.broken(running)]
    print("\n".join([*_story(counts, tally), *watch.story(), *books.story(running)]))
    return broken


def _story(counts: Counts, tally: Tally) -> Iterator[str]:
    waits = sorted(tally.waits_ms)
    yield (
        f"{'calls':12} {tally.calls}: {len(tally.heard)} heard, {len(tally.unheard)} not,"
        f" {len(tally.hurt)} hurt, {len(tally.diverted)} diverted"
    )
    yield (
        f"{'decisions':12} {len(waits)}: {waits[len(waits) // 2]:.0f} ms in the middle,"
        f" {waits[int(len(waits) * 0.99)]:.0f} ms at 99 %, {waits[-1]:.0f} ms at worst,"
        f" {tally.degraded} degraded"
    )
    for name, number in sorted(counts.done.items()):
        yield f"{name:12} {number}"


def _traffic_broken(counts: Counts, tally: Tally) -> list[str]:
    late = sum(wait_ms > 1000 * DECIDED_WITHIN_S for wait_ms in tally.waits_ms)
    broken = [f"{number} times {what}" for what, number in (counts.wrong + tally.errors).items()]
    if tally.degraded > DEGRADED_SHARE_MAX * len(tally.waits_ms):
        broken.append(f"{tally.degraded} of {len(tally.waits_ms)} decisions were degraded")
    if late > LATE_SHARE_MAX * len(tally.waits_ms):
        broken.append(f"{late} of {len(tally.waits_ms)} decisions took over 300 ms")
    return broken


if __name__ == "__main__":
    main()
