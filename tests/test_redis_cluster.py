"""The Cluster's connection factory, against a real Cluster of one node."""

import pytest
import redis
from django_redis import get_redis_connection
from redis.cluster import RedisCluster

from controlplane.embedded_redis import find_binary
from controlplane.redis_options import RedisServers, caches
from controlplane.supervisor import spawn, stop
from tests.processes import eventually, free_port

SLOTS = 16384


def is_up(client: redis.Redis) -> bool:
    """Say whether the node answers and knows of every slot."""
    try:
        return client.cluster("info")["cluster_state"] == "ok"
    except redis.exceptions.RedisError:
        return False


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory):
    """Run a Cluster of one node that holds every slot; return its URL."""
    # The node's bus listens 10,000 ports higher, and there must be such a port.
    port = free_port(below=55_000)
    options = ["--port", str(port), "--cluster-enabled", "yes", "--save", ""]
    command = [str(find_binary()), *options, "--logfile", "node.log"]
    node = spawn(command, cwd=tmp_path_factory.mktemp("node"))
    with redis.Redis(port=port) as client:
        assert eventually(lambda: answers(client))
        client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
        assert eventually(lambda: is_up(client))
    yield f"redis://127.0.0.1:{port}"
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

    assert [wait["socket_timeout"] for wait in waits] == [0.15, 10.0]
