"""The claim on a thread: whoever holds it is the only one to talk to Slack about it.

A claim lasts a few seconds, so that a killed sender's thread is taken up soon, and its sender's
heart renews it while the work goes on, however slow Slack is. Nothing is stored by a claim that
was lost. Claims end by the clock of whoever looks: clocks must agree to within some seconds.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fallback.holding import Heart
from fallback.models import AlertThread

NAME_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    `settle_s`: how long a message may still be under way whose answer never came. `answered_s`:
    how long a message may be invisible that Slack has, though it answered with an error; doubled
    with each error in a row.
    """

    lease_s: float = 4.0
    settle_s: float = 15.0
    answered_s: float = 2.0
    refresh_s: float = 60.0
    give_up_s: float = 24 * 3600.0
    backoff_s: float = 0.5


class Lost(Exception):  # noqa: N818 - not an error: another sender has this thread now
    """The claim ran out while this sender was held up."""


class Claimed:
    """A thread under a claim of ours."""

    def __init__(self, thread: AlertThread, timing: Timing, now: Callable[[], datetime]) -> None:
        self.thread, self.timing, self._now = thread, timing, now

    def _renew(self) -> None:
        self._save(claimed_until=self._now() + timedelta(seconds=self.timing.lease_s))

    def _save(self, **fields: Any) -> None:
        """Store fields of the thread, if the claim still is ours. Raises Lost."""
        rows = AlertThread.objects.filter(pk=self.thread.pk, claim=self.thread.claim)
        if not rows.update(**fields):
            raise Lost
        for name, value in fields.items():
            setattr(self.thread, name, value)

    def _release(self, due_at: datetime | None) -> None:
        self._save(due_at=due_at, claimed_until=None)


def token(name: str) -> str:
    """Return a new claim of the sender of this name."""
    return _prefix(name) + uuid.uuid4().hex[NAME_LENGTH:]


def take_back(name: str, now: datetime) -> int:
    """Free what the sender of this name held when it was killed; return how many threads."""
    rows = AlertThread.objects.filter(claim__startswith=_prefix(name), claimed_until__gt=now)
    return rows.update(claimed_until=None, due_at=now)


def _prefix(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:NAME_LENGTH]


class ThreadHeart(Heart[AlertThread]):
    """Keeps the thread in hand its sender's own."""

    def __init__(self, timing: Timing, now: Callable[[], datetime]) -> None:
        super().__init__(lambda: now().timestamp())
        self._timing, self._now = timing, now

    def _renew(self, work: AlertThread) -> None:
        rows = AlertThread.objects.filter(pk=work.pk, claim=work.claim, claimed_until__isnull=False)
        rows.update(claimed_until=self._now() + timedelta(seconds=self._timing.lease_s))
