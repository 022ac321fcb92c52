"""The event stream, read side: read, acknowledge, take over from the dead, measure the lag.

The script appends, one stream per kind; every pump reads as a member of one consumer group, whose
position lives beside the data it points into (a cursor in the database would skip everything
written after a loss of data). What an entry *does* is decided in `history` and `pump`.

Everything here raises `BreakerUnavailable` when Redis cannot be reached, and nothing else: an
entry that makes no sense is returned, with the reason.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, NoReturn

from django_redis import get_redis_connection
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from fallback import breaker
from fallback.domain import LIMITS, Event, EventName, Kind, State
from fallback.errors import BreakerUnavailable, FallbackError

GROUP: Final = "pump"
FIELDS: Final = frozenset(
    {"id", "name", "provider", "before", "after", "at_ms", "cause", "actor", "reason"}
    | {"incident", "evidence", "version"}
)
NAMES: Final = frozenset(EventName)
STATES: Final = frozenset(State) | {""}  # a notice about no one breaker has none

TRIMMED: Final = "trimmed from the stream before it was processed"
COUNTED_AT_MOST: Final = 1000  # on a server that does not tell its lag, more is "at least this"
FORGET_CONSUMER_MS: Final = 24 * 3_600_000
WAITING: Final = "waiting"  # the key that says what a pump waits for
WAITING_TOLD_MS: Final = 15_000  # a pump that waits says so again within six seconds
LATEST_MS: Final = 253_402_300_799_000  # the end of the year 9999, the last that a datetime holds
LARGEST_VERSION: Final = 2**63 - 1

# Neither can be stored by PostgreSQL, and both can be sent by an agent inside a provider's text.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_NUMBER: Final = re.compile(r"(\d{1,15})-.")


class Unreadable(FallbackError):  # noqa: N818 - named like the other refusals in `errors`
    """An entry that is no event. It waits among the dead letters for a person to look at it."""

    code = "unreadable"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream: its event, or no event and the `problem` with it."""

    kind: Kind
    id: str  # of the entry, not of the event
    fields: Mapping[bytes, bytes]
    event: Event | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the pumps are behind: entries not yet processed, and when the oldest was written."""

    entries: int
    oldest_ms: int | None
    now_ms: int

    @property
    def age_ms(self) -> int:
        """The age of the oldest; 0 when nothing waits."""
        return 0 if self.oldest_ms is None else max(0, self.now_ms - self.oldest_ms)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pump that cannot work: for "database" or "redis", why in the driver's words for it
    ("DiskFull 53100"), since when by its own clock."""

    consumer: str
    what: str
    why: str
    since_ms: int


def read(kind: Kind, consumer: str, *, count: int, block_ms: int = 0) -> list[Entry]:
    """Return entries that nobody was given yet, oldest first; wait up to `block_ms` for the first.

    They stay pending for `consumer` until acknowledged. `block_ms` 0 does not wait.
    """
    return _given(kind, consumer, after=">", count=count, block_ms=block_ms)


def owed(kind: Kind, consumer: str, *, count: int) -> list[Entry]:
    """Return what was given to `consumer` and never acknowledged, oldest first."""
    return _given(kind, consumer, after="0", count=count)


def claim_stale(kind: Kind, consumer: str, *, idle_ms: int, count: int) -> list[Entry]:
    """Take over what others were given `idle_ms` ago and never acknowledged: they are dead.

    Returns everything `consumer` owes then, or nothing if there was nothing to take.
    """
    reply = _in_group(
        kind,
        lambda redis, key: redis.xautoclaim(
            key, GROUP, consumer, min_idle_time=idle_ms, start_id="0-0", count=count
        ),
    )
    # Redis 7 tells what was trimmed in a third part. 6.2 leaves it pending, and an empty place
    # here, so that only the look at what is owed can name it.
    trimmed = [_entry(kind, entry_id, {}) for entry_id in (reply[2] if len(reply) > 2 else ())]
    return trimmed + (owed(kind, consumer, count=count) if reply[1] else [])


def newest(kind: Kind) -> str:
    """Return the id of the newest entry, `0-0` when there is none: where `follow` can begin."""
    rows = _call(kind, lambda redis, key: redis.xrevrange(key, count=1))
    return str(rows[0][0].decode()) if rows else "0-0"


def follow(kind: Kind, after: str, *, count: int, block_ms: int = 0) -> list[Entry]:
    """Return entries written after one, oldest first, whoever else reads them; wait up to
    `block_ms` for the first, 0 does not wait. Nothing is acknowledged: this is for showing."""
    reply = _call(
        kind,
        lambda redis, key: redis.xread({key: after}, count=count, block=block_ms or None),
    )
    return [
        _entry(kind, entry_id, fields) for _, entries in reply or () for entry_id, fields in entries
    ]


def acknowledge(kind: Kind, entry_ids: Sequence[str]) -> None:
    """Tell the group that these entries are done with."""
    if entry_ids:
        _call(kind, lambda redis, key: redis.xack(key, GROUP, *entry_ids))


def hold(kind: Kind, consumer: str, entry_ids: Sequence[str]) -> None:
    """Say that `consumer` still works on these entries: they are not stale, however old."""
    if entry_ids:
        _in_group(
            kind,
            lambda redis, key: redis.xclaim(
                key, GROUP, consumer, min_idle_time=0, message_ids=list(entry_ids), justid=True
            ),
        )


def put_back(kind: Kind, fields: Mapping[str, str]) -> None:
    """Append an entry again, for a dead letter that an operator wants tried once more.

    Harmless for an event that did get through: what it did is known by the event's own id.
    """
    _call(
        kind,
        lambda redis, key: redis.xadd(key, dict(fields), maxlen=LIMITS["events"], approximate=True),
    )


def lag(kind: Kind) -> Lag:
    """Return how far the pumps are behind on this kind, by Redis's clock."""
    group = _group(kind)
    delivered = group["last-delivered-id"]
    oldest = [entry_id for entry_id, _ in _after(kind, delivered, count=1)]
    undelivered = group.get("lag")
    if undelivered is None:  # Redis 6.2, or 7 after a trim in the middle
        undelivered = len(_after(kind, delivered, count=COUNTED_AT_MOST)) if oldest else 0
    if group["pending"]:
        summary = _in_group(kind, lambda redis, key: redis.xpending(key, GROUP))
        oldest += [summary["min"]] if summary["min"] else []
    return Lag(
        entries=int(group["pending"]) + int(undelivered),
        oldest_ms=min((int(entry_id.split(b"-")[0]) for entry_id in oldest), default=None),
        now_ms=_now_ms(kind),
    )


def silence_ms(kind: Kind) -> int | None:
    """Return for how long no pump has asked what it owes; None when none ever did.

    A living pump asks once a second, so this is its heartbeat, with no key of its own. (Redis 6.2
    remembers a reader only when there was something to read: `read` is no sign of life.)
    """
    return min((int(row["idle"]) for row in _consumers(kind)), default=None)


def say_waiting(waiting: Waiting) -> None:
    """Tell whoever asks for a pump's readiness what it waits for, until `WAITING_TOLD_MS`."""
    text = json.dumps([waiting.consumer, waiting.what, waiting.why, waiting.since_ms])
    name = breaker.key(Kind.STT, WAITING)
    _call(Kind.STT, lambda redis, _: redis.set(name, text, px=WAITING_TOLD_MS))


def say_no_more_waiting() -> None:
    """Take back what was said last; a pump that still waits says it again within seconds."""
    _call(Kind.STT, lambda redis, _: redis.delete(breaker.key(Kind.STT, WAITING)))


def waiting() -> Waiting | None:
    """Return what the last pump that said so waits for; None when none does."""
    found = _call(Kind.STT, lambda redis, _: redis.get(breaker.key(Kind.STT, WAITING)))
    return Waiting(*json.loads(found)) if found else None


def leave(kind: Kind, consumer: str) -> None:
    """Have the group forget `consumer`, unless it still owes something."""
    for row in _consumers(kind):
        if row["name"] == consumer.encode():
            _forget(kind, row)


def forget_silent(kind: Kind) -> None:
    """Have the group forget the pumps of long ago, which left no more than their names."""
    for row in _consumers(kind):
        if row["idle"] > FORGET_CONSUMER_MS:
            _forget(kind, row)


def decode(kind: Kind, fields: Mapping[bytes, bytes]) -> Event:
    """Return the event that these fields say. Raises Unreadable, with the reason."""
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        _require_exactly(FIELDS, texts.keys())
        evidence = json.loads(texts["evidence"], parse_constant=_no_constant, parse_float=_finite)
        texts = {name: storable(value) for name, value in texts.items()}
        event = Event(
            **{name: texts[name] for name in FIELDS - {"at_ms", "version", "evidence"}},
            kind=kind,
            at_ms=_whole(texts["at_ms"], "at_ms", LATEST_MS),
            version=_whole(texts["version"], "version", LARGEST_VERSION),
            evidence=storable(evidence),
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(error) or type(error).__name__) from error
    _require_words(event)
    return event


def number_of(event_id: str, provider: str) -> tuple[str, int] | None:
    """Return the incarnation of Redis's data and the event's number within its breaker.

    None for an announcement, which is no breaker's own and has no number. Ids are
    `<incarnation>-<provider>-<number>-<request>`, and a provider's slug may hold dashes too.
    """
    incarnation, _, rest = event_id.partition("-")
    own = f"{provider}-"
    number = _NUMBER.match(rest, len(own)) if provider and rest.startswith(own) else None
    return (incarnation, int(number[1])) if number else None


def storable(value: Any) -> Any:
    """Return JSON with each character that PostgreSQL refuses replaced, at any depth."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return value


def _require_exactly(expected: frozenset[str], found: Any) -> None:
    """Refuse other fields too: one that this version does not know must not be lost unseen."""
    wrong = [f"no field {name}" for name in sorted(expected - found)]
    wrong += [f"unknown field {name}" for name in sorted(found - expected)]
    if wrong:
        raise Unreadable("; ".join(wrong))


def _require_words(event: Event) -> None:
    """Refuse what no part of the product could have said."""
    if not event.id:
        raise Unreadable("the id is empty")
    if event.name not in NAMES:
        raise Unreadable(f"unknown event {event.name!r}")
    for state in (event.before, event.after):
        if state not in STATES:
            raise Unreadable(f"unknown state {state!r}")
    if not isinstance(event.evidence, dict):
        raise Unreadable("evidence is not a JSON object")


def _whole(text: str, name: str, largest: int) -> int:
    """Return a whole number from 0 to `largest`; `int` alone would take " 1_0 "."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > largest:
        raise Unreadable(f"{name} {text!r:.40} is not a whole number up to {largest}")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity: Python reads them, JSON and PostgreSQL do not."""
    raise Unreadable(f"evidence holds {name}, which is not JSON")


def _finite(text: str) -> float:
    """Refuse 1e999: Python reads infinity, and nothing can store that."""
    number = float(text)
    return number if isfinite(number) else _no_constant(text)


def _given(kind: Kind, consumer: str, *, after: str, count: int, block_ms: int = 0) -> list[Entry]:
    reply = _in_group(
        kind,
        lambda redis, key: redis.xreadgroup(
            GROUP, consumer, {key: after}, count=count, block=block_ms or None
        ),
    )
    return [
        _entry(kind, entry_id, fields) for _, entries in reply or () for entry_id, fields in entries
    ]


def _entry(kind: Kind, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """Return an entry with its event. Without any field it was trimmed while it was pending."""
    event, problem = None, ""
    try:
        event = decode(kind, fields) if fields else None
        problem = "" if event else TRIMMED
    except Unreadable as error:
        problem = str(error)
    return Entry(kind, entry_id.decode(), fields, event, problem)


def _group(kind: Kind) -> dict[str, Any]:
    """Return what XINFO says of the group; one that is not there yet has been given nothing."""
    try:
        groups = _call(kind, lambda redis, key: redis.xinfo_groups(key))
    except _NoSuchThing:
        groups = []
    found = [group for group in groups if group["name"] == GROUP.encode()]
    return found[0] if found else {"last-delivered-id": b"0-0", "pending": 0}


def _consumers(kind: Kind) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = _call(
            kind, lambda redis, key: redis.xinfo_consumers(key, GROUP)
        )
    except _NoSuchThing:
        return []
    return rows


def _forget(kind: Kind, row: Mapping[str, Any]) -> None:
    """Forget one consumer; whoever owes something is kept, for what it owes goes with it."""
    if row["pending"] == 0:
        _call(kind, lambda redis, key: redis.xgroup_delconsumer(key, GROUP, row["name"]))


def _after(kind: Kind, entry_id: bytes, *, count: int) -> list[tuple[bytes, Any]]:
    rows: list[tuple[bytes, Any]] = _call(
        kind, lambda redis, key: redis.xrange(key, min=b"(" + entry_id, count=count)
    )
    return rows


def _now_ms(kind: Kind) -> int:
    """Return Redis's time. Through a script, so that a Cluster asks the stream's own node."""
    seconds, microseconds = _call(
        kind, lambda redis, key: redis.eval("return redis.call('TIME')", 1, key)
    )
    return int(seconds) * 1000 + int(microseconds) // 1000


class _NoSuchThing(FallbackError):  # noqa: N818 - as above
    """There is no stream, or no group on it: nothing was written yet, or Redis lost its data."""


def _in_group(kind: Kind, command: Callable[[Any, str], Any]) -> Any:
    """Run a command of the group, which is made when it is missing.

    It starts from the beginning: what a lost group had handled is handled again, and known by its
    event ids.
    """
    try:
        return _call(kind, command)
    except _NoSuchThing:
        _create_group(kind)
        return _call(kind, command)


def _create_group(kind: Kind) -> None:
    def create(redis: Any, key: str) -> None:
        try:
            redis.xgroup_create(key, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another pump was faster
                raise

    _call(kind, create)


def _call(kind: Kind, command: Callable[[Any, str], Any]) -> Any:
    """Run one command on the kind's stream. Raises BreakerUnavailable, or _NoSuchThing."""
    try:
        return command(get_redis_connection("stream"), breaker.key(kind, "events"))
    except ResponseError as error:
        if "NOGROUP" in str(error) or "no such key" in str(error).lower():
            raise _NoSuchThing(str(error)) from error
        raise breaker.refused(error) from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise BreakerUnavailable(f"Redis cannot be reached: {error}") from error
