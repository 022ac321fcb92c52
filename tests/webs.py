"""A web process as in production, with a database of its own and the Redis that a test names, and
the agents that ask it."""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from controlplane.supervisor import spawn, stop
from tests.processes import clean_environment, eventually, free_port, manage
from tests.soak.topology import ROOT

ASKERS = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent got, and when (of `time.monotonic()`)."""

    status: int
    provider: str
    is_degraded: bool
    began_s: float
    seconds: float


@dataclass
class Web:
    """A web process, and a key for it."""

    port: int
    key: str
    pid: int
    local: threading.local = field(default_factory=threading.local)

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        """Ask; return status, answer and headers. An idle connection may have been closed."""
        try:
            return self._send(method, path, body)
        except ConnectionError:
            self.local.connection = None
            return self._send(method, path, body)

    def _send(self, method: str, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            self.local.connection = connection
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        raw = None if body is None else json.dumps(body)
        connection.request(method, f"/api/v1/{path}", raw, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        return response.status, answer, {name.lower(): one for name, one in response.getheaders()}

    def decide(self, call: str) -> Answer:
        """Ask for a call on the usual route."""
        began_s = time.monotonic()
        body = {"route": "breeze-buddy", "call_id": call}
        status, answer, _ = self.send("POST", "decisions", body)
        seconds = time.monotonic() - began_s
        found = (answer.get("provider", ""), bool(answer.get("degraded")))
        return Answer(status, *found, began_s, seconds)

    def fail(self, call: str, provider: str = "soniox") -> tuple[int, Any, dict[str, str]]:
        """Report that a provider failed at a call's start."""
        outcome = {
            "id": f"{call}:{provider}", "call_id": call, "provider": provider,
            "kind": "init_failure", "reason": "connection", "route": "breeze-buddy",
        }  # fmt: skip
        return self.send("POST", "outcomes", {"outcomes": [outcome]})

    def is_whole(self) -> bool:
        """Whether decisions come from the shared state."""
        answer = self.decide("look")
        return answer.status == 200 and not answer.is_degraded


class Traffic:
    """Agents that ask all the time, in threads, until the block ends."""

    def __init__(self, web: Web, *, askers: int = ASKERS, pause_s: float = 0.03) -> None:
        self.answers: list[Answer] = []
        self._web, self._pause_s = web, pause_s
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(askers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment_s: float) -> list[Answer]:
        """Return the answers to what was asked since."""
        return [answer for answer in self.answers if answer.began_s >= moment_s]

    def until(self, claim: Callable[[], object], *, within_s: float = 20.0) -> bool:
        """Go on until the claim is true; say whether it became so."""
        return eventually(claim, within_s=within_s)

    def _ask(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            self.answers.append(self._web.decide(f"call-{number}-{count}-{time.monotonic_ns()}"))
            self._over.wait(self._pause_s)


def prepare(var_dir: Path, **environment: str) -> tuple[dict[str, str], str]:
    """Make a database with the seed in it; return the environment of its processes and a key."""
    whole = clean_environment(var_dir, PUBLIC_URL="http://127.0.0.1", **environment)
    whole |= {"SECRET_KEY": "a-key-for-tests-only-that-is-long-enough-to-please-the-checks"}
    for command in (("migrate",), ("seed",)):
        done = manage(*command, environment=whole)
        assert done.returncode == 0, done.stderr[-2000:]
    made = manage("api_key", "tests", "--role", "operator", environment=whole)
    return whole, made.stdout.strip()


@contextmanager
def web(var_dir: Path, environment: dict[str, str], key: str) -> Iterator[Web]:
    """Run a web process in the block; its log is web.log in `var_dir`."""
    port = free_port()
    redirect = ["sh", "-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", f"{var_dir}/web.log"]
    command = [*redirect, sys.executable, "manage.py", "web", "--port", str(port)]
    process = spawn(command, cwd=ROOT, env=environment)
    try:
        ready = Web(port, key, process.pid)

        def answers() -> bool:
            try:
                return ready.decide("first").status == 200
            except OSError:
                ready.local.connection = None
                return False

        assert eventually(answers, within_s=30), (var_dir / "web.log").read_text()[-2000:]
        yield ready
    finally:
        stop(process, timeout_s=10)
