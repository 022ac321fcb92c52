"""The minutes in Redis: `{<namespace>:<kind>}:stats:<minute>`, a hash that ends by itself.

A field for each process and provider, `<process>:<provider>`, holds that process's own numbers:
written again after a lost answer they are the same. Raises BreakerUnavailable when Redis is away.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from django_redis import get_redis_connection
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from fallback import breaker
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.stats.counts import Counts, counts_from

KEPT_MINUTES: Final = 180  # for a pump that was away; only garbage collection rests on it


class Place(NamedTuple):
    """Where something is counted. `minute`: since the epoch."""

    minute: int
    kind: Kind
    provider: str


def write(process: str, rows: Mapping[Place, Sequence[int]]) -> None:
    """Write one process's numbers, in place of those it wrote before."""
    by_key: dict[str, dict[str, str]] = {}
    for place, numbers in rows.items():
        field = f"{process}:{place.provider}"
        by_key.setdefault(_key(place.kind, place.minute), {})[field] = json.dumps(numbers)
    if not by_key:
        return
    try:
        pipeline = get_redis_connection("stream").pipeline(transaction=False)
        for key, fields in by_key.items():
            pipeline.hset(key, mapping=fields)
            pipeline.expire(key, KEPT_MINUTES * 60)
        pipeline.execute()
    except ResponseError as refusal:
        raise breaker.refused(refusal) from refusal
    except (RedisError, RedisClusterException, OSError) as error:
        raise BreakerUnavailable(f"Redis cannot be reached: {error}") from error


def read(kind: Kind, minutes: Sequence[int]) -> dict[Place, Counts]:
    """Return the numbers of all processes together; nothing for minutes without any."""
    try:
        pipeline = get_redis_connection("stream").pipeline(transaction=False)
        for minute in minutes:
            pipeline.hgetall(_key(kind, minute))
        replies = pipeline.execute()
    except ResponseError as refusal:
        raise breaker.refused(refusal) from refusal
    except (RedisError, RedisClusterException, OSError) as error:
        raise BreakerUnavailable(f"Redis cannot be reached: {error}") from error
    found: dict[Place, Counts] = {}
    for minute, fields in zip(minutes, replies, strict=True):
        for field, raw in fields.items():
            provider = field.decode("utf-8", "replace").partition(":")[2]
            place = Place(minute, kind, provider)
            found.setdefault(place, Counts()).add(_counts(raw))
    return found


def _counts(raw: bytes) -> Counts:
    try:
        return counts_from(json.loads(raw))
    except ValueError:
        return Counts()


def _key(kind: Kind, minute: int) -> str:
    return breaker.key(kind, f"stats:{minute}")
