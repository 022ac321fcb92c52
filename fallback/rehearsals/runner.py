"""The pump's part in rehearsals: it claims, starts a child process for each, and watches it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from fallback.models import Rehearsal
from fallback.rehearsals import queue

LIMIT_S: Final = 300.0  # a child is killed when it takes longer
FORGET_EVERY_S: Final = 60.0
COMMAND: Final = (sys.executable, "manage.py", "rehearse", "--job")

TOO_LONG: Final = f"It took longer than {LIMIT_S:.0f} s and was ended: choose a shorter span."
PUMP_STOPPED: Final = "The pump that worked on it was stopped. Ask again."

log = structlog.get_logger(__name__)


class Runner:
    """Keeps the children of one pump. Not safe for threads: it lives in the pump's."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = COMMAND,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._clock = clock
        self._command = command
        self._limit_s = limit_s
        self._children: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._forget_at_s = clock()

    def tick(self) -> None:
        """Look after the children, and start those that wait. Raises what the database raises."""
        self._watch()
        if buried := queue.bury(timezone.now()):
            log.warning("rehearsals_abandoned", rows=buried)
        while row := queue.claim():
            self._start(row)
        if self._clock() >= self._forget_at_s:
            self._forget_at_s = self._clock() + FORGET_EVERY_S
            queue.forget()

    def close(self) -> None:
        """End the children and say so; while the database is away, another pump says it later."""
        for number, (child, _) in list(self._children.items()):
            _kill(child)
            try:
                self._tell(number, PUMP_STOPPED)
            except DatabaseError as error:
                log.warning("rehearsal_end_not_told", rehearsal=number, error=str(error)[:200])

    def _start(self, row: Rehearsal) -> None:
        """Start a child. Its output goes where this pump's goes; it is told whose child it is, so
        that it does not outlive a pump that was killed before the kernel knew of the tie."""
        command = [*self._command, str(row.pk), "--parent", str(os.getpid())]
        try:
            child = subprocess.Popen(
                command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            queue.end(row.pk, Rehearsal.State.FAILED, problem=f"It could not be started: {error}")
            log.exception("rehearsal_not_started", rehearsal=row.pk)
            return
        self._children[row.pk] = (child, self._clock())
        log.info("rehearsal_started", rehearsal=row.pk, what=row.what, span=row.span, pid=child.pid)

    def _watch(self) -> None:
        for number, (child, began_s) in list(self._children.items()):
            code = child.poll()
            if code is not None:
                self._tell(number, f"{queue.GONE} (exit code {code})")
            elif self._clock() - began_s > self._limit_s:
                _kill(child)
                self._tell(number, TOO_LONG)

    def _tell(self, number: int, problem: str) -> None:
        """Forget a child that has ended; if its row did not hear of it, it failed."""
        if queue.end(number, Rehearsal.State.FAILED, problem=problem):
            log.error("rehearsal_fell", rehearsal=number, problem=problem)
        del self._children[number]


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a child at once: it has nothing to put in order, and its row is told by whoever kills."""
    child.kill()
    child.wait()
