"""Redis stopped, paused, emptied, killed in the middle of traffic: no decision is refused.

Against the real `manage.py up`, over HTTP. A decision may take 300 ms in all; outcomes are refused
meanwhile, to be sent again, and everything comes back by itself.
"""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.processes import clean_environment, eventually, free_port, manage
from tests.server import redis_of, running

pytestmark = pytest.mark.slow
BUDGET_S = 0.3
ASKERS = 4


@dataclass
class Server:
    """A running control plane and a key for it."""

    port: int
    key: str
    var_dir: Path
    connections: threading.local = field(default_factory=threading.local)

    def send(self, path: str, body: Any) -> tuple[int, dict[str, Any], dict[str, str], float]:
        """POST a body; return status, answer, headers, and the seconds it took."""
        connection = getattr(self.connections, "one", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            self.connections.one = connection
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        began = time.perf_counter()
        connection.request("POST", f"/api/v1/{path}", json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        return (
            response.status,
            answer,
            {name.lower(): value for name, value in response.getheaders()},
            time.perf_counter() - began,
        )

    def decide(self, call: str) -> tuple[int, dict[str, Any], float]:
        status, answer, _, seconds = self.send(
            "decisions", {"route": "breeze-buddy", "call_id": call}
        )
        return status, answer, seconds

    def fail(self, call: str, provider: str = "soniox") -> tuple[int, dict[str, str]]:
        outcome = {
            "id": f"{call}:{provider}", "call_id": call, "provider": provider,
            "kind": "init_failure", "reason": "connection", "route": "breeze-buddy",
        }  # fmt: skip
        status, _, headers, _ = self.send("outcomes", {"outcomes": [outcome]})
        return status, headers

    @property
    def redis(self) -> redis.Redis:
        return redis_of(self.var_dir)

    @property
    def redis_pid(self) -> int:
        return int(self.redis.info("server")["process_id"])

    def has_a_past(self) -> bool:
        """Whether an outage of soniox is stored."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.key}"}
        connection.request("GET", "/api/v1/status", headers=headers)
        body = json.loads(connection.getresponse().read())
        connection.close()
        return any(row["incident"] for row in body["breakers"])

    def is_whole(self) -> bool:
        """Whether decisions come from the shared state."""
        status, answer, _ = self.decide("look")
        return status == 200 and not answer["degraded"]


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the product for all of these tests."""
    var_dir = tmp_path_factory.mktemp("var")
    with running(var_dir, port := free_port()):
        made = manage("api_key", "tests", "--role", "agent", environment=clean_environment(var_dir))
        yield Server(port, made.stdout.strip(), var_dir)


@pytest.fixture
def server(running_server: Server) -> Server:
    """Give the product, reached anew: what was open for long without a word, it has closed."""
    running_server.connections = threading.local()
    return running_server


@dataclass
class Seen:
    """What the askers got while something went on."""

    answers: list[tuple[int, bool, float]] = field(default_factory=list)

    @property
    def statuses(self) -> set[int]:
        return {status for status, _, _ in self.answers}

    @property
    def degraded(self) -> int:
        return sum(is_degraded for _, is_degraded, _ in self.answers)

    @property
    def worst_s(self) -> float:
        return max(seconds for _, _, seconds in self.answers)


def during(server: Server, name: str, happening: Callable[[], None]) -> Seen:
    """Ask all the time while `happening` goes on and until decisions are whole again."""
    assert eventually(server.is_whole, within_s=20)
    seen, stop = Seen(), threading.Event()

    def ask(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            status, answer, seconds = server.decide(f"{name}-{number}-{count}")
            seen.answers.append((status, bool(answer.get("degraded")), seconds))
            stop.wait(0.03)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(ASKERS)]
    for asker in askers:
        asker.start()
    try:
        time.sleep(0.3)
        happening()
        assert eventually(server.is_whole, within_s=20)
        time.sleep(0.3)
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    print(f"{name}: {len(seen.answers)} decisions, {seen.degraded} degraded, "
          f"worst {seen.worst_s * 1000:.0f} ms")  # fmt: skip
    return seen


def stopped(server: Server) -> None:
    pid = server.redis_pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(pid, signal.SIGCONT)


def killed(server: Server) -> None:
    os.kill(server.redis_pid, signal.SIGKILL)
    time.sleep(0.5)


HAPPENINGS: dict[str, Callable[[Server], Any]] = {
    "stopped": stopped,
    "paused": lambda server: (server.redis.client_pause(1500), time.sleep(1.6)),
    "scripts flushed": lambda server: [server.redis.script_flush() for _ in range(20)],
    "emptied": lambda server: server.redis.flushall(),
    "killed": killed,
}


@pytest.mark.parametrize("name", HAPPENINGS)
def test_no_decision_is_refused_or_late_while_redis_is(server: Server, name: str) -> None:
    seen = during(server, name.replace(" ", "-"), lambda: HAPPENINGS[name](server))

    assert seen.statuses == {200}
    assert seen.worst_s < BUDGET_S
    assert seen.degraded or name not in {"stopped", "paused", "killed"}


def test_outcomes_are_refused_with_retry_after_and_taken_later(server: Server) -> None:
    assert eventually(server.is_whole, within_s=20)
    pid = server.redis_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        status, headers = server.fail("later")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (status, int(headers["retry-after"]) >= 1) == (503, True)
    assert eventually(server.is_whole, within_s=20)

    assert server.fail("later")[0] == 200


def test_an_open_breaker_holds_while_redis_is_away(server: Server) -> None:
    assert eventually(server.is_whole, within_s=20)
    for call in ("open-1", "open-2"):
        server.fail(call)
    assert server.decide("open-3")[1]["provider"] == "deepgram"
    pid = server.redis_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        answers = [server.decide(f"open-away-{number}")[1] for number in range(6)]
    finally:
        os.kill(pid, signal.SIGCONT)

    assert {answer["provider"] for answer in answers} == {"deepgram"}
    assert answers[-1]["degraded"]


def test_an_empty_redis_starts_closed_and_says_so(server: Server) -> None:
    assert eventually(server.is_whole, within_s=20)
    for call in ("past-1", "past-2"):
        server.fail(call)
    assert eventually(server.has_a_past, within_s=20)  # without one, nothing is lost
    server.redis.flushall()
    assert server.decide("after")[1]["provider"] == "soniox"

    def told() -> bool:
        entries = server.redis.xrange("{default:stt}:events")
        return any(fields["name"] == "state_lost" for _, fields in entries)

    assert eventually(told, within_s=10)
