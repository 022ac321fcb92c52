"""The worker that delivers: claims threads which are due, and brings each up to date in Slack.

Any number may run, and each may be killed at any point: what it held is taken up within seconds.
What matters most goes first: that something is out, or is back.
"""

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.utils import timezone

from fallback import metrics, spells
from fallback.alerts import claims, outbox
from fallback.alerts.claims import Timing
from fallback.alerts.delivery import WAITING, Delivery
from fallback.alerts.door import Slack
from fallback.alerts.outages import Outages
from fallback.messages.events import MOST_IMPORTANT
from fallback.models import Alert, AlertThread, Incident

AT_ONCE: Final = 20  # threads that one turn takes up
IDLE_S: Final = 0.5
SOONEST_S: Final = 0.02
HELD_UP_S: Final = 60.0  # a thread whose work raised something unforeseen waits this long
UPKEEP_S: Final = 600.0
FORGET_AT_MOST: Final = 500

log = structlog.get_logger(__name__)


class Sender:
    """One worker; `now` is its clock. `name`: the same name again takes up its own work at once."""

    def __init__(
        self,
        slack: Slack | None = None,
        *,
        name: str = "",
        timing: Timing | None = None,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._slack, self._timing, self._now = slack or Slack(), timing or Timing(), now
        self._name = name or uuid.uuid4().hex
        self._outages = Outages(now, first_s=self._timing.backoff_s)
        self._heart = claims.ThreadHeart(self._timing, now)
        self._upkeep_at = now()

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set."""
        spell, is_new = spells.Spell("sender"), True
        self._heart.start(stop)
        while not stop.is_set():
            try:
                if is_new:
                    claims.take_back(self._name, self._now())
                    is_new = False
                wait_s = 0.0 if self.turn() else self._idle_s()
                spell.over()
            except Exception as error:  # a sender that ends helps nobody: it says why, and goes on
                wait_s = spell.after(error)
            finally:
                close_old_connections()
            stop.wait(wait_s)
        connections.close_all()

    def turn(self) -> int:
        """Work on each thread that is due, once; return how many there were."""
        done = 0
        for pk, destination, key in list(self._due()[:AT_ONCE]):
            if self._outages.is_left_alone(destination, to_look=bool(key)):
                continue
            thread = self._claimed(pk)
            if thread is not None:
                with self._heart.holding(thread):
                    self._work(thread)
                done += 1
        self._keep_up()
        return done

    def _due(self) -> QuerySet[AlertThread, tuple[int, int, str]]:
        """Return the threads to work on (number, destination, key of an unclear message), the most
        important first; where Slack is away, first those that were tried least."""
        now = self._now()
        due = AlertThread.objects.filter(
            Q(claimed_until=None) | Q(claimed_until__lt=now),
            Q(destination__held_until=None) | Q(destination__held_until__lte=now),
            due_at__lte=now,
            destination__enabled=True,
        )
        for destination in self._outages.away():
            if self._outages.is_left_alone(destination, to_look=True):
                due = due.exclude(destination=destination)
            elif self._outages.is_left_alone(destination, to_look=False):
                due = due.exclude(destination=destination, sending_key="")
        waiting = Alert.objects.filter(thread=OuterRef("pk"), status__in=WAITING)
        is_important = Exists(waiting.filter(event__in=MOST_IMPORTANT))
        is_open = Exists(Incident.objects.filter(key=OuterRef("incident_key"), closed_at=None))
        rank = Case(
            When(is_important & is_open, then=Value(0)),
            When(is_important, then=Value(1)),
            When(Exists(waiting), then=Value(2)),
            default=Value(3),
        )
        order = ["rank", "due_at"]
        if away := self._outages.away():
            is_away = Q(destination__in=away)
            due = due.annotate(tried=Case(When(is_away, then=F("attempts")), default=Value(0)))
            order = ["tried", *order]
        return (
            due.annotate(rank=rank).order_by(*order).values_list("pk", "destination", "sending_key")
        )

    def _idle_s(self) -> float:
        """Return how long to wait when nothing is due: no longer than until something is."""
        now = self._now()
        later = AlertThread.objects.filter(due_at__gt=now, destination__enabled=True)
        due_at = later.order_by("due_at").values_list("due_at", flat=True).first()
        wait_s = (due_at - now).total_seconds() if due_at else IDLE_S
        return min(IDLE_S, max(SOONEST_S, wait_s))

    def _claimed(self, pk: int) -> AlertThread | None:
        """Take a thread, unless another sender just did or its channel was just held."""
        now, token = self._now(), claims.token(self._name)
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
            Delivery(thread, self._slack, self._timing, self._now, self._outages).run()
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
