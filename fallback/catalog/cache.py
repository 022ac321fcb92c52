"""What one process holds of the configuration, and how it keeps that fresh.

A background thread looks at the database; callers wait for a look, each for so long as it can, or
not at all. Any number of them share one look: it is of use to all who asked before it began.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from django.db import connections

from fallback import deadline, metrics
from fallback.catalog.loading import NotWhole, load, load_as_it_is
from fallback.catalog.values import Catalog
from fallback.pacing import Lately

LOOK_EVERY_S: Final = 1.0  # while anybody asks
CONFIRMED_S: Final = 2.0  # what the database confirmed within this is not waited for
FIRST_WAIT_S: Final = 0.2  # a decision answers within 0.3 s, even the first of a process
CHASE_WAIT_S: Final = 0.15  # for what is not known here and may be new
CHASE_PACE_S: Final = 0.05  # between two looks for such things, whoever asks how often
MISSES_MAX, MISSES_S = 5, 0.5  # what looks did not find so often is not waited for meanwhile
LOAD_ANYWAY_S: Final = 300.0  # heals what was written past the signals, by hand or by update()
STUCK_AFTER_S: Final = 30.0  # a look that hangs in the database is left to itself after this

log = structlog.get_logger(__name__)


class Cache:
    """Holds one catalog and keeps it fresh. All state is guarded by one condition."""

    def __init__(
        self,
        load: Callable[[Catalog | None], Catalog] = load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._load = load
        self._clock = clock
        self._changed = threading.Condition()
        self._held = Catalog()
        self._confirmed_at: float | None = None  # the database last answered
        self._loaded_at: float | None = None
        self._looked_at: float | None = None  # a look was last asked for
        self._began_at = float("-inf")  # the last look began
        self._asked = 0  # looks asked for, looks done: a change during a look needs another
        self._done = 0
        self._is_urgent = False  # somebody who asked for a look cannot wait for the pace
        self._worker: threading.Thread | None = None
        self._worker_since = 0.0
        self._trouble = ""  # why the last look took nothing
        self._slower_than_s = 0.0  # a look takes longer: who can wait no longer does not wait
        self._missing = Lately(MISSES_S, times=MISSES_MAX, clock=clock)

    def current(self) -> Catalog:
        """Return what is held; have a look made when one is due. Only the first call waits."""
        looked_at = self._looked_at
        if looked_at is None or (self._confirmed_at is None and self._done == 0):
            with self._changed:
                self._await(1 if self._asked else self._ask(), FIRST_WAIT_S)
                return self._held
        if self._clock() - looked_at > LOOK_EVERY_S:
            self._ask()
        return self._held

    def confirmed(self, wait_s: float) -> Catalog:
        """Return what the database confirmed within `CONFIRMED_S`.

        When that is longer ago, wait for the look that is under way, else for a new one, at most
        `wait_s`. Nobody waits for a database that failed or was too slow, until it has answered.
        """
        held = self.current()
        if self.age_s() <= CONFIRMED_S or self._trouble or wait_s <= self._slower_than_s:
            return held
        with self._changed:
            self._await(self._asked if self._asked > self._done else self._ask(), wait_s)
            return self._held

    def chased(
        self, knows: Callable[[Catalog], bool], subject: str, wait_s: float
    ) -> tuple[Catalog, bool]:
        """Return a catalog that `knows`, if need be after a look that begins after now.

        False where it may exist all the same: the look was not done within `wait_s`, or failed.
        Who asks for `subject` again and again though looks do not find it does not wait.
        """
        held = self.current()
        if knows(held) or self._missing.has(subject):
            return held, True
        if self._trouble or wait_s <= self._slower_than_s:
            return held, False
        with self._changed:
            is_done = self._await(self._ask(is_urgent=False), wait_s) and not self._trouble
            found = self._held
        if is_done and not knows(found):
            self._missing.note(subject)
        return found, is_done

    def refresh(self, wait_s: float) -> Catalog:
        """Ask for a look that begins after now, and wait for it at most `wait_s`."""
        with self._changed:
            number = self._ask()
            self._changed.wait_for(lambda: self._done >= number, wait_s)
            return self._held

    def looked_at_now(self, wait_s: float) -> Catalog | None:
        """Return what a look that begins after now finds, None when it does not in time."""
        with self._changed:
            number = self._ask()
            is_done = self._changed.wait_for(lambda: self._done >= number, wait_s)
            return self._held if is_done and not self._trouble else None

    def load_here(self) -> Catalog:
        """Load what there is in the calling thread, whole or not."""
        with self._changed:
            number = self._asked = self._asked + 1
        self._take(number, load_as_it_is())
        return self._held

    def join(self, timeout_s: float) -> None:
        """Wait for the look that is under way, at most `timeout_s`; for tests."""
        if worker := self._worker:
            worker.join(timeout_s)

    def age_s(self) -> float:
        """Return the seconds since the database last confirmed what is held."""
        confirmed_at = self._confirmed_at
        return float("inf") if confirmed_at is None else self._clock() - confirmed_at

    @property
    def trouble(self) -> str:
        """Why the last look took nothing; empty where it did."""
        return self._trouble

    def _await(self, number: int, wait_s: float) -> bool:
        """Wait for a look with the condition held, and within the thread's deadline. If that is too
        short, nobody waits so briefly until a look is done again."""
        wait_s = max(0.0, min(wait_s, deadline.left_s()))
        is_done = self._changed.wait_for(lambda: self._done >= number, wait_s)
        if not is_done:
            self._slower_than_s = max(self._slower_than_s, wait_s)
        return is_done

    def _ask(self, *, is_urgent: bool = True) -> int:
        with self._changed:
            self._asked += 1
            self._looked_at = self._clock()
            if is_urgent and not self._is_urgent:
                self._is_urgent = True
                self._changed.notify_all()
            if self._worker is None or self._clock() - self._worker_since > STUCK_AFTER_S:
                self._worker = threading.Thread(target=self._work, name="catalog", daemon=True)
                self._worker_since = self._clock()
                self._worker.start()
            return self._asked

    def _work(self) -> None:
        """Look until nobody asked for more; the thread and its connection end with that."""
        try:
            while (number := self._next_look()) is not None:
                self._look(number)
        finally:
            connections.close_all()

    def _next_look(self) -> int | None:
        with self._changed:
            pause_s = self._began_at + CHASE_PACE_S - self._clock()
            if self._asked > self._done and pause_s > 0:
                self._changed.wait_for(lambda: self._is_urgent, pause_s)
            if self._worker is not threading.current_thread():
                return None  # it hung, and another has taken over
            if self._asked > self._done:
                self._is_urgent = False
                self._worker_since = self._began_at = self._clock()
                return self._asked
            self._worker = None
            return None

    def _look(self, number: int) -> None:
        loaded_at = self._loaded_at
        is_recent = loaded_at is not None and self._clock() - loaded_at < LOAD_ANYWAY_S
        try:
            catalog = self._load(self._held if is_recent else None)
        except Exception as error:
            # Whatever the database does, decisions go on with what is held. One line a spell.
            self._fail(number, error)
        else:
            self._take(number, catalog)

    def _take(self, number: int, catalog: Catalog) -> None:
        with self._changed:
            if number <= self._done:
                return  # a look that hung: a later one has been taken
            self._done = number
            now = self._looked_at = self._confirmed_at = self._clock()
            is_new = catalog is not self._held
            self._loaded_at = now if is_new else self._loaded_at
            # Loading much may take long; the next look will not.
            self._slower_than_s = 0.0 if is_new else now - self._began_at
            self._held = catalog
            was_failing, self._trouble = bool(self._trouble), ""
            self._changed.notify_all()
        metrics.configured(routes=catalog.routes, providers=[slug for _, slug in catalog.providers])
        if was_failing:
            log.info("configuration_readable_again", revision=catalog.revision)

    def _fail(self, number: int, error: Exception) -> None:
        is_ours = isinstance(error, NotWhole)
        with self._changed:
            self.failures += 1
            self._done = max(self._done, number)
            was_failing = bool(self._trouble)
            # Of a driver's error only the class: its text may hold addresses and logins.
            self._trouble = str(error) if is_ours else f"it cannot be read: {type(error).__name__}"
            self._changed.notify_all()
        metrics.degraded("configuration")
        if not was_failing:
            log.warning(
                "configuration_unreadable",
                revision=self._held.revision,
                age_s=round(self.age_s(), 1),
                why=self._trouble,
                exc_info=None if is_ours else error,
            )
