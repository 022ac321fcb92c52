"""The claim on a thread: whoever holds it is the only one to talk to Slack about it.

A claim lasts a few seconds, so that a killed sender's thread is taken up soon, and its sender's
heart renews it while the work goes on, however slow Slack is. Nothing is stored by a claim that
was lost. Claims end by the clock of whoever looks: clocks must agree to within some seconds.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import DatabaseError, InterfaceError, connections

from fallback.models import AlertThread

BEAT_S: Final = 1.0
HOLD_MAX_S: Final = 60.0  # work on one thread that takes longer has hung, and is given up
NAME_LENGTH: Final = 12

log = structlog.get_logger(__name__)


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


class Heart:
    """Renews the claim of one sender while it works. Beats once `start` was called."""

    def __init__(self, timing: Timing, now: Callable[[], datetime]) -> None:
        self._timing, self._now = timing, now
        self._lock = threading.Lock()
        self._held: tuple[AlertThread, datetime] | None = None

    def start(self, stop: threading.Event) -> None:
        """Beat from a thread of its own until `stop` is set."""
        threading.Thread(
            target=self._keep_beating, args=[stop], name="sender-heart", daemon=True
        ).start()

    @contextmanager
    def holding(self, thread: AlertThread) -> Iterator[None]:
        """Keep a thread ours while the block works on it."""
        with self._lock:
            self._held = (thread, self._now())
        try:
            yield
        finally:
            with self._lock:
                self._held = None

    def beat(self) -> None:
        """Renew the claim of what is in hand, unless it was lost or given up."""
        with self._lock:
            held = self._held
        now = self._now()
        if held is None or now - held[1] > timedelta(seconds=HOLD_MAX_S):
            return
        thread = held[0]
        rows = AlertThread.objects.filter(
            pk=thread.pk, claim=thread.claim, claimed_until__isnull=False
        )
        rows.update(claimed_until=now + timedelta(seconds=self._timing.lease_s))

    def _keep_beating(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(BEAT_S):
                try:
                    self.beat()
                except (DatabaseError, InterfaceError) as error:
                    log.debug("claim_not_renewed", error=str(error)[:200])
                    connections.close_all()
        finally:
            connections.close_all()
