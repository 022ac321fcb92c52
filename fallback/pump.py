"""WHERE EVENTS GO: from the stream through `HANDLERS`, in one database transaction per batch.

An entry is acknowledged after the commit and not before, and everything that a handler does is
known by the event's id: a pump may be killed at any point, and any number of them may run. One
thread reads every kind in turn (on a Cluster two kinds are two slots, which no one command can
read) and waits for `stt` alone, so that the others come a quarter of a second later at worst; in
return there is one database connection, one order and one place to stop.

Once a second it is also the clock of the breakers, and holds history against them.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.db import transaction as database
from django.utils import timezone

from fallback import (
    alerts,
    breaker,
    catalog,
    changes,
    history,
    metrics,
    past,
    proposals,
    services,
    stats,
    stream,
)
from fallback.domain import Event, EventName, Kind, Snapshot
from fallback.errors import BreakerUnavailable
from fallback.models import DeadLetter
from fallback.rehearsals import Runner
from fallback.shadow import follow
from fallback.stream import Entry

# In this order, in one transaction with each other; each is given what the one before passes on.
# What must happen only once the batch is stored belongs into `transaction.on_commit`.
Handler = Callable[[Sequence[Event]], Sequence[Event]]
HANDLERS: tuple[Handler, ...] = (history.record, alerts.notify)

BATCH: Final = 100
BLOCK_MS: Final = 250
STALE_MS: Final = 30_000  # given to a pump this long ago and not acknowledged: it is dead
DELIVERIES_MAX: Final = 5  # an entry that fails more often is put aside
TICK_S: Final = 1.0
UPKEEP_S: Final = 60.0
ROLL_UP_S: Final = 5.0
SHADOW_S: Final = 15.0
REHEARSALS_S: Final = 0.5  # somebody sits before the page and waits
LAGGING_MS: Final = 10_000
LAGGING_EVERY_MS: Final = 5 * 60_000
SETTLED_MS: Final = 500  # a snapshot's own events are written within this time of it
FORGET_AT_MOST: Final = 1000  # rows of a kind in one upkeep: a bounded delete

log = structlog.get_logger(__name__)


class Pump:
    """One worker. `consumer` names it in the group: the same name again takes up its own work."""

    def __init__(
        self,
        consumer: str,
        *,
        handlers: Sequence[Handler] | None = None,
        clock: Callable[[], float] = time.monotonic,
        stale_ms: int = STALE_MS,
        batch: int = BATCH,
    ) -> None:
        self.consumer = consumer
        self._batch = batch
        self._handlers = HANDLERS if handlers is None else handlers
        self._stale_ms = stale_ms
        self._tick = _Every(TICK_S, clock)
        self._upkeep = _Every(UPKEEP_S, clock)
        self._roll_up = _Every(ROLL_UP_S, clock)
        self._stats = stats.RollUp()
        self._past = past.Keeper()
        self._look_for_rehearsals = _Every(REHEARSALS_S, clock)
        self._rehearsals = Runner()
        self._follow_shadows = _Every(SHADOW_S, clock)
        self._seen: dict[Kind, Snapshot] = {}

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set; wait for what is away, a little longer each time."""
        log.info("pump_started", consumer=self.consumer)
        waits = _Waits()
        while not stop.is_set():
            try:
                self.turn(block_ms=BLOCK_MS)
                waits.over()
            except Exception as error:  # a pump that ends helps nobody: it says why, and goes on
                stop.wait(waits.after(error))
            finally:
                close_old_connections()
        self._rehearsals.close()
        self._leave()

    def turn(self, *, block_ms: int = 0) -> int:
        """Do all that is due once; wait `block_ms` for an event if there is none. Return how many
        entries were finished.

        Raises BreakerUnavailable or a database error, with nothing lost.
        """
        done = 0
        if self._tick.is_due():
            self._tick_all()
            for kind in Kind:
                done += self._carry(kind, self._owed(kind))
        for kind in Kind:
            done += self._carry(kind, stream.read(kind, self.consumer, count=self._batch))
        if not done and block_ms:
            waited = stream.read(Kind.STT, self.consumer, count=self._batch, block_ms=block_ms)
            done = self._carry(Kind.STT, waited)
        self._do_the_rest()
        return done

    def _do_the_rest(self) -> None:
        """Do what is due and carries no event."""
        if self._look_for_rehearsals.is_due():
            self._rehearsals.tick()
        if self._follow_shadows.is_due():
            follow()
        if self._roll_up.is_due():
            self._stats.run()
        if self._upkeep.is_due():
            self._keep_up()

    def _owed(self, kind: Kind) -> list[Entry]:
        """Return what failed before, and what dead pumps left."""
        return stream.claim_stale(
            kind, self.consumer, idle_ms=self._stale_ms, count=self._batch
        ) or stream.owed(kind, self.consumer, count=self._batch)

    def _carry(self, kind: Kind, entries: Sequence[Entry]) -> int:
        """Carry a batch; if it fails as a whole, each entry by itself. Return how many are done."""
        if not entries:
            return 0
        if len(entries) == 1 or not self._store_all(entries):
            return sum(self._carry_one(entry) for entry in entries)
        stream.acknowledge(kind, [entry.id for entry in entries])
        return len(entries)

    def _store_all(self, entries: Sequence[Entry]) -> bool:
        try:
            self._store(entries)
        except Exception as error:  # whatever a handler or the database says of it
            _require_database()
            log.info("batch_failed", entries=len(entries), error=str(error)[:200])
            return False
        return True

    def _carry_one(self, entry: Entry) -> int:
        try:
            self._store([entry])
        except Exception as error:  # as above; this entry is the only one that can be at fault
            _require_database()
            if not self._is_poison(entry, error):
                return 0
        stream.acknowledge(entry.kind, [entry.id])
        return 1

    def _store(self, entries: Sequence[Entry]) -> None:
        """Do everything that the entries ask for, in one transaction."""
        with database.atomic():
            for entry in entries:
                if entry.event is None:
                    _bury(entry, entry.problem, deliveries=1)
            passed: Sequence[Event] = [entry.event for entry in entries if entry.event]
            for handler in self._handlers:
                passed = handler(passed)

    def _is_poison(self, entry: Entry, error: Exception) -> bool:
        """Put an entry aside that failed too often; else leave it to be tried again."""
        deliveries = stream.deliveries(entry.kind, entry.id)
        log.warning(
            "entry_failed",
            kind=entry.kind,
            entry=entry.id,
            deliveries=deliveries,
            exc_info=error if deliveries <= 1 else None,
        )
        if deliveries <= DELIVERIES_MAX:
            return False
        _bury(entry, f"{type(error).__name__}: {error}", deliveries=deliveries)
        return True

    def _tick_all(self) -> None:
        held = catalog.current()
        for kind in Kind:
            lag = stream.lag(kind)
            if lag.age_ms > LAGGING_MS:
                _say_lagging(kind, lag)
            providers = sorted(slug for of_kind, slug in held.providers if of_kind == kind)
            if providers:
                self._tick_kind(kind, providers, lag=lag, revision=held.revision)

    def _tick_kind(
        self, kind: Kind, providers: Sequence[str], *, lag: stream.Lag, revision: int
    ) -> None:
        """Let time pass for the breakers, have them judge by the newest configuration, and hold
        history against them as they were a tick ago, once all events of then were carried."""
        before = self._seen.pop(kind, None)
        snapshot = breaker.snapshot(kind, providers)
        if snapshot.revision is None or snapshot.revision < revision:
            services.publish_configuration()
        self._seen[kind] = snapshot
        if before and (lag.oldest_ms is None or lag.oldest_ms > before.now_ms + SETTLED_MS):
            history.reconcile(kind, before.views, version=before.version, now_ms=before.now_ms)

    def _keep_up(self) -> None:
        """Store what is over, forget what is old. Any number of pumps may do it at once."""
        self._past.run()
        keep = timedelta(days=settings.HISTORY_DAYS)
        count = history.forget(timezone.now() - keep, at_most=FORGET_AT_MOST)
        count += changes.forget(timezone.now() - keep, at_most=FORGET_AT_MOST)
        count += proposals.forget(timezone.now() - keep, at_most=FORGET_AT_MOST)
        count += stats.forget(timezone.now(), at_most=FORGET_AT_MOST)
        count += past.forget(timezone.now(), days=settings.PAST_DAYS, at_most=FORGET_AT_MOST)
        if count:
            log.info("history_forgotten", rows=count)
        for kind in Kind:
            stream.forget_silent(kind)

    def _leave(self) -> None:
        try:
            for kind in Kind:
                stream.leave(kind, self.consumer)
        except BreakerUnavailable:
            pass  # then the name stays for a day
        log.info("pump_stopped", consumer=self.consumer)


class _Every:
    """Whether something is due that is to be done every so often, the first time at once."""

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        self._every_s, self._clock, self._next_s = every_s, clock, float("-inf")

    def is_due(self) -> bool:
        now_s = self._clock()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True


class _Waits:
    """How long to wait for what is away: longer each time, never long, and never all at once."""

    FIRST_S: Final = 0.2
    LONGEST_S: Final = 5.0

    def __init__(self) -> None:
        self._failures = 0

    def after(self, error: Exception) -> float:
        """Tell of the first failure of a spell; return for how many seconds to wait."""
        is_expected = isinstance(error, BreakerUnavailable | OperationalError | InterfaceError)
        if not self._failures:
            what = "redis" if isinstance(error, BreakerUnavailable) else "database"
            metrics.degraded(f"pump_without_{what}" if is_expected else "pump_failed")
            log.error("pump_waits", error=str(error)[:200], exc_info=not is_expected)
        wait_s = min(self.LONGEST_S, self.FIRST_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return random.uniform(0.5, 1.0) * wait_s  # pumps that failed together must not return so

    def over(self) -> None:
        """Tell of the end of a spell."""
        if self._failures:
            log.info("pump_goes_on", failures=self._failures)
        self._failures = 0


def _require_database() -> None:
    """Raise what the database raises if it is away: then no entry is at fault."""
    close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


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


def _say_lagging(kind: Kind, lag: stream.Lag) -> None:
    breaker.announce(
        kind,
        EventName.PUMP_LAGGING,
        "pump",
        every_ms=LAGGING_EVERY_MS,
        evidence={"age_ms": lag.age_ms, "entries": lag.entries},
    )
