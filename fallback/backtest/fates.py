"""What would have met a call that was sent elsewhere: inferred from what others met around it.

While a breaker is out hardly anybody sees its provider. What is known stands at the ends of each
stretch: the calls around the trip, each probe, the calls after it came back. Where both ends agree
the fate between is taken as known. Where they do not, the change is put in the middle, so that the
rehearsal can go on, and such a call is reported as of unknown fate.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fallback import past
from fallback.domain import (
    ADMITTING_STATES,
    DEFAULT_WHAT_COUNTS,
    Cause,
    Kind,
    OutcomeKind,
    Reason,
    State,
)
from fallback.models import Transition
from fallback.past import Failure, Reporter
from fallback.times import epoch_ms, moment

BEFORE_MS: Final = 60_000  # what is looked at before a spell that no failure began
AROUND_MS: Final = 30_000  # calls that began before a trip are heard so long after it
AFTER_MS: Final = 60_000  # what is looked at after a return without proof
SICK_SHARE: Final = 0.5  # of the calls around that failed
FAILURES_KEPT: Final = 50
LOOK_BACK: Final = timedelta(days=1)  # for the spell in which a span begins

Seen = tuple[Failure, Reporter]
"""A failure, and who told it."""

_UNSEEN: Final = Failure(Reason.UNKNOWN, "", 0, OutcomeKind.INIT_FAILURE), past.NOBODY


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time with what is known at its ends: True sick, False healthy, None nothing."""

    since_ms: int
    until_ms: int
    before: bool | None
    after: bool | None
    failures: tuple[Seen, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether both ends are known and agree."""
        return self.before is not None and self.before == self.after

    def is_sick(self, at_ms: int) -> bool:
        """Whether a call at that time is taken to fail."""
        if self.before is None or self.after is None or self.before == self.after:
            return bool(self.before or self.after)
        middle_ms = (self.since_ms + self.until_ms) // 2
        return self.before if at_ms < middle_ms else self.after


class Fates:
    """The stretches in which calls were sent elsewhere, by time."""

    def __init__(self, stretches: Sequence[Stretch] = ()) -> None:
        self._stretches = sorted(stretches, key=lambda stretch: stretch.since_ms)
        self._starts = [stretch.since_ms for stretch in self._stretches]

    def is_sick(self, at_ms: int) -> bool:
        """Whether a call at that time is taken to fail; outside of every stretch it is not."""
        stretch = self._at(at_ms)
        return stretch is not None and stretch.is_sick(at_ms)

    def is_known(self, at_ms: int) -> bool:
        """Whether the fate at that time is known, by both ends of its stretch."""
        stretch = self._at(at_ms)
        return stretch is not None and stretch.is_known

    def failure(self, at_ms: int, call: int) -> Seen:
        """Return how a call at that time fails: as the calls around did, and who tells it."""
        stretch = self._at(at_ms)
        known = stretch.failures if stretch else ()
        return known[call % len(known)] if known else _UNSEEN

    def _at(self, at_ms: int) -> Stretch | None:
        index = bisect_right(self._starts, at_ms) - 1
        if index < 0 or at_ms >= self._stretches[index].until_ms:
            return None
        return self._stretches[index]


def infer(kind: Kind, provider: str, since_ms: int, until_ms: int) -> Fates:
    """Return the fates of calls that this provider did not get in a span."""
    since = moment(since_ms) - LOOK_BACK
    until = moment(until_ms)
    rows = Transition.objects.filter(
        kind=kind, provider=provider, at__gte=since, at__lt=until
    ).order_by("at", "version", "id")
    return Fates(list(_stretches(kind, provider, rows, until_ms)))


def _stretches(
    kind: Kind, provider: str, rows: Iterable[Transition], end_ms: int
) -> Iterator[Stretch]:
    known: tuple[int, bool | None, tuple[Seen, ...]] | None = None
    for row in rows:
        at_ms = epoch_ms(row.at)
        is_out = State(row.after) not in ADMITTING_STATES
        was_out = State(row.before) not in ADMITTING_STATES
        if is_out and not was_out:
            first_ms = int(row.evidence.get("first_failure_ms") or at_ms - BEFORE_MS)
            sick, failures = _seen(kind, provider, first_ms, at_ms + AROUND_MS)
            known = at_ms, sick, failures
        elif known and row.cause == Cause.PROBE_FAILURE:
            yield Stretch(known[0], at_ms, known[1], True, known[2])
            known = at_ms, True, known[2]
        elif known and was_out and not is_out:
            proof = row.cause == Cause.PROBE_SUCCESS
            sick = False if proof else _seen(kind, provider, at_ms, at_ms + AFTER_MS)[0]
            yield Stretch(known[0], at_ms, known[1], sick, known[2])
            known = None
    if known:
        yield Stretch(known[0], end_ms, known[1], None, known[2])


def _seen(
    kind: Kind, provider: str, since_ms: int, until_ms: int
) -> tuple[bool | None, tuple[Seen, ...]]:
    """Return whether the calls of a time failed, most of them, and how; None without any."""
    heard, failures = 0, list[Seen]()
    for slot in past.read(kind, provider, since_ms, until_ms):
        heard += slot.heard(since_ms, until_ms)
        for _, failure, reporter in slot.failed(since_ms, until_ms):
            if not DEFAULT_WHAT_COUNTS[Reason(failure.reason)].is_neutral:
                failures.append((failure, reporter))
    total = heard + len(failures)
    is_sick = len(failures) >= SICK_SHARE * total if total else None
    return is_sick, tuple(failures[:FAILURES_KEPT])
