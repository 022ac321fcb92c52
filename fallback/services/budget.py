"""How much of Redis the calls of one API key may take: two budgets, in the memory of this process.

One for calls that are kept a day, one for those that are kept a quarter of an hour. Each is a
bucket of bytes that fills again in the time its calls are kept, so that they take twice a bucket
at most. Past the first a call is kept briefly, past both not at all: its decisions are answered
and its outcomes counted all the same; a resent outcome is not known again, and nobody can be told
later why the call got what it got. Nothing is refused, and nothing asked of Redis.
"""

import functools
import time
from typing import Final

import structlog
from django.conf import settings

from fallback import metrics
from fallback.domain import (
    FAILURE_KINDS,
    LIMITS,
    Asked,
    Given,
    Memory,
    Mode,
    Outcome,
    OutcomeKind,
    Walk,
)
from fallback.pacing import Buckets, NotAgainWithin

DECISION_BYTES: Final = 900  # what Redis takes for one, as measured, beside its texts
OUTCOME_BYTES: Final = 600
TOLD_EVERY_S: Final = 60.0

log = structlog.get_logger(__name__)
told = NotAgainWithin(TOLD_EVERY_S)


@functools.cache
def buckets(memory: Memory) -> Buckets:
    """Return this process's buckets of bytes, by key, for calls that are remembered so.

    `buckets.cache_clear()` starts anew with the setting.
    """
    size = settings.CALL_MEMORY_MB * 1_000_000 / 4  # four of them: two budgets, twice each
    kept_ms = LIMITS["call_ms" if memory is Memory.FULL else "quiet_call_ms"]
    return Buckets(size * 1000 / kept_ms, size)


def memory_for(by: str, *, is_of_note: bool = True) -> Memory:
    """Return how a call of this key is remembered now; one that is not of note is brief anyway."""
    if not by:
        return Memory.FULL
    now_s = time.monotonic()
    if is_of_note and buckets(Memory.FULL).has(by, now_s):
        return Memory.FULL
    has_brief = buckets(Memory.BRIEF).has(by, now_s)
    if has_brief and not is_of_note:
        return Memory.FULL
    _tell(by)
    return Memory.BRIEF if has_brief else Memory.NONE


def decided(by: str, asked: Asked, walk: Walk) -> None:
    """Charge what a decision left in Redis: nothing, if it was plain."""
    is_plain = walk.given == Given.BYPASS or (walk.given == Given.FIRST and walk.chosen == 0)
    if is_plain and not (asked.keep or asked.bypass):
        return
    size = DECISION_BYTES + 2 * _bytes(asked.call_id) + _bytes(asked.host)
    _charge(by, asked.memory, size, is_of_note=not is_plain)


def reported(by: str, outcome: Outcome) -> None:
    """Charge what an outcome left in Redis."""
    texts = (outcome.call_id, outcome.id, outcome.id, outcome.host, outcome.code, outcome.message)
    size = OUTCOME_BYTES + sum(map(_bytes, texts))
    _charge(by, outcome.memory, size, is_of_note=is_of_note(outcome))


def is_of_note(outcome: Outcome) -> bool:
    """Whether a call with this outcome is kept for a day."""
    if outcome.kind == OutcomeKind.STARTED:
        return outcome.mode != Mode.PRIMARY
    return outcome.kind in FAILURE_KINDS or outcome.kind == OutcomeKind.RECOVERED


def _charge(by: str, memory: Memory, size: int, *, is_of_note: bool) -> None:
    if by and memory is not Memory.NONE:
        is_brief = memory is Memory.BRIEF or not is_of_note
        of = Memory.BRIEF if is_brief else Memory.FULL
        buckets(of).spend(by, time.monotonic(), size)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _tell(by: str) -> None:
    metrics.degraded("call_budget")
    if told.is_due(by):
        log.warning("call_budget_spent", by=by, megabytes=settings.CALL_MEMORY_MB)
