"""A Redis that is slow in every way: no decision waits longer than 300 ms, whatever it does.

A real web process behind a real proxy. SLOW_DECISIONS says how many decisions of each fault are
judged (40; the full figure is 500).
"""

import os
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from controlplane.embedded_redis import find_binary
from controlplane.supervisor import spawn, stop
from tests.processes import eventually, free_port
from tests.proxies import Proxy, proxy
from tests.webs import Traffic, Web, prepare, web

pytestmark = pytest.mark.slow
DECISIONS = int(os.environ.get("SLOW_DECISIONS", "40"))
BUDGET_S = 0.3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a Redis server; give its port."""
    port = free_port()
    command = [str(find_binary()), "--port", str(port), "--save", ""]
    process = spawn(command, cwd=tmp_path_factory.mktemp("redis"))
    assert eventually(lambda: answers(port))
    yield port
    stop(process, timeout_s=5)


def answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture(scope="module")
def between(server: int) -> Iterator[Proxy]:
    with proxy(("127.0.0.1", server)) as running:
        yield running


@pytest.fixture(scope="module")
def running_web(between: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    var_dir = tmp_path_factory.mktemp("var")
    # Not database 0: a new connection has a turn of its own before its first answer.
    environment, key = prepare(var_dir, REDIS_URL=f"redis://127.0.0.1:{between.port}/1")
    with web(var_dir, environment, key) as running:
        yield running


@pytest.fixture
def whole(running_web: Web, between: Proxy) -> Iterator[Web]:
    """Give the web process while all is well, and leave it so."""
    between.heal()
    running_web.local = threading.local()
    assert eventually(running_web.is_whole, within_s=20)
    yield running_web
    between.heal()


def judged(whole: Web, name: str, *, at_least_s: float = 0.0) -> Traffic:
    """Ask `DECISIONS` times and print the figures."""
    began_s = time.monotonic()

    def is_enough() -> bool:
        return len(traffic.answers) >= DECISIONS and time.monotonic() - began_s >= at_least_s

    with Traffic(whole) as traffic:
        assert traffic.until(is_enough, within_s=300)
    seconds = sorted(answer.seconds for answer in traffic.answers)
    late = [one for one in seconds if one > BUDGET_S]
    degraded = sum(answer.is_degraded for answer in traffic.answers)
    print(
        f"{name}: {len(seconds)} decisions, {degraded} degraded, {len(late)} over 300 ms, "
        f"p50 {seconds[len(seconds) // 2] * 1000:.0f} ms, worst {seconds[-1] * 1000:.0f} ms"
    )
    return traffic


def is_in_time(traffic: Traffic) -> bool:
    """Whether decisions came in time; a machine that stalls makes one of 50 late, not more."""
    late = [answer for answer in traffic.answers if answer.seconds > BUDGET_S]
    return len(late) <= len(traffic.answers) // 50 and all(one.seconds < 1.0 for one in late)


@pytest.mark.parametrize("byte_ms", [2, 10, 100])
def test_a2_a_reply_that_trickles_in_delays_no_decision(
    whole: Web, between: Proxy, byte_ms: int
) -> None:
    between.byte_every_s = byte_ms / 1000
    traffic = judged(whole, f"{byte_ms} ms a byte")

    assert {answer.status for answer in traffic.answers} == {200}
    assert is_in_time(traffic)
    assert all(answer.is_degraded for answer in traffic.answers)


@pytest.mark.parametrize("late_ms", [100, 140, 250])
def test_a2_new_connections_to_a_slow_server_delay_no_decision(
    whole: Web, between: Proxy, late_ms: int
) -> None:
    """They are opened aside: a handshake longer than a decision may wait is still found done."""
    between.reply_after_s = late_ms / 1000
    between.drop()
    traffic = judged(whole, f"+{late_ms} ms, new connections", at_least_s=2.5)

    assert {answer.status for answer in traffic.answers} == {200}
    assert is_in_time(traffic)
    later = traffic.answers[len(traffic.answers) // 2 :]
    is_back = not all(answer.is_degraded for answer in later)
    assert is_back == (late_ms < 200)


def test_a2_outcomes_have_the_same_bound(whole: Web, between: Proxy) -> None:
    between.byte_every_s = 0.01
    before_s = time.monotonic()
    status, problem, headers = whole.fail("trickled")

    assert time.monotonic() - before_s < 2 * BUDGET_S
    assert (status, problem["code"], int(headers["retry-after"])) == (503, "breaker_unavailable", 1)
    between.heal()
    assert eventually(whole.is_whole, within_s=20)
    assert whole.fail("trickled")[0] == 200


def test_a2_it_is_back_by_itself(whole: Web, between: Proxy) -> None:
    between.byte_every_s = 0.01
    judged(whole, "before it is well again")
    between.heal()
    began_s = time.monotonic()

    assert eventually(whole.is_whole, within_s=5)
    print(f"back after {time.monotonic() - began_s:.1f} s")
