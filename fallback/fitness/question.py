"""A question asked in the background, one at a time, whose last answer is remembered.

A dead host can hold whoever asks it for minutes. So each question has a thread of its own, which
nobody waits for longer than a moment, and nobody queues behind: while it hangs, that is the answer.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from fallback.fitness import Finding, Grade, NotFit

log = structlog.get_logger(__name__)

KEEP_S: Final = 2.0  # an answer is given again for so long, if its question does not say longer
OLD_S: Final = 15.0  # an older answer is not given: the new one is waited for
HANGS_S: Final = 2.0  # asked for so long without an answer, it does not answer
MOMENT_S: Final = 0.05  # the wait for a new answer where there is an older one
FIRST_WAIT_S: Final = 0.7  # the wait where there is none; probes give up after a second
LEAVE_S: Final = 30.0  # a thread that hangs is left, and another asks
THREADS_MAX: Final = 3
POLL_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Answer:
    """A finding and its age in seconds; None while the question hangs or was never answered."""

    finding: Finding
    age_s: float | None = None


class Question:
    """One question. `ask` runs in a thread; it returns a Finding, and raises NotFit or anything.

    Of a driver's error the answer gives the class alone: its text may hold addresses and logins.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[], Finding],
        *,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._ask = ask
        self._keep_s = keep_s  # for good news; bad news is always looked at again after KEEP_S
        self._clock = clock
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._asked_at: float | None = None  # by the thread that is asking now
        self._found: Finding | None = None
        self._found_at = 0.0

    async def answer(self) -> Answer:
        """Return the answer within `FIRST_WAIT_S`, and at once when nothing new is to be had."""
        self.look()
        wait_s = FIRST_WAIT_S if self._is_old(self._clock()) else MOMENT_S
        while (asked_at := self._asked_at) is not None and self._clock() < asked_at + wait_s:
            await asyncio.sleep(POLL_S)
        return self.known()

    def look(self) -> None:
        """Ask, unless the last answer is fresh or somebody is asking."""
        with self._lock:
            now = self._clock()
            if self._is_fresh(now) or self._is_asking(now):
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) >= THREADS_MAX:
                return
            self._asked_at = now
            thread = threading.Thread(target=self._run, name=f"ask-{self._name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def known(self) -> Answer:
        """Return what is known without asking anybody."""
        with self._lock:
            now, asked_at, found = self._clock(), self._asked_at, self._found
            if asked_at is None and found is None:
                return Answer(Finding(Grade.FAILING, "not asked yet"))
            is_late = asked_at is not None and now - asked_at >= HANGS_S
            if found is None or is_late or self._is_old(asked_at or now):
                silent_s = now - (asked_at or now)
                return Answer(Finding(Grade.FAILING, f"no answer for {silent_s:.1f} s"))
            return Answer(found, round(now - self._found_at, 1))

    def forget(self, timeout_s: float) -> None:
        """Wait for whoever asks, and remember nothing; for tests."""
        for thread in self._threads:
            thread.join(timeout_s)
        self._asked_at = self._found = None

    def _is_fresh(self, now: float) -> bool:
        if self._found is None:
            return False
        keep_s = self._keep_s if self._found.grade is Grade.OK else KEEP_S
        return now - self._found_at < keep_s

    def _is_old(self, now: float) -> bool:
        """Whether what was found says nothing any more, or nothing was."""
        return self._found is None or now - self._found_at > max(OLD_S, self._keep_s + KEEP_S)

    def _is_asking(self, now: float) -> bool:
        return self._asked_at is not None and now - self._asked_at < LEAVE_S

    def _run(self) -> None:
        found = self._find()
        with self._lock:
            self._found, self._found_at = found, self._clock()
            self._asked_at = None

    def _find(self) -> Finding:
        try:
            return self._ask()
        except NotFit as error:
            return Finding(Grade.FAILING, str(error))
        except Exception as error:  # whatever a driver raises is the answer
            log.warning("health_check_failed", check=self._name, error=str(error))
            return Finding(Grade.FAILING, type(error).__name__)
