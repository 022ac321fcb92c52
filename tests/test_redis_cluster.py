"""A real Cluster of three nodes: the connection factory, and an outage of each kind."""

import contextlib
import os
import time

import pytest
import redis
from django_redis import get_redis_connection
from redis.cluster import RedisCluster

from controlplane.embedded_redis import find_binary
from controlplane.redis_options import RedisServers, caches
from controlplane.supervisor import spawn, stop
from fallback import deadline
from fallback.breaker import Breakers, link
from fallback.domain import Kind, Policy
from fallback.errors import BreakerUnavailable
from fallback.fitness import WELL, redis_server
from tests.processes import eventually, free_port
from tests.scenes import CHAIN, asked, outcome

SLOTS = 16384
NODES = 3
DECISIONS = int(os.environ.get("SLOW_DECISIONS", "40"))


def is_up(client: redis.Redis) -> bool:
    """Say whether the node answers and knows of every slot."""
    try:
        info = client.cluster("info")
        return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", str(NODES))
    except redis.exceptions.RedisError:
        return False


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory):
    """Run a Cluster of three nodes; return the URL of one."""
    ports, nodes = [free_port(below=55_000) for _ in range(NODES)], []
    for port in ports:  # a node's bus listens 10,000 ports higher, and there must be such a port
        options = ["--port", str(port), "--cluster-enabled", "yes", "--save", ""]
        command = [str(find_binary()), *options, "--logfile", "node.log"]
        nodes.append(spawn(command, cwd=tmp_path_factory.mktemp("node")))
    clients = [redis.Redis(port=port) for port in ports]
    for number, client in enumerate(clients):
        assert eventually(lambda: answers(client))  # noqa: B023 - asked at once
        client.execute_command("CLUSTER", "ADDSLOTS", *range(number, SLOTS, NODES))
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
    for client in clients:
        assert eventually(lambda: is_up(client), within_s=20)  # noqa: B023 - asked at once
    yield f"redis://127.0.0.1:{ports[0]}"
    for node in nodes:
        stop(node, timeout_s=5)


def answers(client: redis.Redis) -> bool:
    """Say whether the node takes commands."""
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


@pytest.fixture
def on_cluster(settings, cluster_url):
    """Point every alias at the Cluster."""
    settings.CACHES = caches(RedisServers(url=cluster_url, mode="cluster"))


def test_scripts_and_streams_run_where_their_hash_tag_lives(on_cluster):
    client = get_redis_connection("breaker")
    script = client.register_script("return redis.call('XADD', KEYS[1], '*', 'to', 'open')")
    script(keys=["{test:stt}:events"])

    assert isinstance(client, RedisCluster)
    assert get_redis_connection("stream").xlen("{test:stt}:events") == 1


def test_each_alias_has_one_client_for_the_whole_process(on_cluster):
    assert get_redis_connection("breaker") is get_redis_connection("breaker")
    assert get_redis_connection("breaker") is not get_redis_connection("stream")


def test_the_pumps_client_waits_longer_than_the_decisions(on_cluster):
    waits = [
        get_redis_connection(alias).get_default_node().redis_connection.get_connection_kwargs()
        for alias in ("breaker", "stream")
    ]

    assert [wait["socket_timeout"] for wait in waits] == [0.2, 10.0]


@pytest.mark.parametrize("kind", Kind)
def test_an_outage_runs_on_the_node_of_its_kind(on_cluster, kind):
    breakers = Breakers(namespace="outage")
    breakers.configure(kind, 1, dict.fromkeys(CHAIN, Policy()))
    reports = [(outcome(call, "soniox", "init_failure"), CHAIN) for call in ("one", "two", "six")]
    effects = [recorded.effect for recorded in breakers.record(kind, reports)]
    walk = breakers.decide(kind, asked("next"))

    assert effects == ["counted", "tripped", "none"]
    assert walk.findings[walk.chosen].provider == "deepgram"
    assert [view.breaker.state for view in breakers.snapshot(kind, CHAIN).views] == [
        "open",
        "closed",
    ]
    assert breakers.recall(kind, "next")


def test_a8_every_node_is_asked_whether_it_keeps_what_it_is_told(on_cluster):
    nodes = get_redis_connection("breaker").get_primaries()
    client = nodes[-1].redis_connection
    alone = redis_server.ask()
    for node in nodes:
        node.redis_connection.config_set("appendonly", "yes")
    all_well = redis_server.ask()
    client.config_set("maxmemory", 1_000_000_000)
    client.config_set("maxmemory-policy", "allkeys-lru")

    assert "append-only" in alone.detail
    assert all_well == WELL
    assert "allkeys-lru" in redis_server.ask().detail
    client.config_set("maxmemory", 0)
    for node in nodes:  # at once, for a node that still rewrites its file does not stop
        node.redis_connection.config_set("appendonly", "no")


def test_a2_a_slot_on_the_move_delays_no_decision(on_cluster, monkeypatch):
    """Half of the keys are there already: redis-py sleeps and tries again for 400 ms."""
    breakers = Breakers(namespace="moving")
    breakers.configure(Kind.STT, 1, dict.fromkeys(CHAIN, Policy()))
    breakers.decide(Kind.STT, asked("before"))
    client = get_redis_connection("breaker")
    key = breakers.key(Kind.STT, "breakers")
    slot, owner = client.keyslot(key), client.get_node_from_key(key)
    other = next(node for node in client.get_primaries() if node.name != owner.name)
    ids = {node.name: node.redis_connection.cluster("myid").decode() for node in (owner, other)}

    def tell(node, *words):
        return node.redis_connection.execute_command("CLUSTER", "SETSLOT", slot, *words)

    tell(other, "IMPORTING", ids[owner.name])
    tell(owner, "MIGRATING", ids[other.name])
    owner.redis_connection.migrate(other.host, other.port, key, 0, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(link, "ANSWER_S", 0.18)
        seconds, answered = [], 0
        for number in range(DECISIONS):
            began_s = time.monotonic()
            with contextlib.suppress(BreakerUnavailable), deadline.within(0.2):
                breakers.decide(Kind.STT, asked(f"moving-{number}"))
                answered += 1
            seconds.append(time.monotonic() - began_s)
    print(f"a slot on the move: {DECISIONS} decisions, {answered} from Redis, "
          f"worst {max(seconds) * 1000:.0f} ms")  # fmt: skip
    names = owner.redis_connection.cluster("getkeysinslot", slot, 100)
    if names:
        owner.redis_connection.migrate(other.host, other.port, names, 0, 1000)
    for node in (other, owner):
        tell(node, "NODE", ids[other.name])

    assert sum(one > 0.3 for one in seconds) <= 1  # a machine that stalls makes one late
    assert max(seconds) < 1.0
    assert eventually(lambda: is_answered(breakers))


def is_answered(breakers):
    """Say whether a decision comes from the Cluster."""
    try:
        return bool(breakers.decide(Kind.STT, asked("after")))
    except BreakerUnavailable:
        return False
