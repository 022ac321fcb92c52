"""What is kept of a call: sightings, about ten bytes each when packed, and slots of them.

A sighting is what the shared breaker of one provider was told, at the time by Redis's clock at
which it was told: enough for `machine` to take the same steps again.

Packed: zlib of a line of JSON and, behind the line break, the sightings in the order they came.
The line holds {"failures": [[reason, call, retry_after_ms, kind], …], "hosts": […], "dropped": n}.
"""

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple

SLOT_MS: Final = 600_000  # one row of the database; also what is read at once
_ROW: Final = struct.Struct("<QIIIHBB")  # the fields of a Sighting
HOSTS_MAX: Final = 500  # of one slot; those beyond are one, the first: no host at all
_LEVEL: Final = 6


class What(IntEnum):
    """What was seen."""

    ASKED = 1  # a call wanted this provider: no better step of its chain admitted
    STARTED = 2  # the same, decided by the agent alone
    HEARD = 3  # the first transcript
    FAILED = 4
    RELEASED = 5  # a probe ended with nothing proven


class Flag(IntFlag):
    """How it was."""

    TAKEN = 1  # ASKED, STARTED: the call went to this provider; else it was sent elsewhere
    MAY_PROBE = 2  # ASKED
    PROBE = 4  # ASKED: it got a lease. HEARD: it showed one
    LAST_RESORT = 8  # ASKED: nobody admitted, and the call went here all the same


class Sighting(NamedTuple):
    """One thing that was seen. `call` is a number for the call, the same in all its sightings.

    `value`: of HEARD the latency in ms (0: not told), of FAILED its index among the failures.
    `host`: the index among the slot's hosts of the one that told it.
    """

    at_ms: int
    call: int
    value: int
    age_ms: int
    host: int
    what: int
    flags: int


class Failure(NamedTuple):
    """A failure in full; its host is with its sighting."""

    reason: str
    call: str
    retry_after_ms: int
    kind: str


@dataclass(slots=True)
class Slot:
    """The sightings of one provider in one slot of time, in order; `dropped` found no room."""

    start_ms: int
    sightings: list[Sighting] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    hosts: list[str] = field(default_factory=lambda: [""])
    dropped: int = 0

    @property
    def calls(self) -> int:
        """Calls that wanted the provider."""
        return sum(one.what in {What.ASKED, What.STARTED} for one in self.sightings)

    def add(self, sighting: Sighting, host: str = "", failure: Failure | None = None) -> None:
        """Put a sighting at the end, with its host and, of FAILED, its failure."""
        if failure:
            sighting = sighting._replace(value=len(self.failures))
            self.failures.append(failure)
        self.sightings.append(sighting._replace(host=self._host(host)))

    def _host(self, name: str) -> int:
        if name in self.hosts:
            return self.hosts.index(name)
        if len(self.hosts) >= HOSTS_MAX:
            return 0
        self.hosts.append(name)
        return len(self.hosts) - 1


def call_number(call_id: str) -> int:
    """Return the number that stands for a call: 32 bits, so that of the few hundred thousand
    calls of an hour two are hardly ever taken for one."""
    return zlib.crc32(call_id.encode("utf-8", "surrogatepass"))


def slot_start(at_ms: int) -> int:
    """Return when the slot of a time begins, in ms."""
    return at_ms - at_ms % SLOT_MS


def pack(slot: Slot) -> bytes:
    """Return a slot as bytes."""
    head = json.dumps({"failures": slot.failures, "hosts": slot.hosts, "dropped": slot.dropped})
    rows = b"".join(_ROW.pack(*one) for one in slot.sightings)
    return zlib.compress(head.encode() + b"\n" + rows, _LEVEL)


def unpack(start_ms: int, data: bytes) -> Slot:
    """Return what `pack` packed; what is damaged is an empty slot."""
    try:
        head, _, rows = zlib.decompress(data).partition(b"\n")
        said = json.loads(head)
        return Slot(
            start_ms,
            [Sighting._make(row) for row in _ROW.iter_unpack(rows)],
            [Failure(*failure) for failure in said["failures"]],
            list(said["hosts"]),
            int(said["dropped"]),
        )
    except (zlib.error, ValueError, KeyError, TypeError, struct.error):
        return Slot(start_ms)


def merge(start_ms: int, parts: Sequence[Slot]) -> Slot:
    """Return the slots of several processes as one, in the order in which Redis was told."""
    if len(parts) == 1:
        return parts[0]
    whole = Slot(start_ms, dropped=sum(part.dropped for part in parts))
    for part in parts:
        for one in part.sightings:
            failure = part.failures[one.value] if one.what == What.FAILED else None
            whole.add(one, part.hosts[one.host], failure)
    whole.sightings.sort(key=_time)  # stable: what one process saw stays in its order
    return whole


def _time(sighting: Sighting) -> Any:
    return sighting.at_ms
