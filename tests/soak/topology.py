"""The production topology on this machine: every server, each a process of its own."""

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis
from redis.sentinel import Sentinel

from controlplane.supervisor import spawn, stop
from tests.fake_slack import TOKEN, FakeSlack
from tests.processes import clean_environment

ROOT = Path(__file__).resolve().parents[2]
MASTER = "stt"
WEBS, PUMPS = ("web-1", "web-2"), ("pump-1", "pump-2")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Production:
    """What runs. `processes`: by name, those that are to stay small."""

    environment: Mapping[str, str]
    urls: tuple[str, ...]
    processes: Mapping[str, int]
    redis: redis.Redis
    slack: FakeSlack
    logs: Path


@contextmanager
def production(directory: Path, ports: Callable[[], int]) -> Iterator[Production]:
    """Run everything in `directory` for the length of the block. Raises RuntimeError with the end
    of the log when something does not start."""
    with ExitStack() as stack:
        database_url = stack.enter_context(postgres(directory / "postgres", ports()))
        sentinels = stack.enter_context(redis_under_sentinels(directory / "redis", ports))
        slack = FakeSlack()
        stack.callback(slack.close)
        environment = clean_environment(
            directory / "var",
            DATABASE_URL=database_url,
            REDIS_URL=f"redis://{MASTER}/0",
            REDIS_MODE="sentinel",
            REDIS_SENTINELS=",".join(f"127.0.0.1:{port}" for port in sentinels),
            SECRET_KEY=secrets.token_urlsafe(48),
            PUBLIC_URL="http://127.0.0.1",
            SLACK_API_URL=slack.url,
            SLACK_BOT_TOKEN=TOKEN,
            SLACK_SIGNING_SECRET=secrets.token_urlsafe(16),
            SLACK_CHANNEL="C0ALERTS",
            LOG_FORMAT="json",
        )
        for command in ("migrate", "seed"):
            manage(command, environment=environment)
        logs = directory / "logs"
        logs.mkdir()
        start = _Starter(stack, logs, environment)
        urls, processes = [], {}
        for name in WEBS:
            port = ports()
            processes[name] = start(name, "manage.py", "web", "--port", str(port))
            urls.append(f"http://127.0.0.1:{port}")
        for name in PUMPS:
            processes[name] = start(name, "manage.py", "pump", "--name", name)
        for url in urls:
            wait_for_answer(f"{url}/readyz", logs)
        master = Sentinel([("127.0.0.1", port) for port in sentinels]).master_for(MASTER)
        yield Production(environment, tuple(urls), processes, master, slack, logs)


def manage(*arguments: str, environment: Mapping[str, str], said: str = "") -> str:
    """Run `manage.py` to its end and return what it printed. Raises RuntimeError if it failed."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=environment, input=said, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def postgres(directory: Path, port: int) -> Iterator[str]:
    """Run a PostgreSQL of our own; yield its URL. As root it runs as the user `postgres`, as it
    refuses to run as root."""
    directory.mkdir(parents=True)
    as_user: list[str] = []
    if os.getuid() == 0:
        os.chown(directory, pwd.getpwnam("postgres").pw_uid, -1)
        as_user = ["runuser", "-u", "postgres", "--"]
    data = directory / "data"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory}"
    commands = (
        ["initdb", "-D", data, "--auth", "trust", "--encoding", "UTF8", "--no-sync"],
        ["pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", options, "start"],
    )
    for name, *arguments in commands:
        _run([*as_user, _postgres_program(str(name)), *map(str, arguments)], directory)
    try:
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        stopping = [_postgres_program("pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
        _run([*as_user, *stopping], directory)


@contextmanager
def redis_under_sentinels(directory: Path, ports: Callable[[], int]) -> Iterator[list[int]]:
    """Run a master, a replica and three Sentinels; yield the Sentinels' ports."""
    with ExitStack() as stack:
        master, replica, sentinels = ports(), ports(), [ports() for _ in range(3)]

        def start(name: str, *options: str) -> None:
            place = directory / name
            place.mkdir(parents=True)
            (place / "redis.conf").write_text("\n".join(options) + "\n", encoding="ascii")
            mode = ["--sentinel"] if name.startswith("sentinel") else []
            command = [_program("redis-server"), str(place / "redis.conf"), *mode]
            process = spawn(command, cwd=place)
            stack.callback(stop, process, timeout_s=STOP_TIMEOUT_S)

        lasting = ("appendonly yes", "maxmemory-policy noeviction", "logfile redis.log")
        start("master", f"port {master}", *lasting)
        start("replica", f"port {replica}", f"replicaof 127.0.0.1 {master}", *lasting)
        _wait_for_replica(master)
        for port in sentinels:
            start(
                f"sentinel-{port}", f"port {port}", "logfile sentinel.log",
                f"sentinel monitor {MASTER} 127.0.0.1 {master} 2",
                f"sentinel down-after-milliseconds {MASTER} 2000",
            )  # fmt: skip
        yield sentinels


class _Starter:
    """Starts a process of ours with a log of its own, and has it stopped with the stack."""

    def __init__(self, stack: ExitStack, logs: Path, environment: Mapping[str, str]) -> None:
        self._stack, self._logs, self._environment = stack, logs, environment

    def __call__(self, name: str, *arguments: str) -> int:
        redirect = ["sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh"]
        command = [*redirect, str(self._logs / f"{name}.log"), sys.executable, *arguments]
        process = spawn(command, cwd=ROOT, env=self._environment)
        self._stack.callback(stop, process, timeout_s=STOP_TIMEOUT_S)
        return process.pid


def _wait_for_replica(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with redis.Redis(port=port) as master:
                if master.info("replication").get("slave0", {}).get("state") == "online":
                    master.config_set("min-replicas-to-write", 1)
                    return
        except redis.RedisError:
            pass  # it is just starting
        time.sleep(0.1)
    raise RuntimeError("the replica did not come up")


def wait_for_answer(url: str, logs: Path, key: str = "") -> None:
    """Wait until the URL answers 200. Raises RuntimeError with the ends of the logs."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    deadline, said = time.monotonic() + START_TIMEOUT_S, "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, headers=headers, timeout=5, trust_env=False)
            if answer.status_code == 200:
                return
            said = answer.text
        except httpx.HTTPError as error:
            said = str(error)
        time.sleep(0.2)
    ends = "\n".join(log.read_text()[-1000:] for log in sorted(logs.glob("*.log")))
    raise RuntimeError(f"{url} did not answer 200: {said}\n{ends}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise RuntimeError(f"{name} is not on PATH; Debian: apt-get install redis-server")
    return found


def _postgres_program(name: str) -> str:
    """Debian keeps PostgreSQL's programs beside PATH, by version."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(beside[-1]) if beside else "")
    if not found:
        raise RuntimeError(f"{name} is not there; Debian: apt-get install postgresql")
    return found


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … failed:\n{done.stderr[-1000:]}")
