"""One pump: what is due when, and what is waited for."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.utils import timezone

from fallback import (
    breaker,
    catalog,
    changes,
    history,
    past,
    proposals,
    services,
    spells,
    stats,
    stream,
)
from fallback.domain import EventName, Kind, Snapshot
from fallback.errors import BreakerUnavailable
from fallback.pump.carrying import Carrier, Handler
from fallback.pump.heart import PumpHeart
from fallback.rehearsals import Runner
from fallback.shadow import follow
from fallback.stream import Entry, Waiting

BATCH: Final = 100
BLOCK_MS: Final = 250
STALE_MS: Final = 3_500  # given to a pump, and not touched for this long: it is dead
TICK_S: Final = 1.0
UPKEEP_S: Final = 60.0
ROLL_UP_S: Final = 5.0
SHADOW_S: Final = 15.0
REHEARSALS_S: Final = 0.5  # somebody sits before the page and waits
LATEST_S: Final = 60.0  # what is done beside the events and fails is tried again by then
LAGGING_MS: Final = 10_000
LAGGING_EVERY_MS: Final = 5 * 60_000
BREAKS_EVERY_MS: Final = 10 * 60_000
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
        self._stale_ms = stale_ms
        self._carrier = Carrier(handlers)
        self._heart = PumpHeart(consumer)
        self._spell = spells.Spell("pump")
        self._waits_since_ms = 0
        self._tick = _Every(TICK_S, clock)
        self._rehearsals = Runner()
        self._aside = [
            _Aside("rehearsals", self._rehearsals.tick, REHEARSALS_S, clock),
            _Aside("shadows", follow, SHADOW_S, clock),
            _Aside("stats", stats.RollUp().run, ROLL_UP_S, clock),
            _Aside("past", past.Keeper().run, UPKEEP_S, clock),
            _Aside("upkeep", _keep_up, UPKEEP_S, clock),
        ]
        self._repairs = _Aside("repairs", lambda: None, 0, clock)
        self._seen: dict[Kind, Snapshot] = {}

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set; wait for what is away, a little longer each time."""
        log.info("pump_started", consumer=self.consumer)
        self._heart.start(stop)
        while not stop.is_set():
            try:
                self.turn(block_ms=BLOCK_MS)
                self._note()
            except Exception as error:  # a pump that ends helps nobody: it says why, and goes on
                self._say_waiting(error)
                stop.wait(self._spell.after(error))
            finally:
                close_old_connections()
        self._rehearsals.close()
        self._leave()

    def turn(self, *, block_ms: int = 0) -> int:
        """Do all that is due once; wait `block_ms` for an event if there is none. Return how many
        entries were finished.

        Raises BreakerUnavailable or a database error, with nothing lost.
        """
        done, self._carrier.refusal = 0, None
        if self._tick.is_due():
            self._tick_all()
            for kind in Kind:
                done += self._carry_owed(kind)
        for kind in Kind:
            done += self._carry(kind, stream.read(kind, self.consumer, count=self._batch))
        if not done and block_ms:
            waited = stream.read(Kind.STT, self.consumer, count=self._batch, block_ms=block_ms)
            done = self._carry(Kind.STT, waited)
        for aside in self._aside:
            aside.do_if_due()
        if self._carrier.refusal and not done:
            raise self._carrier.refusal
        return done

    def _carry_owed(self, kind: Kind) -> int:
        """Carry what failed before, and what dead pumps left; as long as all of it goes through."""
        done = 0
        while True:
            entries = self._owed(kind)
            if len(entries) < self._batch:  # these are all that we owe
                self._carrier.forget_others(kind, entries)
            carried = self._carry(kind, entries)
            done += carried
            if carried < self._batch:
                return done

    def _owed(self, kind: Kind) -> list[Entry]:
        return stream.claim_stale(
            kind, self.consumer, idle_ms=self._stale_ms, count=self._batch
        ) or stream.owed(kind, self.consumer, count=self._batch)

    def _carry(self, kind: Kind, entries: Sequence[Entry]) -> int:
        if not entries:
            return 0
        with self._heart.holding((kind, [entry.id for entry in entries])):
            return self._carrier.carry(kind, entries)

    def _note(self) -> None:
        """After a turn: say what the database did not take, or that all is well."""
        if self._carrier.refusal:
            self._say_waiting(self._carrier.refusal)
            self._spell.note(self._carrier.refusal)
        elif not self._carrier.is_refused:
            self._spell.over()
            if self._waits_since_ms or self._heart.has_said:
                self._waits_since_ms, self._heart.has_said = 0, False
                stream.say_no_more_waiting()

    def _say_waiting(self, error: Exception) -> None:
        """Have readiness name whom we wait for; while Redis is away it sees that by itself."""
        what = spells.culprit(error)
        self._waits_since_ms = self._waits_since_ms or int(time.time() * 1000)
        try:
            if what == "database":
                why = spells.named(error)
                stream.say_waiting(Waiting(self.consumer, what, why, self._waits_since_ms))
        except BreakerUnavailable:
            pass

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
        if not breaker.is_sure():  # history must not be held against a master that was replaced
            return
        if snapshot.revision is None or snapshot.revision < revision:
            services.publish_configuration()
        elif snapshot.revision > revision:
            services.follow_restored(kind, snapshot.revision)
        self._seen[kind] = snapshot
        if before and (lag.oldest_ms is None or lag.oldest_ms > before.now_ms + SETTLED_MS):
            version, now_ms = before.version, before.now_ms
            self._repairs.do(
                lambda: history.reconcile(
                    kind, before.views, version=version, now_ms=now_ms, tell=partial(_tell, kind)
                )
            )

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


class _Aside:
    """Something done beside the events. What fails there must hold up neither them nor the others:
    it is said, and tried again a little later each time."""

    def __init__(
        self, name: str, do: Callable[[], object], every_s: float, clock: Callable[[], float]
    ) -> None:
        self._do, self._clock = do, clock
        self._every = _Every(every_s, clock)
        self._spell = spells.Spell(f"pump_{name}", first_s=every_s, longest_s=LATEST_S)
        self._not_before_s = float("-inf")

    def do_if_due(self) -> None:
        """Do it, if it is due. Raises what the database or Redis raises when it is away."""
        if self._every.is_due():
            self.do(self._do)

    def do(self, do: Callable[[], object]) -> None:
        """Do it, unless it failed a moment ago. Raises as `do_if_due`."""
        if self._clock() < self._not_before_s:
            return
        try:
            do()
            self._spell.over()
        except Exception as error:  # whatever it is
            spells.require_database(error)
            self._not_before_s = self._clock() + self._spell.after(error)


def _keep_up() -> None:
    """Count what nobody has counted, forget what is old. Any number of pumps may do it at once."""
    catalog.seal()
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


def _tell(kind: Kind, what: EventName, events: Mapping[str, int]) -> None:
    """Tell people of events that are missing or came twice; a spell of them once."""
    breaker.announce(
        kind,
        what,
        "history",
        every_ms=BREAKS_EVERY_MS,
        evidence={"entries": sum(events.values()), "providers": ", ".join(sorted(events)[:20])},
    )


def _say_lagging(kind: Kind, lag: stream.Lag) -> None:
    breaker.announce(
        kind,
        EventName.PUMP_LAGGING,
        "pump",
        every_ms=LAGGING_EVERY_MS,
        evidence={"age_ms": lag.age_ms, "entries": lag.entries},
    )
