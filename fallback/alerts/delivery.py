"""One thread brought up to date in Slack: its message, what happened since, a reminder.

Whoever works here holds the thread's claim. What is written before a message is sent is enough to
settle it afterwards, whoever does:

Where Slack did not say that it has a message, the channel is looked at, at once and again with
growing pauses. Found: it is settled. It is sent again only when a look found nothing after the
time within which it would have shown: `answered_s` after an answer that was an error, for then the
request has ended at Slack and what it did only has to become visible; `settle_s` after a send
without any answer (cut off, timed out, its sender killed), for that may still be under way. Slack
documents neither, and has no key against doubles: what it shows later than that is told twice.
"""

import hashlib
import json
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction

from fallback import metrics
from fallback.alerts.cards import Facts, headline
from fallback.alerts.claims import Claimed, Lost, Timing
from fallback.alerts.door import Away, Gone, RateLimited, Refused, Slack, SlackError, Unclear
from fallback.alerts.outages import Outages
from fallback.alerts.outbox import COLLAPSE_S
from fallback.messages.alerts import Told, incident_message, replies, trial
from fallback.messages.blocks import Message
from fallback.messages.events import RANK, REMINDER, TEST, AlertEvent, Severity
from fallback.models import Alert, AlertDestination, AlertThread

BATCH: Final = 200  # alerts that one reply may settle
LOOK_FIRST_S: Final = 0.5  # after the look that comes at once
LOOK_LONGEST_S: Final = 4.0
SKEW_S: Final = 600.0  # our clock may differ from Slack's by so much
WAITING: Final = (Alert.Status.PENDING, Alert.Status.SENDING)

log = structlog.get_logger(__name__)


class NotNow(Exception):  # noqa: N818 - not an error
    """Slack is away for this destination, and another message tries whether it is back."""


class Delivery(Claimed):
    """The work on one claimed thread, once."""

    def __init__(
        self,
        thread: AlertThread,
        slack: Slack,
        timing: Timing,
        now: Callable[[], datetime],
        outages: Outages,
    ) -> None:
        super().__init__(thread, timing, now)
        self.slack, self._outages = slack, outages
        self._is_looking = False
        self.facts = Facts(thread, now())

    def run(self) -> None:
        """Do what is due; leave the thread released, with the time of its next turn."""
        try:
            self._end()
            self._remind()
            if self._settle():
                self._post_first()
                self._post_replies()
                self._update()
                self._leave()
        except Lost:
            log.info("alert_claim_lost", thread=self.thread.pk)
        except (SlackError, NotNow) as error:
            self._fail(error)

    # --- what is due

    def _end(self) -> None:
        """Close a failure of which nothing came, and the thread of an incident that is over."""
        thread, now = self.thread, self._now()
        if thread.closed_at:
            return
        if thread.type == AlertThread.INCIDENT:
            if self.facts.incident and self.facts.incident.closed_at:
                self._save(closed_at=self.facts.incident.closed_at)
        elif thread.ends_at and thread.ends_at <= now:
            self._save(closed_at=thread.ends_at)

    def _remind(self) -> None:
        due = self._reminder_at()
        if due is None or due > self._now():
            return
        number = self.thread.reminders + 1
        self._save(reminders=number, reminded_at=self._now())
        Alert.objects.get_or_create(
            event_id=f"{REMINDER}:{number}:{self.thread.incident_key}",
            destination=self.thread.destination,
            defaults={
                "event": REMINDER, "thread": self.thread, "kind": self.thread.kind,
                "provider": self.thread.provider, "at": self._now(),
            },
        )  # fmt: skip

    def _reminder_at(self) -> datetime | None:
        thread, minutes = self.thread, self.thread.destination.remind_every_min
        is_open = thread.type == AlertThread.INCIDENT and not thread.closed_at
        if not is_open or not minutes or thread.acknowledged_by or not thread.ts:
            return None
        return (thread.reminded_at or thread.opened_at) + timedelta(minutes=minutes)

    # --- sending

    def _settle(self) -> bool:
        """Find out about a message that Slack did not say it has; False: it is too early to tell.

        True: Slack has it, or has not and will not.
        """
        thread, looked_at = self.thread, self._now()
        if not thread.sending_key or thread.sending_at is None:
            return True
        try:
            found = self._found()
        except Refused as error:
            text = f"Slack may have it, and does not let us look: {error}"
            self._bury(f"{text}. Invite the app to the channel, then send again.")
            self._release(None)
            return False
        if found is not None:
            log.info("alert_settled", thread=thread.pk, ts=found[1])
            self._taken(*found, shown="")
            return True
        settle_at = thread.settle_at or thread.sending_at + self._settling()
        if looked_at >= settle_at:
            return True
        # Each pause as long as all that passed before it: at once, then 0.5, 1, 2, 4, 8 s after.
        passed_s = max(LOOK_FIRST_S, (looked_at - thread.sending_at).total_seconds())
        pause = timedelta(seconds=min(passed_s, LOOK_LONGEST_S))
        self._release(min(settle_at, looked_at + pause))
        return False

    def _found(self) -> tuple[str, str] | None:
        """Return the channel and ts of the message whose key is stored, None if it is not there."""
        self._renew()
        thread = self.thread
        since = thread.sending_since or thread.sending_at or self._now()
        self._is_looking = True
        try:
            channel = self._channel_id()
            since_s = since.timestamp() - SKEW_S
            ts = self.slack.find(channel, thread.sending_key, since_s=since_s, thread=thread.ts)
        except Gone:
            ts = None
        self._is_looking = False
        return None if ts is None else (channel, ts)

    def _settling(self) -> timedelta:
        return timedelta(seconds=self.timing.settle_s)

    def _channel_id(self) -> str:
        """Return the channel's id, which looking and changing take; posting also takes a name."""
        destination = self.thread.destination
        known = self.thread.channel_id or destination.channel_id
        if known:
            return known
        found = self.slack.channel_id(destination.channel)
        AlertDestination.objects.filter(pk=destination.pk).update(channel_id=found)
        return found

    def _post_first(self) -> None:
        """Post the thread's message: for its first alert, or anew where it was deleted."""
        if self.thread.ts:
            return
        waiting = self._waiting()
        going = [row for row in waiting if row.status == Alert.Status.SENDING] or [
            row for row in waiting if row == headline(waiting)
        ]
        is_anew = bool(self.thread.shown) and not self.thread.closed_at
        if not going and not is_anew:
            return
        message = self._first_message()
        self._post(message, going, shown=_hash(message))

    def _post_replies(self) -> None:
        """Post all that happened since as one reply."""
        waiting = self._waiting()
        if not self.thread.ts or not waiting:
            return
        going = [row for row in waiting if row.status == Alert.Status.SENDING] or waiting[:BATCH]
        told = [(row, self.facts.told(row)) for row in going]
        shown = [one for _, one in told if one]
        self._post(replies(shown, self._mentions(going)), going, shown=None)

    def _mentions(self, going: Sequence[Alert]) -> str:
        """Return whom a reply mentions: only where it is worse than what was told before."""
        before = RANK[Severity(self.thread.severity)]
        worse = [
            row for row in going if row.event == REMINDER or RANK[self.facts.severity(row)] > before
        ]
        found = (one for row in worse for one in self.facts.mentions(row).split())
        return " ".join(dict.fromkeys(found))

    def _post(self, message: Message, going: Sequence[Alert], *, shown: str | None) -> None:
        """Send one message. Its key is stored before, and settled by whoever comes after."""
        if not self._outages.may_post(self.thread.destination_id):
            raise NotNow("another message tries whether Slack is back")
        key = self.thread.sending_key or uuid.uuid4().hex
        ids = [row.pk for row in going]
        with transaction.atomic():
            is_first = not self.thread.sending_key
            since = self._now() if is_first else self.thread.sending_since
            settle_at = self._now() + self._settling()
            self._save(sending_key=key, sending_at=self._now(), sending_since=since,
                       settle_at=settle_at)  # fmt: skip
            Alert.objects.filter(pk__in=ids).update(
                status=Alert.Status.SENDING, sending_key=key
            )  # fmt: skip
        self._renew()
        thread, destination = self.thread, self.thread.destination
        channel = thread.channel_id or destination.channel_id or destination.channel
        try:
            channel, ts = self.slack.post(channel, message, key=key, alerts=ids, thread=thread.ts)
        except (RateLimited, Away, Refused):  # and nothing else: else its key is looked for
            self._not_taken()
            raise
        except Unclear as error:
            if error.is_answered:
                wait_s = self.timing.answered_s * 2.0 ** min(self.thread.attempts, 12)
                ended = self._now() + timedelta(seconds=min(wait_s, self.timing.settle_s))
                self._save(settle_at=ended)
            raise
        self._taken(channel, ts, shown=shown)

    def _taken(self, channel: str, ts: str, *, shown: str | None) -> None:
        """Store that Slack has a message. `shown`: what the thread's first message shows now."""
        now, key = self._now(), self.thread.sending_key
        with transaction.atomic():
            rows = Alert.objects.filter(thread=self.thread, sending_key=key)
            sent = list(rows.filter(status=Alert.Status.SENDING))
            rows.filter(pk__in=[row.pk for row in sent]).update(
                status=Alert.Status.SENT, ts=ts, sent_at=now, problem=""
            )
            worst = max(
                [Severity(self.thread.severity), *map(self.facts.severity, sent)], key=_rank
            )
            new = {"replies": self.thread.replies + 1}
            if not self.thread.ts:
                new = {"ts": ts, "channel_id": channel, "shown": shown or ""}  # type: ignore[dict-item]
            self._save(sending_key="", sending_at=None, settle_at=None, attempts=0, problem="",
                       severity=worst.value, **new)  # fmt: skip
            AlertDestination.objects.filter(pk=self.thread.destination_id).update(
                problem="", channel_id=channel
            )
        self._say_answered()
        for row in sent:
            delay_s = max(0.0, (now - row.at).total_seconds())
            metrics.alerted(self.thread.destination.name, "sent", delay_s)

    def _update(self) -> None:
        """Have the thread's message show what is so now; nothing is sent where it does."""
        if not self.thread.ts or self.thread.key.startswith(TEST):
            return
        message = self._first_message()
        shown = _hash(message)
        if shown == self.thread.shown:
            return
        if not self._outages.may_post(self.thread.destination_id):
            raise NotNow("another message tries whether Slack is back")
        self._renew()
        try:
            self.slack.update(self.thread.channel_id, self.thread.ts, message)
        except Gone:
            raise
        except Refused as error:
            metrics.alerted(self.thread.destination.name, "update_refused")
            log.error("alert_update_refused", thread=self.thread.pk, error=str(error))
            self._save(problem=f"The message cannot be updated: {error}")
        self._save(shown=shown, attempts=0)
        self._say_answered()

    def _first_message(self) -> Message:
        rows = self.thread.alerts.exclude(status=Alert.Status.SKIPPED)
        if rows.exclude(status=Alert.Status.FOLDED).exists():
            rows = rows.exclude(status=Alert.Status.FOLDED, event=AlertEvent.STATE_LOST)
        main = headline(list(rows.order_by("-at", "-pk")[:50]))
        if self.thread.key.startswith(TEST) and main:
            told = self.facts.told(main) or Told([], [], 0)
            return trial(told, self.facts.mentions(main).replace("<", "").replace(">", ""))
        return incident_message(self.facts.card(main))

    def _waiting(self) -> list[Alert]:
        """Return what is to be sent, oldest first; what may not be any more is skipped."""
        rows = list(self.thread.alerts.filter(status__in=WAITING).order_by("at", "pk")[:BATCH])
        off = [row.pk for row in rows if self.facts.told(row) is None]
        if off:
            Alert.objects.filter(pk__in=off).update(status=Alert.Status.SKIPPED)
        return [row for row in rows if row.pk not in off]

    # --- what went wrong

    def _fail(self, error: SlackError | NotNow) -> None:
        """Answer a refusal: wait as told, try again later, post anew, or give up."""
        log.info("alert_not_sent", thread=self.thread.pk, error=str(error))
        try:
            if isinstance(error, NotNow):
                self._release(self._outages.next_try(self.thread.destination_id))
            elif isinstance(error, RateLimited):
                self._hold(error.retry_after_s)
            elif isinstance(error, Gone):
                self._save(ts="", shown=self.thread.shown or "gone")
                self._release(self._now())
            elif isinstance(error, Refused):
                self._say_answered()
                self._bury(str(error))
                self._leave()
            else:
                self._try_later(str(error))
        except Lost:
            log.info("alert_claim_lost", thread=self.thread.pk)

    def _hold(self, seconds: float) -> None:
        """Leave this channel alone for as long as Slack says; the others go on."""
        until = self._now() + timedelta(seconds=seconds)
        metrics.alerted(self.thread.destination.name, "rate_limited")
        AlertDestination.objects.filter(pk=self.thread.destination_id).update(held_until=until)
        self._release(until)

    def _try_later(self, problem: str) -> None:
        metrics.alerted(self.thread.destination.name, "retried")
        oldest = self._now() - timedelta(seconds=self.timing.give_up_s)
        if self.thread.alerts.filter(status__in=WAITING, created_at__lt=oldest).exists():
            self._bury(f"Given up after many tries: {problem}")
        destination, attempts = self.thread.destination_id, min(self.thread.attempts + 1, 1000)
        wait_s = self._outages.failed(
            destination, self.thread.pk, attempts=attempts, looking=self._is_looking
        )
        is_unclear = bool(self.thread.sending_key) and not self._is_looking
        self._save(attempts=attempts, problem=problem[:500])
        wait_s = 0 if is_unclear else random.uniform(0.5, 1.0) * wait_s  # look at once
        self._release(self._now() + timedelta(seconds=wait_s))

    def _say_answered(self) -> None:
        """Slack is there. Where it was away, have all that waited for it try again now."""
        if self._outages.answered(self.thread.destination_id, self.thread.pk):
            now = self._now()
            others = AlertThread.objects.filter(
                destination=self.thread.destination_id, attempts__gt=0, due_at__gt=now,
                claimed_until=None,
            )  # fmt: skip
            others.exclude(pk=self.thread.pk).update(due_at=now)

    def _not_taken(self) -> None:
        """Slack certainly has nothing of the message that was just sent."""
        with transaction.atomic():
            self._save(sending_key="", sending_at=None, settle_at=None)
            rows = Alert.objects.filter(thread=self.thread, status=Alert.Status.SENDING)
            rows.update(status=Alert.Status.PENDING, sending_key="")

    def _bury(self, problem: str) -> None:
        """Give up what waits, for an operator to look at and send again."""
        with transaction.atomic():
            rows = Alert.objects.filter(thread=self.thread, status__in=WAITING)
            count = rows.update(status=Alert.Status.DEAD, problem=problem[:500])
            AlertDestination.objects.filter(pk=self.thread.destination_id).update(
                problem=problem[:500]
            )
        for _ in range(count):
            metrics.alerted(self.thread.destination.name, "dead")
        log.error("alerts_dead", thread=self.thread.pk, alerts=count, problem=problem[:200])

    def _leave(self) -> None:
        """Release the thread until something is due by itself, or at once if more has come."""
        with transaction.atomic():
            row = AlertThread.objects.select_for_update().get(pk=self.thread.pk)
            due_at = self._next()
            if row.alerts.filter(status__in=WAITING).exists():
                due_at = self._now() + timedelta(seconds=COLLAPSE_S)
            # Taking a thread sets both alike: another time says that something has happened since.
            if row.due_at and self.thread.due_at and row.due_at < self.thread.due_at:
                due_at = min(due_at, row.due_at) if due_at else row.due_at
            self._release(due_at)

    def _next(self) -> datetime | None:
        """Return when an open thread must be looked at though nothing happens."""
        thread = self.thread
        if thread.closed_at or not thread.ts:
            return None
        if thread.type != AlertThread.INCIDENT:
            return thread.ends_at
        refresh = self._now() + timedelta(seconds=self.timing.refresh_s)
        reminder = self._reminder_at()
        return min(refresh, reminder) if reminder else refresh


def _rank(severity: Severity) -> int:
    return RANK[severity]


def _hash(message: Message) -> str:
    return hashlib.sha256(json.dumps(message.blocks, sort_keys=True).encode()).hexdigest()
