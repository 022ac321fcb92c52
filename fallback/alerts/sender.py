"""The worker that delivers: claims threads which are due, and brings each up to date in Slack.

Any number may run, and each may be killed at any point. Claims end by the clock of whoever looks,
so clocks must agree to within the lease, which is a minute.
"""

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.models import Q
from django.utils import timezone

from fallback import metrics, spells
from fallback.alerts import outbox
from fallback.alerts.delivery import Delivery, Timing
from fallback.alerts.door import Slack
from fallback.models import AlertThread

AT_ONCE: Final = 20  # threads that one turn takes up
IDLE_S: Final = 0.5
HELD_UP_S: Final = 60.0  # a thread whose work raised something unforeseen waits this long
UPKEEP_S: Final = 600.0
FORGET_AT_MOST: Final = 500

log = structlog.get_logger(__name__)


class Sender:
    """One worker; `now` is its clock."""

    def __init__(
        self,
        slack: Slack | None = None,
        *,
        timing: Timing | None = None,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._slack, self._timing, self._now = slack or Slack(), timing or Timing(), now
        self._upkeep_at = now()

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set."""
        spell = spells.Spell("sender")
        while not stop.is_set():
            try:
                wait_s = 0.0 if self.turn() else IDLE_S
                spell.over()
            except Exception as error:  # a sender that ends helps nobody: it says why, and goes on
                wait_s = spell.after(error)
            finally:
                close_old_connections()
            stop.wait(wait_s)
        connections.close_all()

    def turn(self) -> int:
        """Work on each thread that is due, once; return how many there were."""
        now, done = self._now(), 0
        due = AlertThread.objects.filter(
            Q(claimed_until=None) | Q(claimed_until__lt=now),
            Q(destination__held_until=None) | Q(destination__held_until__lte=now),
            due_at__lte=now,
            destination__enabled=True,
        )
        for pk in list(due.order_by("due_at").values_list("pk", flat=True)[:AT_ONCE]):
            thread = self._claimed(pk)
            if thread is not None:
                self._work(thread)
                done += 1
        self._keep_up()
        return done

    def _claimed(self, pk: int) -> AlertThread | None:
        """Take a thread, unless another sender just did or its channel was just held."""
        now, token = self._now(), uuid.uuid4().hex
        free = AlertThread.objects.filter(
            Q(claimed_until=None) | Q(claimed_until__lt=now), pk=pk, due_at__lte=now
        )
        until = now + timedelta(seconds=self._timing.lease_s)
        if not free.update(claim=token, claimed_until=until, due_at=until):
            return None
        thread = AlertThread.objects.select_related("destination").get(pk=pk)
        held = thread.destination.held_until
        if held and held > now:
            AlertThread.objects.filter(pk=pk, claim=token).update(due_at=held, claimed_until=None)
            return None
        return thread if thread.claim == token else None

    def _work(self, thread: AlertThread) -> None:
        """Work on one thread; what is wrong with it must not hold the others."""
        try:
            Delivery(thread, self._slack, self._timing, self._now).run()
        except Exception as error:
            if spells.is_database(error):
                raise
            log.exception("alert_thread_failed", thread=thread.pk)
            metrics.degraded("alert_thread")
            later = self._now() + timedelta(seconds=HELD_UP_S)
            rows = AlertThread.objects.filter(pk=thread.pk, claim=thread.claim)
            rows.update(due_at=later, claimed_until=None)

    def _keep_up(self) -> None:
        if self._now() < self._upkeep_at:
            return
        self._upkeep_at = self._now() + timedelta(seconds=UPKEEP_S)
        keep = timedelta(days=settings.HISTORY_DAYS)
        outbox.forget(self._now() - keep, at_most=FORGET_AT_MOST)
