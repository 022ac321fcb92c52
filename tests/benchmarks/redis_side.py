"""The scripts on the server, 32 clients, beside an empty script with three keys.

The load is redis-benchmark's, one request under way per client; the server's own microseconds a
call are from INFO commandstats.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import redis

from fallback.breaker import Breakers, scripts
from fallback.domain import Asked, Kind, Order, Outcome, OutcomeKind, Policy, Reason, State
from tests.benchmarks.stage import Stage
from tests.benchmarks.table import Row, Turns

CLIENTS = 32
CALLS = 12_000
ROUNDS = 3
NAMESPACE = "bench"
EMPTY = "return 1"
ANY = "__rand_int__"  # redis-benchmark puts a number of twelve digits in its place
CHAIN = tuple(f"healthy-{number}" for number in range(10))
SHUT = tuple(f"shut-{number}" for number in range(9))


class Load:
    """Runs one command over and over, and keeps what the server's CPU spent on it."""

    def __init__(self, stage: Stage) -> None:
        found = shutil.which("redis-benchmark")
        if found is None:
            raise SystemExit("redis-benchmark is not on PATH: apt-get install redis-tools")
        self._program, self._socket = found, stage.redis_socket
        self.client = redis.Redis(unix_socket_path=str(stage.redis_socket))
        self.cpu_us: dict[str, list[float]] = {}

    def runner(self, name: str, command: list[str]) -> Callable[[], float]:
        """Return what runs a command and returns the calls a second."""
        return lambda: self._run(name, command)

    def _run(self, name: str, command: list[str]) -> float:
        self.client.config_resetstat()
        options = ["-s", str(self._socket), "-c", str(CLIENTS), "-n", str(CALLS), "-q", "--csv"]
        done = subprocess.run(
            [self._program, *options, "-r", "1000000000", *command],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        stats = self.client.info("commandstats")["cmdstat_evalsha"]
        if stats.get("failed_calls", 0) or stats["calls"] < CALLS:
            raise RuntimeError(f"{name}: {stats} {done.stdout[-300:]}")
        self.cpu_us.setdefault(name, []).append(stats["usec_per_call"])
        found = re.search(r'"([\d.]+)"', done.stdout.splitlines()[-1].partition(",")[2])
        assert found, done.stdout
        return float(found[1])


def run(stage: Stage) -> list[Row]:
    """Load the server with each script in turn."""
    load = Load(stage)
    breakers = Breakers(connect=lambda: load.client, namespace=NAMESPACE)
    _prepare(breakers)
    for script in scripts.build().values():
        load.client.script_load(script.text)
    commands = _commands(load.client)
    turns = Turns({name: load.runner(name, command) for name, command in commands.items()}, ROUNDS)
    rows = []
    for name in turns.names:
        figure = f"{turns.of(name):,.0f}/s, {sorted(load.cpu_us[name])[ROUNDS // 2]:.1f} us"
        goal = 0.7 if name == "decide, 3 providers, first admits" else None
        rows.append(Row(name, figure, turns.ratio(name, "empty script"), "empty", at_least=goal))
    return rows


def _prepare(breakers: Breakers) -> None:
    """Publish a policy for all, and shut those that the diverted calls meet first."""
    policies = {name: Policy(failure_threshold=5) for name in (*CHAIN, *SHUT)}
    breakers.configure(Kind.STT, 1, policies)
    for name in SHUT:
        breakers.order(
            Kind.STT, Order("override", name, "benchmark", "measured", State.FORCED_OPEN, 0)
        )
    failure = _outcome("again", "init_failure")
    breakers.record(Kind.STT, [(failure, CHAIN[:3])])


def _commands(client: redis.Redis) -> dict[str, list[str]]:
    """Return each command by what it is."""
    chains = {
        "decide, 1 provider, it admits": CHAIN[:1],
        "decide, 3 providers, first admits": CHAIN[:3],
        "decide, 10 providers, first admits": CHAIN,
        "decide, 3 providers, 2 shut": (*SHUT[:2], CHAIN[0]),
        "decide, 10 providers, 9 shut": (*SHUT, CHAIN[0]),
    }
    heard, failed = _outcome(ANY, "first_transcript"), _outcome(ANY, "init_failure")
    reports = {
        "record, success": (heard, ()),
        "record, failure without a trip": (failed, CHAIN[:3]),
        "record, duplicate": (_outcome("again", "init_failure"), CHAIN[:3]),
    }
    keys = [f"{{{NAMESPACE}:stt}}:{name}" for name in ("breakers", "policies", "events")]
    found = {"empty script": ["evalsha", str(client.script_load(EMPTY)), "3", *keys]}
    for name, chain in chains.items():
        asked = Asked(call_id=ANY, route="main", steps=tuple((one, False) for one in chain))
        found[name] = _sent(lambda breakers, asked=asked: breakers.decide(Kind.STT, asked))
    for name, report in reports.items():
        found[name] = _sent(lambda breakers, report=report: breakers.record(Kind.STT, [report]))
    # Each failure is the first that its breaker remembers, as most are.
    failure = found["record, failure without a trip"]
    failure[failure.index(f"{{{NAMESPACE}:stt}}:failures:{CHAIN[0]}")] += ANY
    return found


def _outcome(call: str, kind: str) -> Outcome:
    return Outcome(
        id=f"{call}:{kind}", call_id=call, provider=CHAIN[0], kind=OutcomeKind(kind),
        reason=Reason.CONNECTION, host="pod-1", route="main",
    )  # fmt: skip


class _Caught(Exception):  # noqa: N818 - it is what we want
    """Carries a command from where it would have been sent."""


class _Catcher:
    def evalsha(self, *arguments: object) -> None:
        raise _Caught(*map(str, arguments))


def _sent(ask: Callable[[Breakers], object]) -> list[str]:
    """Return the very command that the product sends, which is not sent."""
    catcher: Any = _Catcher()
    try:
        ask(Breakers(connect=lambda: catcher, namespace=NAMESPACE, new_request=lambda: ANY))
    except _Caught as caught:
        return ["evalsha", *caught.args]
    raise AssertionError("nothing was sent")
