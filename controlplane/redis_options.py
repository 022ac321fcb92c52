"""One REDIS_URL into the options of every client, for a single server, Sentinel or a Cluster.

Two aliases are used by their raw client: `breaker`, on every decision's path, gives up fast and
never retries (the answer without Redis is the fallback's business); `stream` waits long, for the
pump's blocking reads. What bounds a whole answer, not only each read of it, is in
`redis_connections`; who the master is, in `redis_sentinel`.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis.backoff import NoBackoff
from redis.retry import Retry

MODES: Final = ("single", "sentinel", "cluster")

# The longest wait for one read; for the whole answer it is `breaker.link.ANSWER_S`.
BREAKER_TIMEOUT_S: Final = 0.2
BREAKER_CONNECT_TIMEOUT_S: Final = 0.2

# Longer than any blocking read, or redis-py cuts it off in the middle.
STREAM_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class RedisServers:
    """Where Redis is. With Sentinel the URL's host is the master's name: redis://mymaster/0."""

    url: str
    mode: str = "single"
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_password: str = ""


def caches(servers: RedisServers) -> dict[str, dict[str, Any]]:
    """Return Django's CACHES; `default` is this process's own memory."""
    # Without a name, since SETNAME and SETINFO are three round trips before the first answer.
    breaker = {**_pool(BREAKER_TIMEOUT_S, BREAKER_CONNECT_TIMEOUT_S), "driver_info": None}
    stream = _pool(STREAM_TIMEOUT_S, 1.0)
    return {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "breaker": _alias(servers, "breaker", servers.url, breaker, is_bounded=True),
        "stream": _alias(servers, "stream", _named(servers.url, "stt-stream"), stream),
    }


def channel_layers(servers: RedisServers, namespace: str) -> dict[str, dict[str, Any]]:
    """Return CHANNEL_LAYERS. Of the two layers only the pub/sub one works on a Cluster."""
    config = {"hosts": [_channel_host(servers)], "prefix": f"{namespace}:channels"}
    return {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": config}
    }


def _pool(timeout_s: float, connect_timeout_s: float) -> dict[str, Any]:
    """Return a pool's options. RESP2, because some proxies and managed servers lack HELLO.

    redis-py's own ten retries would make a dead server cost nearly four seconds.
    """
    return {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": timeout_s,
    }


def _alias(
    servers: RedisServers, name: str, url: str, pool: dict[str, Any], *, is_bounded: bool = False
) -> dict[str, Any]:
    """Return one alias. django-redis shares pools by URL alone, so no two have the same."""
    options: dict[str, Any] = {
        "CONNECTION_POOL_KWARGS": pool,
        "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
    }
    if is_bounded:
        options["CONNECTION_POOL_CLASS"] = "controlplane.redis_connections.BoundedPool"
    if servers.mode == "sentinel":
        options |= {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_FACTORY": "controlplane.redis_sentinel.MasterConnectionFactory",
            "CONNECTION_POOL_CLASS": "controlplane.redis_connections.BoundedSentinelPool",
            "SENTINELS": list(servers.sentinels),
            "SENTINEL_KWARGS": _sentinel_kwargs(servers),
        }
    if servers.mode == "cluster":
        options["CONNECTION_FACTORY"] = "controlplane.redis_cluster.ClusterConnectionFactory"
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "KEY_PREFIX": f"stt-{name}",
        "LOCATION": url,
        "OPTIONS": options,
    }


def _named(url: str, client_name: str) -> str:
    """Add the name under which CLIENT LIST will show the connections."""
    return f"{url}{'&' if '?' in url else '?'}client_name={client_name}"


def _channel_host(servers: RedisServers) -> dict[str, Any]:
    """Return the host entry of the channel layer; on a Cluster any node will do for pub/sub."""
    if servers.mode != "sentinel":
        return {"address": servers.url}
    parts = urlsplit(servers.url)
    login = {"username": parts.username, "password": parts.password}
    return {
        "db": int(parts.path.strip("/") or 0),
        "master_name": parts.hostname,
        "sentinels": list(servers.sentinels),
        "sentinel_kwargs": _sentinel_kwargs(servers),
        **{name: unquote(value) for name, value in login.items() if value},
    }


def _sentinel_kwargs(servers: RedisServers) -> dict[str, Any]:
    """Return the options of the connections to the sentinels themselves."""
    password = {"password": servers.sentinel_password} if servers.sentinel_password else {}
    return {"socket_timeout": 0.3, "socket_connect_timeout": 0.3, **password}
