"""64 callers in 8 processes at the same moment: one trip, and never more leases than slots."""

import subprocess
import sys

import pytest
import redis
from django.conf import settings

from fallback.domain import Kind, Order, Policy, State
from tests.callers import breakers
from tests.scenes import CHAIN

PROCESSES, THREADS = 8, 8


def crowd(url: str, verb: str) -> list[str]:
    """Return what each of the callers was told, once all were let go together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.callers", url, str(number), str(THREADS), verb],
            cwd=settings.BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outputs += process.communicate(timeout=60)[0].splitlines()
    return outputs


@pytest.fixture
def url(redis_url: str, redis_client: redis.Redis) -> str:
    breakers(redis_url).configure(Kind.STT, 1, dict.fromkeys(CHAIN, Policy(probe_slots=3)))
    return redis_url


def test_64_callers_failing_at_once_trip_a_breaker_once(
    url: str, redis_client: redis.Redis
) -> None:
    effects = crowd(url, "fail")
    shared = breakers(url)
    events = [row[b"name"] for _, row in redis_client.xrange(shared.key("stt", "events"))]

    assert len(effects) == PROCESSES * THREADS
    assert (effects.count("tripped"), events.count(b"tripped")) == (1, 1)
    assert effects.count("counted") == 1  # the one before; the others came to an open breaker


def test_at_half_open_64_callers_get_no_more_leases_than_slots(
    url: str, redis_client: redis.Redis
) -> None:
    shared = breakers(url)
    shared.order(Kind.STT, Order("override", "soniox", "ana", "out", State.FORCED_OPEN))
    shared.order(Kind.STT, Order("clear", "soniox", "ana", "back"))
    leases = [line.split()[1] for line in crowd(url, "decide") if line.startswith("probe ")]

    assert len(set(leases)) == len(leases) == 3
    [view, _] = shared.snapshot(Kind.STT, CHAIN).views
    assert set(view.breaker.leases) == set(leases)


def test_no_key_of_a_crowd_is_without_a_bound(url: str, redis_client: redis.Redis) -> None:
    crowd(url, "fail")
    crowd(url, "decide")
    endless = {key for key in redis_client.keys("*") if redis_client.ttl(key) == -1}
    shared = breakers(url)

    assert endless == {
        shared.key("stt", name).encode() for name in ("breakers", "policies", "events")
    }
