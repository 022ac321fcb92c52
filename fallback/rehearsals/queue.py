"""The queue: rows asked for, claimed by one pump each, and ended once.

Every change of a state is one conditional update, and the database itself holds the bounds (one
unfinished rehearsal of each user, `SLOTS` running in all): whoever comes second changes nothing.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from fallback import stream
from fallback.breaker import wire
from fallback.domain import Kind, Policy
from fallback.errors import BreakerUnavailable, Conflict
from fallback.models import Policy as PolicyRow
from fallback.models import Rehearsal
from fallback.models.rehearsal import SLOTS

WAITING_MAX: Final = 20
KEPT: Final = 50  # finished ones, of all policies together
STALE: Final = timedelta(seconds=20)  # a living process says a word every second
PUMP_SILENT_MS: Final = 15_000  # a living pump asks about once a second

GONE: Final = "The process that worked on it ended before it was done. Ask again."

State = Rehearsal.State


class Busy(Conflict):
    """There is no room for another rehearsal now; `rehearsal` is the asker's own unfinished one."""

    code = "busy"

    def __init__(self, detail: str, rehearsal: Rehearsal | None = None) -> None:
        super().__init__(detail)
        self.rehearsal = rehearsal


def ask(policy: PolicyRow, user: Any, *, what: str, span: str, proposed: Policy) -> Rehearsal:
    """Put a rehearsal into the queue. Raises Busy."""
    if Rehearsal.objects.filter(state=State.WAITING).count() >= WAITING_MAX:
        raise Busy(f"{WAITING_MAX} rehearsals are waiting already: ask again in a minute.")
    try:
        with transaction.atomic():
            return Rehearsal.objects.create(
                policy=policy,
                asked_by=user,
                what=what,
                span=span,
                proposed=wire.policy_values(proposed),
            )
    except IntegrityError:
        own = Rehearsal.objects.filter(asked_by=user, state__in=Rehearsal.UNFINISHED).first()
        if own is None:  # it ended in this moment, or the policy did
            raise Busy("The last one has just ended: ask again.") from None
        place = "this policy" if own.policy_id == policy.pk else f"policy {own.policy}"
        raise Busy(f"You have one on {place} that is {own.state}: stop it first.", own) from None


def stop(rehearsal: Rehearsal) -> None:
    """Have a rehearsal stopped: at once while it waits, within a second while it runs."""
    unfinished = Rehearsal.objects.filter(pk=rehearsal.pk, state__in=Rehearsal.UNFINISHED)
    unfinished.update(stop_asked=True)
    end(rehearsal.pk, State.STOPPED, while_in=State.WAITING)


def waits_for(rehearsal: Rehearsal) -> str:
    """Return what a rehearsal waits for, in words; empty when it does not wait."""
    if rehearsal.state != State.WAITING:
        return ""
    try:
        silent_ms = stream.silence_ms(Kind.STT)
    except BreakerUnavailable:
        return "Waits: Redis cannot be reached, and without it no pump works."
    if silent_ms is None or silent_ms > PUMP_SILENT_MS:
        return "Waits: no pump runs, and a pump has to do this. Start one: manage.py pump."
    before = Rehearsal.objects.filter(state=State.WAITING, asked_at__lt=rehearsal.asked_at).count()
    running = Rehearsal.objects.filter(state=State.RUNNING).count()
    if running < SLOTS and not before:
        return "Waits for a pump to take it up: a second or two."
    return f"Waits: {running} of at most {SLOTS} are running, and {before} are before it."


def claim() -> Rehearsal | None:
    """Take the one that has waited longest, if a slot is free; each is taken once."""
    row = Rehearsal.objects.filter(state=State.WAITING).order_by("asked_at", "id").first()
    if row is None:
        return None
    taken = set(Rehearsal.objects.exclude(slot=None).values_list("slot", flat=True))
    free = [slot for slot in range(1, SLOTS + 1) if slot not in taken]
    return row if any(_take(row, slot) for slot in free[:1]) else None


def _take(row: Rehearsal, slot: int) -> bool:
    now = timezone.now()
    waiting = Rehearsal.objects.filter(pk=row.pk, state=State.WAITING, stop_asked=False)
    try:
        with transaction.atomic():
            found = waiting.update(
                state=State.RUNNING, slot=slot, started_at=now, heartbeat_at=now, progress=0
            )
    except IntegrityError:  # another pump took the slot in this moment
        return False
    return bool(found)


def beat(number: int, progress: float) -> bool:
    """Note how far a running rehearsal is, 0 to 1; False when it is to stop."""
    running = Rehearsal.objects.filter(pk=number, state=State.RUNNING)
    found = running.update(progress=min(max(progress, 0), 1), heartbeat_at=timezone.now())
    return bool(found) and not running.filter(stop_asked=True).exists()


def end(
    number: int,
    state: str,
    *,
    while_in: str = State.RUNNING,
    result: Any = None,
    problem: str = "",
) -> bool:
    """End a rehearsal that is in `while_in`; False when it is not any more."""
    open_rows = Rehearsal.objects.filter(pk=number, state=while_in)
    changes: dict[str, Any] = {"state": state, "slot": None, "ended_at": timezone.now()}
    changes |= {"result": result, "problem": stream.storable(problem)[:2000]}
    changes |= {"progress": 1} if state == State.DONE else {}
    return bool(open_rows.update(**changes))


def bury(now: datetime) -> int:
    """Tell those whose process is silent as failed; return how many."""
    dead = Rehearsal.objects.filter(state=State.RUNNING, heartbeat_at__lt=now - STALE)
    return sum(
        end(number, State.FAILED, problem=GONE) for number in dead.values_list("pk", flat=True)
    )


def forget() -> int:
    """Delete the finished ones beyond the newest `KEPT`; return how many."""
    finished = Rehearsal.objects.exclude(state__in=Rehearsal.UNFINISHED).order_by("-id")
    last = finished.values_list("id", flat=True)[KEPT : KEPT + 1].first()
    if last is None:
        return 0
    count, _ = finished.order_by().filter(id__lte=last).delete()
    return count
