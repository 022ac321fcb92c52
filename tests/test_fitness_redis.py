"""Whether Redis takes writes and keeps them, asked of a real one that is set up wrongly."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from django.test import Client

from fallback import checks
from fallback.fitness import WELL, Finding, Grade, NotFit, redis_server
from tests.configuration import make_route
from tests.processes import eventually

KEYS = ("maxmemory", "maxmemory-policy", "appendonly", "min-replicas-to-write")


@pytest.fixture(autouse=True)
def as_it_should_be(redis_client: redis.Redis) -> Iterator[None]:
    """Begin each test with a server that is set up well, and leave it as it was."""
    before = {key: redis_client.config_get(key)[key] for key in KEYS}
    redis_client.config_set("appendonly", "yes")
    yield
    for key, value in before.items():
        redis_client.config_set(key, value)
    eventually(lambda: not redis_client.info("persistence")["aof_rewrite_in_progress"])


def test_a_redis_that_is_set_up_well_is_well():
    assert redis_server.ask() == WELL


def test_s11_a_full_redis_answers_ping_and_is_found_not_to_take_writes(redis_client: redis.Redis):
    redis_client.config_set("maxmemory", 1)

    assert redis_client.ping()
    with pytest.raises(NotFit, match="Redis refuses writes: out of memory"):
        redis_server.ask()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("role", "code", "status"), [("web", 200, "degraded"), ("pump", 503, "failing")]
)
def test_s11_readiness_says_that_redis_is_full(
    redis_client: redis.Redis, client: Client, role: str, code: int, status: str
):
    make_route()
    redis_client.config_set("maxmemory", 1)
    response = client.get("/readyz", {"role": role})

    assert response.status_code == code
    assert response.json()["checks"]["redis"]["status"] == status
    assert "out of memory" in response.json()["checks"]["redis"]["detail"]


def test_s11_what_readiness_writes_is_one_key_that_goes_away(redis_client: redis.Redis):
    redis_server.ask()
    redis_server.ask()

    assert redis_client.dbsize() == 1
    assert 0 < redis_client.pttl(redis_client.keys()[0]) <= redis_server.KEEP_MS


def test_a_replica_is_told_as_one(redis_client: redis.Redis):
    redis_client.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(NotFit, match="it is a replica"):
            redis_server.ask()
    finally:
        redis_client.replicaof("NO", "ONE")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a8_a_policy_that_can_evict_our_keys_is_told(redis_client: redis.Redis, policy: str):
    redis_client.config_set("maxmemory", 1_000_000_000)
    redis_client.config_set("maxmemory-policy", policy)
    found = redis_server.ask()

    assert found.grade is Grade.DEGRADED
    assert f"maxmemory-policy {policy}" in found.detail
    assert [one.id for one in checks.check_redis(databases=["default"])] == ["fallback.W011"]


def test_a8_without_a_limit_no_policy_evicts_anything(redis_client: redis.Redis):
    redis_client.config_set("maxmemory-policy", "allkeys-lru")

    assert redis_server.ask() == WELL


def test_a8_a_redis_without_an_append_only_file_is_told(redis_client: redis.Redis):
    redis_client.config_set("appendonly", "no")
    found = redis_server.ask()

    assert (found.grade, "appendonly yes" in found.detail) == (Grade.DEGRADED, True)


def test_a8_with_sentinel_a_master_that_writes_alone_is_told(
    redis_client: redis.Redis, settings: Any
):
    settings.REDIS = replace(settings.REDIS, mode="sentinel", sentinels=(("127.0.0.1", 1),))
    alone = redis_server.ask()
    redis_client.config_set("min-replicas-to-write", 1)

    assert "min-replicas-to-write 1" in alone.detail
    with pytest.raises(NotFit, match="too few replicas"):
        redis_server.ask()


def test_a8_without_sentinel_a_single_server_writes_alone():
    assert "replicas" not in redis_server.ask().detail


def test_a8_what_a_managed_redis_does_not_tell_is_not_known_and_no_fault(
    redis_client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    redis_client.execute_command("ACL", "SETUSER", "tenant", "on", ">x", "~*", "+@all", "-config")
    tenant = redis.Redis.from_url(redis_url, username="tenant", password="x", protocol=2)
    monkeypatch.setattr(redis_server, "_client", lambda: tenant)
    found = redis_server.ask()
    redis_client.execute_command("ACL", "DELUSER", "tenant")

    assert found == Finding(Grade.OK, "not known: appendonly")


def test_check_says_that_redis_refuses_writes(redis_client: redis.Redis):
    redis_client.config_set("maxmemory", 1)

    assert [one.id for one in checks.check_redis(databases=["default"])] in (
        ["fallback.W010"],
        ["fallback.W001"],  # the snapshot itself is refused
    )
