"""The work itself: the recorded past, replayed. In a child process of a pump, or on a terminal.

A child tells its row how far it is and asks it whether to go on; it ends the row itself, and when
it cannot, the pump that started it does.
"""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from django.db import DatabaseError, connection

from fallback import domain
from fallback.backtest import Progress, Span, Stopped, rehearse, suggest
from fallback.breaker import wire
from fallback.domain import Kind
from fallback.errors import FallbackError
from fallback.models import Policy, Rehearsal, rules_of
from fallback.rehearsals import queue
from fallback.rehearsals.spans import resolve
from fallback.times import epoch_ms

BEAT_S: Final = 0.5  # how often a row hears of its rehearsal
NICENESS: Final = 15  # decisions go before it
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the past, as plain values."""

    what: str
    subjects: tuple[tuple[Kind, str], ...]
    today: domain.Policy
    proposed: domain.Policy
    span: Span


def question(
    policy: Policy, *, what: str, span: str, proposed: domain.Policy | None, now: datetime
) -> Question:
    """Return the question for the providers that use a policy; `proposed` None: as it is saved.

    Raises Invalid where there is nothing to ask.
    """
    since, until = resolve(span, policy, now)
    today = policy.as_value(rules_of(policy.reasons.all()))
    return Question(
        what=what,
        subjects=subjects(policy),
        today=today,
        proposed=proposed or today,
        span=Span(epoch_ms(since), epoch_ms(until)),
    )


def subjects(policy: Policy) -> tuple[tuple[Kind, str], ...]:
    """Return the providers that a policy is tried on: those switched on that use it."""
    rows = policy.providers.filter(enabled=True).order_by("kind", "slug")
    return tuple((Kind(kind), slug) for kind, slug in rows.values_list("kind", "slug"))


def answer(asked: Question, progress: Progress) -> dict[str, Any]:
    """Return the report of a rehearsal, or the points of a search. Raises Stopped."""
    if asked.what == Rehearsal.What.SUGGEST:
        return suggest(asked.subjects, asked.today, asked.span, progress=progress)
    lanes = {"today": asked.today, "proposed": asked.proposed}
    return rehearse(asked.subjects, lanes, asked.span, progress=progress).as_json()


def run(number: int, clock: Callable[[], float] = time.monotonic) -> bool:
    """Do a claimed rehearsal and end its row; False when it failed, which the row then tells."""
    row = Rehearsal.objects.select_related("policy").get(pk=number)
    began_s = clock()
    with Beats(number) as beats:
        state, result, problem = _ending(row, beats.tell)
    connection.close()  # a replay that was stopped leaves a cursor open, and SQLite locked by it
    took_s = round(clock() - began_s, 1)
    log.info("rehearsal_ended", rehearsal=number, what=row.what, state=state, took_s=took_s)
    return queue.end(number, state, result=result, problem=problem) and not problem


def _ending(row: Rehearsal, progress: Progress) -> tuple[str, Any, str]:
    """Return the state that a rehearsal ends in, its answer, and what went wrong."""
    proposed = wire.policy_from(json.dumps(row.proposed))
    try:
        asked = question(
            row.policy, what=row.what, span=row.span, proposed=proposed, now=row.asked_at
        )
        return Rehearsal.State.DONE, answer(asked, progress), ""
    except Stopped:
        return Rehearsal.State.STOPPED, None, ""
    except FallbackError as error:
        return Rehearsal.State.FAILED, None, str(error)
    except Exception as error:  # whatever it is: who asked is told, and the log has all of it
        log.exception("rehearsal_failed", rehearsal=row.pk)
        problem = f"{type(error).__name__}: the log of the pump says more."
        return Rehearsal.State.FAILED, None, problem


class Beats:
    """Tells the row how far its rehearsal is, and asks it whether to go on.

    From a thread, and so a connection of its own: on SQLite one that is reading the past cannot
    write once somebody else has written.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._done = 0.0
        self._may_go_on = True
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="beats", daemon=True)

    def __enter__(self) -> "Beats":
        self._may_go_on = queue.beat(self._number, 0.0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, done: float) -> bool:
        """Note how much is done, 0 to 1; False when it is to stop."""
        self._done = done
        return self._may_go_on

    def _beat(self) -> None:
        try:
            while not self._over.wait(BEAT_S):
                try:
                    self._may_go_on = queue.beat(self._number, self._done)
                except DatabaseError as error:  # the next beat is soon
                    log.warning("rehearsal_beat_missed", error=str(error)[:200])
        finally:
            connection.close()


def be_a_child(parent: int) -> None:
    """Give way to everything else, and end with the pump that started this."""
    os.nice(NICENESS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)
