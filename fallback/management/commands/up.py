"""`manage.py up`: everything on embedded defaults, as one process group that stops as one.

Redis first (unless REDIS_URL names one), then the database, then web and pump. Killed hard, the
kernel takes the children along, and the next start finds its state.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane import private
from controlplane.bootstrap import Admin, prepare_database
from controlplane.embedded_redis import STOP_TIMEOUT_S, EmbeddedRedis, EmbeddedRedisError
from controlplane.pulse import DIRECT, SILENT_S, Pulse, answer_of
from controlplane.supervisor import Child, Supervisor, spawn
from fallback.fitness import NotFit
from fallback.management.commands.web import DRAIN_S

READY_TIMEOUT_S = 60.0
WATCH_EVERY_S = 0.2


class Command(BaseCommand):
    """Start everything and keep it running."""

    help = "Run Redis, the database's migrations, web and pump on embedded defaults."
    requires_system_checks = []  # they may ask Redis, which is not up yet

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=settings.PORT, help="port [%(default)s]")
        parser.add_argument(
            "--hung-after",
            type=float,
            default=SILENT_S,
            metavar="SECONDS",
            help="restart web or pump when it runs but has not answered for so long [%(default)g]",
        )

    def handle(self, *_args: Any, host: str, port: int, hung_after: float, **_options: Any) -> None:
        supervisor = Supervisor()
        url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
        with only_one(), stopped_by_signals(supervisor):
            refuse_taken_port(host, port)
            start_redis(supervisor)
            try:
                admin = prepare_database()
            except NotFit as problem:
                raise CommandError(str(problem)) from problem
            start_services(supervisor, host=host, port=port, url=url, hung_after_s=hung_after)
            self.greet(url, admin)
            wait_until_ready(supervisor, url)
            self.say(f"ready: {url}/readyz answers 200. Ctrl-C stops everything.")
            while True:
                supervisor.watch()
                time.sleep(WATCH_EVERY_S)
        self.say("stopped")

    def greet(self, url: str, admin: Admin) -> None:
        """Print where everything is. The password is in no log and is never shown again."""
        known = "the one printed at the first start (or: manage.py changepassword)"
        self.say(
            f"\n  dashboard  {url}/\n  admin      {url}/admin/\n  API        {url}/api/docs/\n"
            f"  name       {admin.username}\n  password   {admin.password or known}\n"
        )

    def say(self, text: str) -> None:
        """Print at once, also when standard output is a file or a pipe."""
        self.stdout.write(text)
        self.stdout.flush()


@contextmanager
def only_one() -> Iterator[None]:
    """Hold VAR_DIR for this process; the kernel lets go of it however the process ends."""
    private.var_dir(settings.VAR_DIR)
    with open(settings.VAR_DIR / "up.lock", "a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(
                f"another `up` runs on {settings.VAR_DIR}; stop it, or set VAR_DIR to another place"
            ) from error
        yield


@contextmanager
def stopped_by_signals(supervisor: Supervisor) -> Iterator[None]:
    """Leave the block on Ctrl-C, SIGTERM or SIGHUP, and stop every child on any way out of it."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number in signals:  # an impatient second Ctrl-C must not leave half of it running
            signal.signal(number, signal.SIG_IGN)
        supervisor.stop()


def refuse_taken_port(host: str, port: int) -> None:
    """Say who is to blame before anything starts; uvicorn would say so in the middle of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"cannot listen on {host} port {port}: {error.strerror}. Stop what listens there, "
                f"or choose another port: --port {port + 1}"
            ) from error


def start_redis(supervisor: Supervisor) -> None:
    """Start the embedded server, unless REDIS_URL names one."""
    if not settings.EMBEDDED_REDIS:
        return
    server = EmbeddedRedis(settings.VAR_DIR, binary=settings.EMBEDDED_REDIS_BIN)
    try:
        supervisor.add(Child("redis", server.start, stop_timeout_s=STOP_TIMEOUT_S))
    except EmbeddedRedisError as error:
        raise CommandError(str(error)) from error


def start_services(
    supervisor: Supervisor, *, host: str, port: int, url: str, hung_after_s: float
) -> None:
    """Start web and pump. They are told that this is plain HTTP, unless PUBLIC_URL says else."""
    environment = {**os.environ, "PUBLIC_URL": settings.PUBLIC_URL or url}
    web = ["manage.py", "web", "--host", host, "--port", str(port)]
    pump = ["manage.py", "pump", "--name", f"up-{socket.gethostname()}-{port}"]
    if port < 65_535:  # the next port has what the pump counts; taken, it goes on without
        pump += ["--metrics", f"127.0.0.1:{port + 1}"]
    for name, arguments in {"web": web, "pump": pump}.items():
        start = starter(arguments, environment)
        child = Child(name, start, stop_timeout_s=DRAIN_S + 5)
        child.pulse = Pulse(partial(PULSES[name], child, url, port), silent_s=hung_after_s)
        supervisor.add(child)


def web_answers(_web: Child, url: str, _port: int, timeout_s: float) -> bool:
    """Say whether the web process answers; nothing else can have its port."""
    return answer_of(f"{url}/livez", timeout_s) is not None


def pump_answers(pump: Child, _url: str, port: int, timeout_s: float) -> bool:
    """Say whether the pump answers where its metrics are. Somebody else may have that port."""
    pid = None if pump.process is None else pump.process.pid
    return answer_of(f"http://127.0.0.1:{port + 1}/livez", timeout_s) == f"{pid}".encode()


PULSES = {"web": web_answers, "pump": pump_answers}


def starter(
    arguments: list[str], environment: dict[str, str]
) -> Callable[[], subprocess.Popen[bytes]]:
    """Return what starts this Python with the arguments, each time it is called."""
    command = [sys.executable, *arguments]
    return lambda: spawn(command, cwd=settings.BASE_DIR, env=environment)


def wait_until_ready(supervisor: Supervisor, url: str) -> None:
    """Return once /readyz answers 200; raise CommandError if it does not in READY_TIMEOUT_S."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        supervisor.watch()
        if answers(f"{url}/readyz"):
            return
        time.sleep(WATCH_EVERY_S)
    raise CommandError(f"{url}/readyz did not answer 200 within {READY_TIMEOUT_S:g} s; see above")


def answers(url: str) -> bool:
    """Say whether the URL answers 200 within a few seconds, asked past any proxy."""
    try:
        with DIRECT.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
