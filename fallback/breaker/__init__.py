"""The shared breakers: the only caller of the script, one call per decision and per outcome.

What a breaker means is in `machine`, where one trips in Redis in lua/state.lua. Here are the keys
and the calls; `wire` turns replies into domain values, `link` bounds every wait, `scripts` builds
the text; `watch` and `master` say whose answers count, `orphans` takes back what nobody heard of.
Every function raises BreakerUnavailable when Redis does not answer.

Keys: `{<namespace>:<kind>}:<name>`, one hash tag per kind, so that a walk over a whole chain is one
script call on a Cluster too. lua/state.lua, evidence.lua and call.lua say what is in them:
breakers, policies, events, announced, unknown; call:<id>, failures:<provider>, samples:<provider>.
"""

import functools
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

import redis
from django.conf import settings
from django_redis import get_redis_connection
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from fallback import deadline
from fallback.aside import Aside
from fallback.breaker import link, master, scripts, wire
from fallback.breaker.link import Link
from fallback.breaker.orphans import Orphan, Orphans
from fallback.breaker.watch import Trust, Watch
from fallback.domain import (
    LIMITS,
    Asked,
    BreakerView,
    Held,
    Kind,
    Order,
    Outcome,
    Override,
    Policy,
    Recorded,
    Snapshot,
    UnknownName,
    Walk,
)
from fallback.errors import BreakerUnavailable

T = TypeVar("T")

# A Cluster's client waits and tries again by itself while slots move, so it is asked from here.
ASIDE: Final = Aside("redis", threads=64, at_most_s=1.0)


class Breakers:
    """All breakers of one namespace. Opens no connection before the first call."""

    def __init__(
        self,
        *,
        connect: Callable[[], redis.Redis] | None = None,
        namespace: str | None = None,
        clock: str | None = None,
        new_request: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._connect = connect or (lambda: get_redis_connection("breaker"))
        # The other pool to the same servers: it has to leave a master that was replaced, too.
        self._beside: Callable[[], list[redis.Redis]] = (
            list if connect else lambda: [get_redis_connection("stream")]
        )
        self._namespace = namespace
        self._scripts = scripts.build(clock)
        self._new_request = new_request
        self._orphans = Orphans(self._release)
        self.watch = Trust() if connect else self._new_watch()
        self.link = Link(forget=self._forget_connections, watch=self.watch)

    def _new_watch(self) -> Watch:
        def confirm() -> None:
            with deadline.within(link.ANSWER_S):
                master.confirm(self._client)

        return Watch(lambda: master.named(self._client), confirm, self._orphans.release)

    def is_sure(self) -> bool:
        """Whether the server that answers was lately confirmed to be the master; waits for the look
        under way when it was not."""
        return self.watch.is_sure()

    def refused(self, refusal: Exception) -> BreakerUnavailable:
        """Return what a refusal of Redis means to whoever asked; see `Link.refused`."""
        return self.link.refused(refusal)

    @functools.cached_property
    def _client(self) -> redis.Redis:
        """Looked up once per process: in a fresh context each look-up costs 80 µs."""
        return self._connect()

    def key(self, kind: str, name: str) -> str:
        """Return the full name of a key: `{<namespace>:<kind>}:<name>`."""
        return f"{{{self._namespace or settings.FALLBACK_NAMESPACE}:{kind}}}:{name}"

    def decide(self, kind: Kind, asked: Asked) -> Walk:
        """Walk a chain for one call, and lease a probe where one is due."""
        keys, request = self._keys(kind, f"call:{asked.call_id}"), self._new_request()
        try:
            reply = self._run("decide", keys, wire.ask_arguments(asked), request=request)
        except BreakerUnavailable as error:
            if error.may_be_done:
                names = tuple(name for name, _ in asked.steps)
                self._orphans.add(Orphan(kind, request, names))
            raise
        return wire.walk_from(asked, reply)

    def release(self, kind: Kind, lease: str, providers: Sequence[str]) -> bool:
        """Take back a lease that was never given to anybody; False if there is none."""
        return self._run("release", self._keys(kind), [lease, *providers])[0] == "released"

    def _release(self, orphan: Orphan) -> None:
        self.release(orphan.kind, orphan.lease, orphan.providers)

    def record(
        self, kind: Kind, reports: Sequence[tuple[Outcome, Sequence[str]]]
    ) -> list[Recorded]:
        """Take outcomes, each with the providers its call may swap to; one round trip for all.

        When Redis goes away in the middle some may have been taken: sending all again is safe.
        """
        calls = [
            (self._record_keys(kind, outcome), [wire.outcome_json(outcome), *steps])
            for outcome, steps in reports
        ]
        return [wire.recorded_from(reply) for reply in self._run_all("record", calls)]

    def order(self, kind: Kind, order: Order) -> tuple[BreakerView, bool]:
        """Carry out an operator's order; False when there was nothing to clear."""
        names = (f"failures:{order.provider}", f"samples:{order.provider}")
        reply = self._run("order", self._keys(kind, *names), [wire.order_json(order)])
        return wire.view_from(kind, order.provider, reply), reply[3] == "done"

    def configure(
        self,
        kind: Kind,
        revision: int,
        policies: Mapping[str, Policy],
        *,
        overrides: Mapping[str, Override] | None = None,
        is_known: bool = False,
    ) -> str:
        """Judge by these policies from now on: "applied", or "same" or "stale" when not newer.

        `overrides` are put back if the data is new; `is_known`: there was data before, so that new
        data means that it was lost, which is told.
        """
        argument = {
            "revision": revision,
            "policies": [[name, wire.policy_json(policy)] for name, policy in policies.items()],
            "overrides": [
                [name, wire.override_json(override)] for name, override in (overrides or {}).items()
            ],
            "is_known": is_known,
        }
        names = [f"{key}:{name}" for name in policies for key in ("failures", "samples")]
        return self._run("configure", self._keys(kind, *names), [json.dumps(argument)])[3]

    def snapshot(self, kind: Kind, providers: Sequence[str]) -> Snapshot:
        """Bring every breaker up to now and read it. Also the tick that finds what is due."""
        keys = self._keys(kind, *(f"failures:{name}" for name in providers))
        return wire.snapshot_from(kind, providers, self._run("snapshot", keys, list(providers)))

    def look(self, kind: Kind, providers: Sequence[str]) -> Held:
        """Return what is stored of these breakers, untouched: nothing is settled or written."""
        keys = [f"{what}:{name}" for name in providers for what in ("failures", "samples")]
        reply = self._run("look", self._keys(kind, *keys), list(providers))
        return wire.held_from(kind, providers, reply)

    def announce(
        self,
        kind: Kind,
        name: str,
        subject: str,
        *,
        every_ms: int,
        provider: str = "",
        cause: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> bool:
        """Put a notice on the stream, but not again for this subject within `every_ms`."""
        argument = {
            "name": name, "subject": subject, "provider": provider, "every_ms": every_ms,
            "evidence": dict(evidence or {}), "cause": cause,
        }  # fmt: skip
        reply = self._run("announce", self._keys(kind, "announced"), [json.dumps(argument)])
        return reply[0] == "told"

    def note_unknown(
        self, kind: Kind, seen: UnknownName, *, subject: str, full_subject: str, detail: str
    ) -> str:
        """Remember a name that the configuration does not hold, and tell it if it is new.

        Returns "new", "known", or "full": of those without room only the first is told.
        """
        argument = wire.unknown_json(
            seen, subject=subject, full_subject=full_subject, detail=detail
        )
        return self._run("unknown", self._keys(kind, "unknown"), [argument])[0]

    def unknown_names(self, kind: Kind, *, now_ms: int) -> tuple[list[UnknownName], bool]:
        """Return the names remembered, and whether there were others without room for them."""
        fields = self._fields(kind, "unknown")
        found = {name: wire.unknown_from(raw) for name, raw in fields.items()}
        live = {
            name: one
            for name, one in found.items()
            if one and now_ms - one.at_ms < LIMITS["unknown_ms"]
        }
        has_more = live.pop("#more", None) is not None
        return [live[name] for name in sorted(live)], has_more

    def forget_unknown(self, kind: Kind, names: Sequence[UnknownName]) -> None:
        """Forget these names: the configuration holds them now."""
        fields = [f"{one.what}:{one.name}" for one in names]
        if fields:
            self._ask(lambda client: client.hdel(self.key(kind, "unknown"), *fields))

    def recall(self, kind: Kind, call_id: str) -> dict[str, Any] | None:
        """Return what is remembered of a call ("touched_ms", "provider", "entries" oldest first);
        None: nothing."""
        known = self._fields(kind, f"call:{call_id}")
        if not known:
            return None
        numbers = range(1, min(int(known.get("count", 0)), LIMITS["call_entries"]) + 1)
        return {
            "touched_ms": int(known["touched_ms"]),
            "is_quiet": "quiet" in known,
            "provider": known.get("provider", ""),
            "entries": [json.loads(known[f"entry:{number}"]) for number in numbers],
        }

    def _fields(self, kind: Kind, name: str) -> dict[str, str]:
        """Return the fields of a hash; none where there is no such key."""
        key = self.key(kind, name)
        fields = cast(dict[bytes, bytes], self._ask(lambda client: client.hgetall(key)))
        return {_text(field): _text(value) for field, value in fields.items()}

    def _forget_connections(self) -> None:
        """Have the next call look up the master anew; a Cluster's client does that by itself."""
        if isinstance(self._client, RedisCluster):
            return
        for client in (self._client, *self._beside()):
            if pool := getattr(client, "connection_pool", None):
                pool.disconnect(inuse_connections=False)

    def _ask(self, call: Callable[[redis.Redis], T]) -> T:
        def aside() -> T:
            return ASIDE.ask(lambda: call(self._client))

        client = self.__dict__.get("_client")
        if client is None:  # a Cluster's is made by reading its slots
            return self.link.ask(aside, within_s=ASIDE.at_most_s)
        if isinstance(client, RedisCluster):
            return self.link.ask(aside)
        return self.link.ask(lambda: call(client))

    def _keys(self, kind: str, *names: str) -> list[str]:
        return [self.key(kind, name) for name in ("breakers", "policies", "events", *names)]

    def _record_keys(self, kind: Kind, outcome: Outcome) -> list[str]:
        name = outcome.provider
        return self._keys(kind, f"call:{outcome.call_id}", f"failures:{name}", f"samples:{name}")

    def _arguments(self, keys: list[str], arguments: list[str], request: str = "") -> list[Any]:
        """Return what follows the script: the number of keys, the keys, the request, the rest."""
        return [len(keys), *keys, request or self._new_request(), *arguments]

    def _run(
        self, verb: str, keys: list[str], arguments: list[str], *, request: str = ""
    ) -> list[str]:
        script = self._scripts[verb]
        full = self._arguments(keys, arguments, request)
        try:
            reply = self._ask(lambda client: client.evalsha(script.sha, *full))
        except NoScriptError:  # a restart, a failover, SCRIPT FLUSH: the same text, once
            reply = self._ask(lambda client: client.eval(script.text, *full))
        return _texts(cast(list[bytes], reply))

    def _run_all(self, verb: str, calls: list[tuple[list[str], list[str]]]) -> list[list[str]]:
        # redis-py refuses scripts in a Cluster's pipeline; there each is a round trip of its own.
        if len(calls) == 1 or isinstance(self.__dict__.get("_client"), RedisCluster):
            return [self._run(verb, *call) for call in calls]
        script = self._scripts[verb]
        full = [self._arguments(*call) for call in calls]

        def ask_all(client: redis.Redis) -> Any:
            if isinstance(client, RedisCluster):
                return None
            pipeline = client.pipeline(transaction=False)
            for arguments in full:
                pipeline.evalsha(script.sha, *arguments)
            return pipeline.execute(raise_on_error=False)

        replies = self._ask(ask_all)
        if replies is None:
            return self._run_all(verb, calls)
        return [self._whole(verb, reply, call) for reply, call in zip(replies, calls, strict=True)]

    def _whole(self, verb: str, reply: Any, call: tuple[list[str], list[str]]) -> list[str]:
        if isinstance(reply, NoScriptError):
            return self._run(verb, *call)
        if isinstance(reply, ResponseError):
            raise self.refused(reply) from reply
        if isinstance(reply, Exception):
            raise BreakerUnavailable("Redis did not answer in time.") from reply
        return _texts(reply)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _texts(reply: Sequence[bytes | str]) -> list[str]:
    return [_text(value) for value in reply]


shared = Breakers()  # this deployment's own; opens no connection before its first use
key, decide, record, order = shared.key, shared.decide, shared.record, shared.order
configure, snapshot, announce = shared.configure, shared.snapshot, shared.announce
recall, look = shared.recall, shared.look
note_unknown, unknown_names = shared.note_unknown, shared.unknown_names
forget_unknown = shared.forget_unknown
is_sure, refused = shared.is_sure, shared.refused
