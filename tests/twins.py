"""The machine and the script on a real Redis, side by side: every step to both, all compared.

Time is virtual for both: the script's clock is replaced by one that takes its time from the last
argument, which the production text cannot do.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import redis

from fallback.breaker import Breakers, wire
from fallback.domain import Asked, Kind, Order, Outcome, Override, Policy, Recorded, Snapshot, Walk
from fallback.machine import Fleet, Machine
from fallback.machine.calls import Call

VIRTUAL_CLOCK = """
local virtual_ms = tonumber(table.remove(ARGV))
local function clock_us() return virtual_ms * 1000 end
"""
START_MS = 1_790_000_000_000
KIND = Kind.STT


class VirtualBreakers(Breakers):
    """The real scripts, at a time of the test's choice."""

    now_ms = START_MS

    def _arguments(self, keys: list[str], arguments: list[str], request: str = "") -> list[Any]:
        return [*super()._arguments(keys, arguments, request), str(self.now_ms)]


class Twins:
    """One history told to the machine and to Redis alike."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now_ms = START_MS
        self.requests = 0
        self.machine = Machine(Fleet(kind=KIND))
        self.breakers = VirtualBreakers(
            connect=lambda: client,
            namespace="twins",
            clock=VIRTUAL_CLOCK,
            new_request=lambda: self.request,
        )

    @property
    def request(self) -> str:
        """The id of this step, the same for both."""
        return f"{self.requests:016x}"

    def step(self) -> dict[str, Any]:
        """Begin a step; return what the machine needs to know of it."""
        self.requests += 1
        self.breakers.now_ms = self.now_ms
        return {"now_ms": self.now_ms, "request": self.request}

    def decide(self, asked: Asked) -> Walk:
        expected = self.machine.decide(asked, **self.step())
        return self.same(expected, self.breakers.decide(KIND, asked))

    def record(self, outcome: Outcome, steps: Sequence[str] = ()) -> Recorded:
        expected = self.machine.record(outcome, steps, **self.step())
        [found] = self.breakers.record(KIND, [(outcome, steps)])
        return self.same(expected, found)

    def order(self, order: Order) -> bool:
        expected = self.machine.order(order, **self.step())
        return self.same(expected, self.breakers.order(KIND, order)[1])

    def configure(
        self,
        revision: int,
        policies: dict[str, Policy],
        overrides: dict[str, Override] | None = None,
        *,
        is_known: bool = False,
    ) -> str:
        expected = self.machine.configure(
            revision, policies, overrides=overrides, is_known=is_known, **self.step()
        )
        found = self.breakers.configure(
            KIND, revision, policies, overrides=overrides, is_known=is_known
        )
        return self.same(expected, found)

    def snapshot(self, names: Sequence[str]) -> Snapshot:
        expected = self.machine.snapshot(names, **self.step())
        return self.same(expected, self.breakers.snapshot(KIND, names))

    def release(self, lease: str, names: Sequence[str]) -> bool:
        expected = self.machine.release(lease, names, **self.step())
        return self.same(expected, self.breakers.release(KIND, lease, names))

    def same(self, expected: Any, found: Any) -> Any:
        """Compare one answer, then everything that is stored."""
        assert found == expected
        assert self.stored() == self.expected()
        return found

    def expected(self) -> dict[str, Any]:
        """Everything the machine holds, in the form of `stored`."""
        fleet = self.machine.fleet
        return {
            "version": fleet.version,
            "revision": fleet.revision,
            "incarnation": fleet.incarnation,
            "breakers": fleet.breakers,
            "policies": {name: wire.policy_json(one) for name, one in fleet.policies.items()},
            "events": [_plain(asdict(event)) for event in fleet.events],
            "calls": {name: _plain(asdict(call)) for name, call in fleet.calls.items()},
            "failures": {name: rows for name, rows in fleet.failures.items() if rows},
            "samples": {name: rows for name, rows in fleet.samples.items() if rows},
        }

    def stored(self) -> dict[str, Any]:
        """Everything that stands in Redis, as the machine's values."""
        key = lambda name: self.breakers.key(KIND, name)  # noqa: E731 - three lines, six uses
        fields = _hash(self.client, key("breakers"))
        meta = {name: fields.pop(f"#{name}", "") for name in ("version", "revision", "incarnation")}
        return {
            "version": int(meta["version"]) if meta["version"] else None,
            "revision": int(meta["revision"]) if meta["revision"] else None,
            "incarnation": meta["incarnation"],
            "breakers": {name: wire.breaker_from(raw) for name, raw in fields.items()},
            "policies": _hash(self.client, key("policies")),
            "events": [_event(row) for _, row in self.client.xrange(key("events"))],
            "calls": dict(self._each("call", self._call)),
            "failures": dict(self._each("failures", self._failures)),
            "samples": dict(self._each("samples", self._samples)),
        }

    def _each(self, what: str, read: Any) -> list[tuple[str, Any]]:
        prefix = self.breakers.key(KIND, f"{what}:")
        keys = [key.decode() for key in self.client.keys("*") if key.decode().startswith(prefix)]
        return [(key.removeprefix(prefix), read(key)) for key in keys]

    def _failures(self, key: str) -> dict[tuple[str, ...], int]:
        rows = self.client.zrange(key, 0, -1, withscores=True)
        members = ((member.decode().split("\x1f"), int(at)) for member, at in rows)
        return {tuple([*parts, ""][:4]): at for parts, at in members}

    def _samples(self, key: str) -> dict[tuple[int, ...], list[int]]:
        rows = _hash(self.client, key).items()
        return {tuple(map(int, name.split(":"))): list(map(int, row.split())) for name, row in rows}

    def _call(self, key: str) -> dict[str, Any]:
        fields = _hash(self.client, key)
        sets: dict[str, set[str]] = {"failed": set(), "heard": set(), "saved": set(), "id": set()}
        for name in fields:
            what, _, rest = name.partition(":")
            if what in sets:
                sets[what].add(rest)
        count = int(fields.get("count", 0))
        entries = [json.loads(fields[f"entry:{number}"]) for number in range(1, count + 1)]
        return _plain(
            asdict(
                Call(
                    touched_ms=int(fields["touched_ms"]),
                    is_quiet="quiet" in fields,
                    provider=fields.get("provider", ""),
                    route=fields.get("route", ""),
                    is_diverted="diverted" in fields,
                    failed=sets["failed"],
                    heard=sets["heard"],
                    saved=sets["saved"],
                    ids=sets["id"],
                    entries=[_entry(entry) for entry in entries],
                    bytes=int(fields.get("bytes", 0)),
                )
            )
        )

    def endless_keys(self) -> set[str]:
        """The names of the keys that have no end of life."""
        prefix = self.breakers.key(KIND, "")
        keys = [key.decode() for key in self.client.keys("*") if self.client.ttl(key) == -1]
        return {key.removeprefix(prefix) for key in keys}


def _hash(client: redis.Redis, key: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in client.hgetall(key).items()}


def _event(row: dict[bytes, bytes]) -> dict[str, Any]:
    fields = {name.decode(): value.decode() for name, value in row.items()}
    fields |= {"kind": str(KIND), "evidence": json.loads(fields["evidence"])}
    return fields | {"at_ms": int(fields["at_ms"]), "version": int(fields["version"])}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["type"] == "outcome":
        return entry
    excluded = json.loads(entry["excluded"]) if entry["excluded"] else []
    return entry | {"index": entry["index"] - 1, "excluded": excluded}


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Through JSON, so that an enum is its text and a tuple a list."""
    return json.loads(json.dumps(value, default=sorted))
