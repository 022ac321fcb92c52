"""The newest slots in Redis: `{<namespace>:<kind>}:past:<slot>`, a hash that ends by itself.

A field for each part that a process wrote, `<part>:<provider>`: written again after a lost answer
it is the same. Raises BreakerUnavailable when Redis is away.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from django_redis import get_redis_connection
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from fallback import breaker
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.past.sightings import SLOT_MS, Slot, merge, pack, unpack

KEPT_MS: Final = 90 * 60_000  # for a pump that was away; only garbage collection rests on it


class Place(NamedTuple):
    """Where something was seen. `start_ms`: when its slot began."""

    kind: Kind
    start_ms: int
    provider: str


def write(parts: Mapping[str, tuple[Place, Slot]]) -> None:
    """Write parts of slots, by their names; one that stands there already is the same."""
    if not parts:
        return
    try:
        pipeline = get_redis_connection("stream").pipeline(transaction=False)
        for name, (place, slot) in parts.items():
            key = _key(place.kind, place.start_ms)
            pipeline.hset(key, f"{name}:{place.provider}", pack(slot))
            pipeline.pexpire(key, KEPT_MS + SLOT_MS)
        pipeline.execute()
    except ResponseError as refusal:
        raise breaker.refused(refusal) from refusal
    except (RedisError, RedisClusterException, OSError) as error:
        raise BreakerUnavailable(f"Redis cannot be reached: {error}") from error


def read(kind: Kind, start_ms: int) -> dict[str, Slot]:
    """Return one slot of each provider that was seen in it, all processes together."""
    try:
        fields = get_redis_connection("stream").hgetall(_key(kind, start_ms))
    except ResponseError as refusal:
        raise breaker.refused(refusal) from refusal
    except (RedisError, RedisClusterException, OSError) as error:
        raise BreakerUnavailable(f"Redis cannot be reached: {error}") from error
    parts: dict[str, list[Slot]] = {}
    for name in _in_order(fields):
        provider = name.decode("utf-8", "replace").partition(":")[2]
        parts.setdefault(provider, []).append(unpack(start_ms, fields[name]))
    return {provider: merge(start_ms, found) for provider, found in parts.items()}


def _in_order(names: Iterable[bytes]) -> list[bytes]:
    """The parts of a process in the order in which it wrote them."""

    def place(name: bytes) -> tuple[bytes, int]:
        process, _, number = name.partition(b":")[0].partition(b".")
        return process, int(number) if number.isdigit() else 0

    return sorted(names, key=place)


def _key(kind: Kind, start_ms: int) -> str:
    return breaker.key(kind, f"past:{start_ms // SLOT_MS}")
