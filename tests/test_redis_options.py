"""One REDIS_URL for every client: apart where they wait differently, together where they must."""

import time

import pytest
import redis
from django_redis import get_redis_connection

from controlplane.redis_options import RedisServers, caches, channel_layers

SENTINEL = RedisServers(
    url="redis://user:p%40ss@main/2",
    mode="sentinel",
    sentinels=(("one", 26379), ("two", 26379)),
    sentinel_password="s",
)


def test_decisions_and_the_pump_wait_differently_on_the_same_server(settings):
    # An address of its own: pools are kept by URL for the whole process.
    settings.CACHES = caches(RedisServers(url=f"{settings.REDIS_URL}?db=0"))
    breaker = get_redis_connection("breaker").connection_pool.connection_kwargs
    stream = get_redis_connection("stream").connection_pool.connection_kwargs

    assert breaker["path"] == stream["path"]
    assert (breaker.get("client_name"), stream["client_name"]) == (None, "stt-stream")
    assert breaker["socket_timeout"] < 1 < 5 < stream["socket_timeout"]


def test_what_the_breaker_writes_the_pump_reads():
    get_redis_connection("breaker").xadd("events", {"to": "open"})

    assert get_redis_connection("stream").xlen("events") == 1


def test_a_blocking_read_longer_than_the_usual_timeout_comes_back_empty():
    stream = get_redis_connection("stream")

    assert not stream.xread({"events": "$"}, block=5500)


def test_a_server_that_is_away_costs_a_decision_next_to_nothing(settings):
    settings.CACHES = caches(RedisServers(url="unix:///nowhere/redis.sock"))
    before_s = time.monotonic()
    with pytest.raises(redis.exceptions.ConnectionError):
        get_redis_connection("breaker").ping()

    assert time.monotonic() - before_s < 0.3


def test_a2_a_new_connection_asks_nothing_before_its_first_question(settings, redis_client):
    settings.CACHES = caches(RedisServers(url=f"{settings.REDIS_URL}?health_check_interval=0"))
    redis_client.config_resetstat()
    get_redis_connection("breaker").ping()
    asked = {str(name) for name in redis_client.info("commandstats")}

    assert any("ping" in name for name in asked)
    assert not any("client" in name or "hello" in name for name in asked)


def test_sentinel_gives_every_alias_the_sentinels_and_the_master():
    options = caches(SENTINEL)["breaker"]["OPTIONS"]

    assert options["SENTINELS"] == [("one", 26379), ("two", 26379)]
    assert options["SENTINEL_KWARGS"]["password"] == "s"
    assert options["CONNECTION_FACTORY"].endswith("MasterConnectionFactory")


def test_sentinel_gives_the_channel_layer_the_login_of_the_url():
    host = channel_layers(SENTINEL, "prod")["default"]["CONFIG"]["hosts"][0]

    assert (host["master_name"], host["db"]) == ("main", 2)
    assert (host["username"], host["password"]) == ("user", "p@ss")
