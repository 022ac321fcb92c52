"""Does Redis take writes, and is it set up to keep what it is told?

A full Redis answers PING and refuses every outcome and every order, so readiness writes. What a
managed server does not let us read is not known, and no reason to be degraded.
"""

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.core.cache import caches
from redis.cluster import RedisCluster
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from fallback import breaker
from fallback.domain import Kind
from fallback.fitness import WELL, Finding, Grade, NotFit

KEY: Final = "health"
KEEP_MS: Final = 10_000
REFUSALS: Final = {
    "OOM": "out of memory (maxmemory is reached)",
    "READONLY": "it is a replica",
    "NOREPLICAS": "too few replicas are connected (min-replicas-to-write)",
    "MISCONF": "it cannot write its data to its disk",
    "NOPERM": "this user may not write",
}


def ask() -> Finding:
    """See whether Redis takes writes, and whether its settings keep them.

    Raises NotFit where the write is refused, RedisError where nobody answers.
    """
    require_writes()
    wrong, unknown = remarks()
    if wrong:
        return Finding(Grade.DEGRADED, " ".join(wrong))
    return Finding(Grade.OK, f"not known: {', '.join(unknown)}") if unknown else WELL


def require_writes() -> None:
    """Write one key that goes away by itself, on the client that decisions use, with its short
    timeouts. Raises NotFit when it is refused, RedisError when nobody answers."""
    try:
        _client().set(breaker.key(Kind.STT, KEY), 1, px=KEEP_MS)
    except ResponseError as refusal:
        raise NotFit(f"Redis refuses writes: {_why(refusal)}") from refusal


def remarks() -> tuple[list[str], list[str]]:
    """Return (sentences on settings that can lose data, names of settings that may not be read)."""
    client = _client()
    asked: dict[str, Callable[[Any], str]] = {
        "maxmemory-policy": _eviction,
        "appendonly": _append_only,
    }
    if settings.REDIS.mode == "sentinel":
        asked["min-replicas-to-write"] = _replicas
    wrong, unknown = [], []
    for name, look in asked.items():
        try:
            wrong += [text] if (text := look(client)) else []
        except ResponseError:
            unknown.append(name)
    return wrong, unknown


def _eviction(client: Any) -> str:
    """INFO tells it where CONFIG is forbidden. Without a limit nothing is evicted."""
    for memory in _of_each_node(client, "info", "memory"):
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction" and int(memory.get("maxmemory", 0)) > 0:
            return (
                f"Redis may evict our keys when it is full (maxmemory-policy {policy}): calls are"
                " counted twice then, or breakers forgotten. Set it to noeviction."
            )
    return ""


def _append_only(client: Any) -> str:
    if all(value == "yes" for value in _config(client, "appendonly")):
        return ""
    return (
        "Redis keeps no append-only file: a restart loses breakers and events. Set appendonly yes"
        " and appendfsync everysec."
    )


def _replicas(client: Any) -> str:
    if all(int(value) > 0 for value in _config(client, "min-replicas-to-write")):
        return ""
    return (
        "A master that is cut off goes on taking writes, which are lost when Sentinel names"
        " another. Set min-replicas-to-write 1."
    )


def _config(client: Any, name: str) -> list[str]:
    """Return one setting of each node; raises ResponseError where it may not be read."""
    found = [values.get(name) for values in _of_each_node(client, "config_get", name)]
    if not all(found):
        raise ResponseError(f"{name} is not told")
    return [_text(value) for value in found]


def _of_each_node(client: Any, command: str, argument: str) -> list[dict[str, Any]]:
    """Return what each node that takes writes answers; names as text, values as they come."""
    if not isinstance(client, RedisCluster):
        return [_with_names(getattr(client, command)(argument))]
    return [
        _with_names(getattr(client, command)(argument, target_nodes=node))
        for node in client.get_primaries()  # type: ignore[no-untyped-call]
    ]


def _with_names(values: dict[Any, Any]) -> dict[str, Any]:
    return {_text(name): value for name, value in values.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _why(refusal: ResponseError) -> str:
    """Return the reason in words; of an unknown one only its code, which names no address."""
    codes: dict[type[ResponseError], str]
    codes = {OutOfMemoryError: "OOM", ReadOnlyError: "READONLY"}
    text = str(refusal)
    code = codes.get(type(refusal)) or next(
        (code for code in REFUSALS if code in text), text.partition(" ")[0][:40]
    )
    return REFUSALS.get(code, code)


def _client() -> Any:
    return caches["breaker"].client.get_client(write=True)  # type: ignore[attr-defined]
