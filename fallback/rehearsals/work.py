"""The work itself: the recorded past, replayed. In a child process of a pump, or on a terminal.

A child tells its row how far it is and asks it whether to go on; it ends the row itself, and when
it cannot, the pump that started it does.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from fallback import domain
from fallback.backtest import Progress, Span, Stopped, rehearse, suggest
from fallback.breaker import wire
from fallback.domain import Kind
from fallback.errors import FallbackError
from fallback.models import Policy, Rehearsal, rules_of
from fallback.rehearsals import queue
from fallback.rehearsals.spans import resolve

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
        span=Span(_ms(since), _ms(until)),
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
    proposed = wire.policy_from(json.dumps(row.proposed))
    began_s = clock()
    try:
        asked = question(
            row.policy, what=row.what, span=row.span, proposed=proposed, now=row.asked_at
        )
        result = answer(asked, _beating(number, clock))
    except Stopped:
        return queue.end(number, Rehearsal.State.STOPPED)
    except FallbackError as error:
        queue.end(number, Rehearsal.State.FAILED, problem=str(error))
        return False
    except Exception as error:  # whatever it is: who asked is told, and the log has all of it
        log.exception("rehearsal_failed", rehearsal=number)
        problem = f"{type(error).__name__}: the log of the pump says more."
        queue.end(number, Rehearsal.State.FAILED, problem=problem)
        return False
    took_s = round(clock() - began_s, 1)
    log.info("rehearsal_done", rehearsal=number, what=row.what, span=row.span, took_s=took_s)
    return queue.end(number, Rehearsal.State.DONE, result=result)


def be_a_child(parent: int) -> None:
    """Give way to everything else, and end with the pump that started this."""
    os.nice(NICENESS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)


def _beating(number: int, clock: Callable[[], float]) -> Progress:
    """Return a progress that tells the row, and asks it whether to go on, every `BEAT_S`."""
    next_s = float("-inf")

    def tell(done: float) -> bool:
        nonlocal next_s
        if clock() < next_s:
            return True
        next_s = clock() + BEAT_S
        return queue.beat(number, done)

    return tell


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
