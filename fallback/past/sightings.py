"""What is kept of a call: sightings, a few bytes each when packed, and slots of them.

A sighting is what the shared breaker of one provider was told, at the time by Redis's clock at
which it was told: enough for `machine` to take the same steps again.

A slot holds them in columns, as arrays: a month is read without making an object of each, and what
matters to nobody is passed over at the speed of a search in bytes.
"""

import json
import re
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

SLOT_MS: Final = 600_000  # one row of the database; also what is read at once
HOSTS_MAX: Final = 500  # reporters of one slot; those beyond are one, the first: nobody

_LEVEL: Final = 6
_WHAT_BITS: Final = 3
_WHAT: Final = 2**_WHAT_BITS - 1


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
    `host`: the index among the slot's reporters of the one that told it.
    """

    at_ms: int
    call: int
    value: int
    age_ms: int
    host: int
    what: int
    flags: int


class Reporter(NamedTuple):
    """Who told a sighting: a host, and the name of the API key it came with; "" is not known."""

    host: str = ""
    key: str = ""


NOBODY: Final = Reporter()


class Failure(NamedTuple):
    """A failure in full; who told it is with its sighting."""

    reason: str
    call: str
    retry_after_ms: int
    kind: str


def _mark(what: int, flags: int) -> int:
    return what | flags << _WHAT_BITS


_WANTED: Final = [_mark(what, flags) for what in (What.ASKED, What.STARTED) for flags in range(16)]
_HEARD: Final = [_mark(What.HEARD, flags) for flags in range(16)]
_QUIET: Final = _HEARD + [_mark(What.ASKED, flags) for flags in range(16) if flags & Flag.TAKEN]
_TRANSCRIPT: Final = re.compile(b"[" + re.escape(bytes(_HEARD)) + b"]")
_NOTABLE: Final = re.compile(b"[^" + re.escape(bytes(_QUIET)) + b"]")
_COLUMNS: Final = {"at": "I", "call": "I", "value": "I", "age": "I", "host": "H", "mark": "B"}


@dataclass(slots=True)
class Slot:
    """The sightings of one provider in one slot of time, in order; `dropped` found no room."""

    start_ms: int
    columns: dict[str, "array[int]"] = field(
        default_factory=lambda: {name: array(code) for name, code in _COLUMNS.items()}
    )
    failures: list[Failure] = field(default_factory=list)
    reporters: list[Reporter] = field(default_factory=lambda: [NOBODY])
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.columns["mark"])

    def __getitem__(self, position: int) -> Sighting:
        at, call, value, age, host, mark = self.columns.values()
        one = mark[position]
        return Sighting(
            self.start_ms + at[position], call[position], value[position], age[position],
            host[position], one & _WHAT, one >> _WHAT_BITS,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Sighting]:
        start_ms = self.start_ms
        for at, call, value, age, host, mark in zip(*self.columns.values(), strict=True):
            what, flags = mark & _WHAT, mark >> _WHAT_BITS
            yield Sighting(start_ms + at, call, value, age, host, what, flags)

    @property
    def calls(self) -> int:
        """Calls that wanted the provider."""
        return self.calls_between(0, len(self))

    def calls_between(self, first: int, last: int) -> int:
        """Calls that wanted the provider, from one position up to another."""
        marks = self.columns["mark"].tobytes()
        return sum(marks.count(mark, first, last) for mark in _WANTED)

    def position(self, at_ms: int) -> int:
        """Return where the sightings of a time begin."""
        return bisect_left(self.columns["at"], at_ms - self.start_ms)

    def time(self, position: int) -> int:
        """Return when a sighting was, in ms; of the one after the last, when the slot ends."""
        is_last = position >= len(self)
        return self.start_ms + (SLOT_MS if is_last else self.columns["at"][position])

    def notable(self, slower_than_ms: int | None = None) -> list[int]:
        """Return the positions of all but calls that were taken and their transcripts; of those,
        the ones that took longer are notable too."""
        marks = self.columns["mark"].tobytes()
        found = [one.start() for one in _NOTABLE.finditer(marks)]
        if slower_than_ms is None:
            return found
        values = enumerate(self.columns["value"])
        slow = [at for at, value in values if value > slower_than_ms and marks[at] in _HEARD]
        return sorted({*found, *slow})

    def heard_at(self, first: int, last: int) -> list[int]:
        """Return the positions of the first transcripts, from one position up to another."""
        marks = self.columns["mark"][first:last].tobytes()
        return [first + found.start() for found in _TRANSCRIPT.finditer(marks)]

    def failed(self, since_ms: int, until_ms: int) -> Iterator[tuple[Sighting, Failure, Reporter]]:
        """Yield each failure from one time up to another, with who told it."""
        for position in self.notable():
            one = self[position]
            if one.what == What.FAILED and since_ms <= one.at_ms < until_ms:
                yield one, self.failures[one.value], self.reporters[one.host]

    def heard(self, since_ms: int, until_ms: int) -> int:
        """Return how many first transcripts there were from one time up to another."""
        marks = self.columns["mark"].tobytes()
        first, last = self.position(since_ms), self.position(until_ms)
        return sum(marks.count(mark, first, last) for mark in _HEARD)

    def add(
        self, sighting: Sighting, reporter: Reporter = NOBODY, failure: Failure | None = None
    ) -> None:
        """Put a sighting at the end, with who told it and, of FAILED, its failure."""
        at_ms, call, value, age_ms, _, what, flags = sighting
        if failure:
            value = len(self.failures)
            self.failures.append(failure)
        at, calls, values, ages, hosts, marks = self.columns.values()
        at.append(at_ms - self.start_ms)
        calls.append(call)
        values.append(min(value, 2**32 - 1))
        ages.append(age_ms)
        hosts.append(self._place_of(reporter))
        marks.append(_mark(what, flags))

    def _place_of(self, reporter: Reporter) -> int:
        if reporter in self.reporters:
            return self.reporters.index(reporter)
        if len(self.reporters) >= HOSTS_MAX:
            return 0
        self.reporters.append(reporter)
        return len(self.reporters) - 1


def call_number(call_id: str) -> int:
    """Return the number that stands for a call: 32 bits, so that of the few hundred thousand
    calls of an hour two are hardly ever taken for one."""
    return zlib.crc32(call_id.encode("utf-8", "surrogatepass"))


def slot_start(at_ms: int) -> int:
    """Return when the slot of a time begins, in ms."""
    return at_ms - at_ms % SLOT_MS


def pack(slot: Slot) -> bytes:
    """Return a slot as bytes: a line of JSON, then its columns, little-endian, compressed."""
    head = {
        "count": len(slot),
        "failures": slot.failures,
        "hosts": [list(one) if one.key else one.host for one in slot.reporters],
        "dropped": slot.dropped,
    }
    columns = b"".join(column.tobytes() for column in slot.columns.values())
    return zlib.compress(json.dumps(head).encode() + b"\n" + columns, _LEVEL)


def unpack(start_ms: int, data: bytes) -> Slot:
    """Return what `pack` packed; what is damaged is an empty slot."""
    try:
        head, _, rest = zlib.decompress(data).partition(b"\n")
        said = json.loads(head)
        slot = Slot(start_ms, dropped=int(said["dropped"]))
        slot.reporters = [_reporter(one) for one in said["hosts"]]
        slot.failures = [Failure(*failure) for failure in said["failures"]]
        offset = 0
        for column in slot.columns.values():
            end = offset + said["count"] * column.itemsize
            column.frombytes(rest[offset:end])
            offset = end
    except (zlib.error, ValueError, KeyError, TypeError):
        return Slot(start_ms)
    return slot if offset == len(rest) else Slot(start_ms)


def _reporter(said: str | Sequence[str]) -> Reporter:
    """A host alone, as of a key that is not known, is a plain text."""
    return Reporter(said) if isinstance(said, str) else Reporter(*said)


def merge(start_ms: int, parts: Sequence[Slot]) -> Slot:
    """Return the parts of several processes as one, in the order in which Redis was told."""
    whole = Slot(start_ms, dropped=sum(part.dropped for part in parts))
    rows = [(one, part) for part in parts for one in part]
    rows.sort(key=lambda row: row[0].at_ms)  # stable: what one process saw stays in its order
    for one, part in rows:
        failure = part.failures[one.value] if one.what == What.FAILED else None
        whole.add(one, part.reporters[one.host], failure)
    return whole
