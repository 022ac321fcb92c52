"""The connection factory that django-redis lacks for a Redis Cluster.

The default one hands out plain clients, and every second key answers MOVED. Keys that one script
touches share a hash tag, so that a Cluster client can send the script to their one node.
"""

import threading
from typing import Any, ClassVar

from django_redis.pool import ConnectionFactory
from redis.cluster import RedisCluster


class ClusterConnectionFactory(ConnectionFactory):  # type: ignore[misc] # it has no types
    """Keep one RedisCluster per URL and options for the whole process: it holds its own pools."""

    _clients: ClassVar[dict[str, RedisCluster]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def connect(self, url: str) -> RedisCluster:
        """Return the cluster's client; the first call reads the slots and may raise RedisError."""
        options = self._options(url)
        key = f"{url} {sorted(options.items(), key=str)!r}"
        with self._lock:
            if key not in self._clients:
                self._clients[key] = RedisCluster.from_url(url, **options)
            return self._clients[key]

    def disconnect(self, connection: RedisCluster) -> None:
        """Close the connections to every node; the client opens new ones when used again."""
        connection.close()

    def _options(self, url: str) -> dict[str, Any]:
        """Return the options of the alias without those that only a single server's pool takes."""
        options = self.make_connection_params(url) | self.pool_cls_kwargs
        options |= self.redis_client_cls_kwargs
        options["connection_pool_class"] = self.pool_cls
        return {name: options[name] for name in options if name not in ("url", "parser_class")}
