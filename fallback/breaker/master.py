"""Who the master is: by the Sentinels where there are some, and by the server's own word.

A Cluster needs neither: a node that lost its slots says so to every script.
"""

from typing import Any, Final

from redis.cluster import RedisCluster
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from fallback.breaker.watch import NotMaster

# What a server answers that is no master, or none that may write. Redis 6.2 has the word only in
# the text when a script is refused; the last is what redis-py makes of it under Sentinel.
DETHRONED: Final = ("READONLY", "NOREPLICAS", "MASTERDOWN", "previous master is now a slave")


def is_dethroned(error: Exception) -> bool:
    """Whether this error says that another server should be asked."""
    is_known = isinstance(error, ReadOnlyError | MasterDownError)
    return is_known or any(word in str(error) for word in DETHRONED)


def named(client: Any) -> str:
    """Return the master's address, after moving every pool to it; "" where nobody names one.

    Raises RedisError when no Sentinel ever named one.
    """
    pool = getattr(client, "connection_pool", None)
    sentinels = getattr(pool, "sentinel_manager", None)
    if pool is None or sentinels is None or not hasattr(sentinels, "follow"):
        return ""
    host, port = sentinels.follow(pool.service_name)
    return f"{host}:{port}"


def confirm(client: Any) -> None:
    """Raise NotMaster unless the server says that it is a master that may write, and no failover
    is about to replace it.

    Raises RedisError when it does not answer. A server that does not let us ask is believed.
    """
    if isinstance(client, RedisCluster):
        return
    pool = client.connection_pool
    sentinels = getattr(pool, "sentinel_manager", None)
    if sentinels is not None and sentinels.is_leaving(pool.service_name):
        raise NotMaster("a failover is under way")
    try:
        says = client.info("replication")
    except ResponseError as refusal:
        if is_dethroned(refusal):
            raise NotMaster(str(refusal)) from refusal
        return
    if says.get("role", "master") != "master":
        raise NotMaster("it says that it is a replica")
    if says.get("min_slaves_good_slaves", 1) == 0:
        raise NotMaster("it has none of the replicas without which it takes no write")
