"""Entries of the stream into the handlers, and whose fault it is when that fails.

An error of the database is never the entry's fault: it waits until the database takes it, and
holds up no other. What an entry is at fault for (a value that nothing can store, an error of our
own code) is tried a few times and then put aside, for a person to look at.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from django.db import transaction as database

from fallback import alerts, history, metrics, spells, stream
from fallback.domain import Event, Kind
from fallback.models import DeadLetter
from fallback.stream import Entry

# In this order, in one transaction with each other; each is given what the one before passes on.
# What must happen only once the batch is stored belongs into `transaction.on_commit`.
Handler = Callable[[Sequence[Event]], Sequence[Event]]
HANDLERS: tuple[Handler, ...] = (history.record, alerts.notify)

DELIVERIES_MAX: Final = 5  # an entry that fails more often by its own fault is put aside
REFUSALS_MAX: Final = 5  # entries that one pass tries on a database that takes none
REFUSING_S: Final = 2.0  # nor does it try more than one where each is refused this late
REMEMBERED_MAX: Final = 1000  # entries of which we know that they failed

log = structlog.get_logger(__name__)

Place = tuple[Kind, str]  # of an entry: its kind and its id


class Carrier:
    """Carries for one pump. What it remembers of failures is its own: another begins anew."""

    def __init__(self, handlers: Sequence[Handler] | None = None) -> None:
        self._handlers = HANDLERS if handlers is None else handlers
        self._faults: dict[Place, int] = {}
        self._refused: dict[Place, int] = {}
        self.refusal: Exception | None = None  # what the database last said; the pump clears it

    def carry(self, kind: Kind, entries: Sequence[Entry]) -> int:
        """Carry entries and acknowledge them; return how many are done with.

        Those that the database refused before are tried after the others, one alone before the
        rest: if it is something about them, the others need not wait. Raises what the database
        raises when it is away, and BreakerUnavailable.
        """
        fresh = [entry for entry in entries if _place(entry) not in self._refused]
        again = [entry for entry in entries if _place(entry) in self._refused]
        done = self._batch(kind, fresh) + self._each(again[:1])
        is_taken = bool(again) and _place(again[0]) not in self._refused
        return done + (self._batch(kind, again[1:]) if is_taken else self._each(again[1:]))

    @property
    def is_refused(self) -> bool:
        """Whether there are entries that the database did not take when they were last tried."""
        return bool(self._refused)

    def forget_others(self, kind: Kind, entries: Sequence[Entry]) -> None:
        """Forget what failed and is none of these: all that our pump owes of a kind. Another pump
        may have taken it over."""
        owed = {_place(entry) for entry in entries}
        for known in (self._faults, self._refused):
            for place in [place for place in known if place[0] == kind and place not in owed]:
                del known[place]

    def _batch(self, kind: Kind, entries: Sequence[Entry]) -> int:
        """Carry entries in one transaction; if it fails as a whole, each by itself."""
        if len(entries) < 2 or not self._store_all(entries):
            return self._each(entries)
        self._done_with(kind, entries)
        return len(entries)

    def _store_all(self, entries: Sequence[Entry]) -> bool:
        try:
            self._store(entries)
        except Exception as error:  # whatever a handler or the database says of it
            spells.require_database(error)
            log.info("batch_failed", entries=len(entries), error=str(error)[:200])
            return False
        return True

    def _each(self, entries: Sequence[Entry]) -> int:
        done, refusals, until = 0, 0, time.monotonic() + REFUSING_S
        for entry in entries:
            if refusals >= REFUSALS_MAX or (refusals and time.monotonic() > until):
                break  # it takes nothing, or takes its time to refuse
            try:
                is_done = self._one(entry)
            except _DatabaseRefuses:
                refusals += 1
                continue
            if is_done:
                self._done_with(entry.kind, [entry])
                done += 1
        return done

    def _one(self, entry: Entry) -> bool:
        """Carry one entry; False when it failed by its own fault and will be tried again."""
        try:
            self._store([entry])
        except Exception as error:  # as above; this entry is the only one that can be at fault
            spells.require_database(error)
            return self._blame(entry, error)
        return True

    def _store(self, entries: Sequence[Entry]) -> None:
        """Do everything that the entries ask for, in one transaction."""
        with database.atomic():
            for entry in entries:
                if entry.event is None:
                    _bury(entry, entry.problem, deliveries=1)
            passed: Sequence[Event] = [entry.event for entry in entries if entry.event]
            for handler in self._handlers:
                passed = handler(passed)

    def _blame(self, entry: Entry, error: Exception) -> bool:
        """Put an entry aside that failed too often by its own fault; False: not yet.

        Raises _DatabaseRefuses where the database is at fault, also if it refuses the dead letter.
        """
        place = _place(entry)
        if spells.is_database(error):
            self._note_refusal(place, error)
        faults = self._faults.get(place, 0) + 1
        _remember(self._faults, place, faults)
        log.warning("entry_failed", kind=entry.kind, entry=entry.id, deliveries=faults,
                    exc_info=error if faults == 1 else None)  # fmt: skip
        if faults <= DELIVERIES_MAX:
            return False
        try:
            _bury(entry, f"{type(error).__name__}: {error}", deliveries=faults)
        except Exception as refusal:
            if not spells.is_database(refusal):
                raise
            self._note_refusal(place, refusal)
        return True

    def _note_refusal(self, place: Place, error: Exception) -> None:
        self.refusal = error
        _remember(self._refused, place, 1)
        raise _DatabaseRefuses from error

    def _done_with(self, kind: Kind, entries: Sequence[Entry]) -> None:
        stream.acknowledge(kind, [entry.id for entry in entries])
        for entry in entries:
            self._faults.pop(_place(entry), None)
            self._refused.pop(_place(entry), None)


class _DatabaseRefuses(Exception):  # noqa: N818 - not an error: the entry waits
    """The database answers, and does not take this entry now."""


def _place(entry: Entry) -> Place:
    return (entry.kind, entry.id)


def _remember(known: dict[Place, int], place: Place, value: int) -> None:
    """Remember something of an entry, within bounds: beyond them what is forgotten is tried again
    as if for the first time."""
    if place not in known and len(known) >= REMEMBERED_MAX:
        known.clear()
    known[place] = value


def _bury(entry: Entry, problem: str, *, deliveries: int) -> None:
    """Keep an entry for a person to look at; a second time changes nothing."""
    fields = {
        name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for name, value in entry.fields.items()
    }
    letter = DeadLetter(
        kind=entry.kind,
        entry_id=entry.id,
        fields=stream.storable(fields),
        problem=stream.storable(problem)[:1000],
        deliveries=deliveries,
    )
    DeadLetter.objects.bulk_create([letter], ignore_conflicts=True)
    metrics.degraded("dead_letter")
    log.error("dead_letter", kind=entry.kind, entry=entry.id, problem=problem[:200])
