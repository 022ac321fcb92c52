"""A lease whose decision nobody heard is taken back: a slow Redis takes no probe's place."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from controlplane.redis_options import RedisServers, caches
from fallback.breaker import Breakers, link, orphans
from fallback.breaker.orphans import Orphan, Orphans
from fallback.domain import Kind, Order, Policy, State
from fallback.errors import BreakerUnavailable
from tests.processes import eventually
from tests.proxies import Proxy, proxy
from tests.scenes import CHAIN, asked

STT = Kind.STT


@pytest.fixture
def between(
    redis_client: redis.Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """Put a proxy before Redis, on the way of decisions alone."""
    kwargs = redis_client.connection_pool.connection_kwargs
    target = kwargs.get("path") or (kwargs["host"], kwargs["port"])
    monkeypatch.setattr(link, "ANSWER_S", 0.2)
    with proxy(target) as running:
        url = f"redis://127.0.0.1:{running.port}/{kwargs.get('db', 0)}"
        aliases = caches(RedisServers(url=url))
        settings.CACHES = settings.CACHES | {"breaker": aliases["breaker"]}
        yield running


def half_open(breakers: Breakers) -> None:
    """Have soniox wait for one probe."""
    breakers.configure(STT, 1, dict.fromkeys(CHAIN, Policy()))
    breakers.decide(STT, asked("first"))  # Redis knows the script from here on
    breakers.order(STT, Order("override", "soniox", "ana", "a test", State.FORCED_OPEN, 0))
    breakers.order(STT, Order("clear", "soniox", "ana", "a test", State.FORCED_OPEN, 0))


def refuse(*_: Any) -> bool:
    raise BreakerUnavailable("away")


def leases(client: redis.Redis) -> int:
    """Return how many leases of soniox are out."""
    patient = Breakers(connect=lambda: client, namespace="orphans")
    return patient.snapshot(STT, CHAIN).views[0].leases


def test_a2_a_lease_that_nobody_heard_of_is_given_back(
    redis_client: redis.Redis, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakers = Breakers(namespace="orphans")
    half_open(breakers)
    between.byte_every_s = 0.05
    with monkeypatch.context() as patch:
        patch.setattr(Breakers, "release", refuse)
        with pytest.raises(BreakerUnavailable):
            breakers.decide(STT, asked("unheard"))
        assert leases(redis_client) == 1
    between.heal()

    assert eventually(lambda: leases(redis_client) == 0)
    walk = breakers.decide(STT, asked("next"))
    assert (walk.findings[walk.chosen].provider, bool(walk.lease)) == ("soniox", True)


def test_a2_a_lease_that_was_heard_of_is_kept(redis_client: redis.Redis, between: Proxy) -> None:
    breakers = Breakers(namespace="orphans")
    half_open(breakers)
    assert breakers.decide(STT, asked("heard")).lease
    between.byte_every_s = 0.05
    with pytest.raises(BreakerUnavailable):
        breakers.decide(STT, asked("unheard"))
    between.heal()
    assert eventually(lambda: not breakers._orphans)

    assert leases(redis_client) == 1


def test_a2_a_lease_of_another_decision_is_not_touched(redis_client: redis.Redis) -> None:
    breakers = Breakers(connect=lambda: redis_client, namespace="orphans")
    half_open(breakers)
    lease = breakers.decide(STT, asked("one")).lease

    assert not breakers.release(STT, "somebody-else", CHAIN)
    assert breakers.release(STT, lease, CHAIN)
    assert not breakers.release(STT, lease, CHAIN)


def test_what_is_remembered_of_unheard_decisions_is_bounded() -> None:
    waiting = Orphans(refuse)
    for number in range(orphans.MOST + 10):
        waiting.add(Orphan(STT, f"lease-{number}", CHAIN))
    waiting.release()

    assert len(waiting) == orphans.MOST
