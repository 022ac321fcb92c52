"""What the pump and the sender keep of alerts: one row for each alert and destination."""

from django.db import models

from fallback.domain import Kind
from fallback.models.alert import AlertDestination
from fallback.models.configured import choices


class AlertThread(models.Model):
    """One message in one channel and its thread: an incident's, or that of something lesser.

    Whoever holds the claim is the only one to talk to Slack about it. `sending_key` is set before
    a message is sent and cleared by its answer: while it stands, Slack may or may not have it.
    """

    INCIDENT, FAILURE, NOTICE = "incident", "failure", "notice"

    destination = models.ForeignKey(
        AlertDestination, on_delete=models.CASCADE, related_name="threads"
    )
    key = models.CharField(max_length=120)
    type = models.CharField(
        max_length=8, choices=[(INCIDENT, INCIDENT), (FAILURE, FAILURE), (NOTICE, NOTICE)]
    )
    subject = models.CharField(max_length=160, help_text="What later alerts find it by.")
    kind = models.CharField(max_length=3, choices=choices(Kind), default=Kind.STT.value)
    provider = models.CharField(max_length=63, blank=True)
    incident_key = models.CharField(max_length=100, blank=True, db_index=True)
    opened_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    channel_id = models.CharField(max_length=30, blank=True)
    ts = models.CharField(max_length=30, blank=True)
    shown = models.CharField(max_length=64, blank=True)
    severity = models.CharField(max_length=8, default="info")
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    replies = models.PositiveIntegerField(default=0)
    reminders = models.PositiveIntegerField(default=0)
    reminded_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    claim = models.CharField(max_length=32, blank=True)
    claimed_until = models.DateTimeField(null=True)
    sending_key = models.CharField(max_length=32, blank=True)
    sending_since = models.DateTimeField(null=True)
    sending_at = models.DateTimeField(null=True)
    settle_at = models.DateTimeField(
        null=True, help_text="Not sent again before, unless it is found."
    )
    attempts = models.PositiveIntegerField(default=0)
    problem = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["destination", "key"], name="alertthread_once")
        ]
        indexes = [
            models.Index(fields=["due_at"], name="alertthread_due"),
            models.Index(fields=["destination", "subject", "closed_at"], name="alertthread_open"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} in {self.destination.name}"


class Alert(models.Model):
    """One event told to one destination: the outbox, and afterwards the delivery log."""

    class Status(models.TextChoices):
        """What has become of it."""

        PENDING = "pending", "pending"
        SENDING = "sending", "sending"
        SENT = "sent", "sent"
        DEAD = "dead", "not delivered"
        SKIPPED = "skipped", "skipped: its template was switched off"
        FOLDED = "folded", "folded: told by its thread's message alone"

    event_id = models.CharField(max_length=160)
    event = models.CharField(max_length=32)
    destination = models.ForeignKey(
        AlertDestination, on_delete=models.CASCADE, related_name="alerts"
    )
    thread = models.ForeignKey(AlertThread, on_delete=models.CASCADE, related_name="alerts")
    kind = models.CharField(max_length=3, choices=choices(Kind), default=Kind.STT.value)
    provider = models.CharField(max_length=63, blank=True)
    at = models.DateTimeField(help_text="When the event happened.")
    values = models.JSONField(default=dict)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.PENDING)
    problem = models.TextField(blank=True, help_text="Why it could not be delivered.")
    sending_key = models.CharField(
        max_length=32, blank=True, help_text="Of the message it was last sent in."
    )
    ts = models.CharField("Slack's ts", max_length=30, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["event_id", "destination"], name="alert_once")
        ]
        indexes = [
            models.Index(fields=["-at", "-id"], name="alert_newest"),
            models.Index(fields=["thread", "status"], name="alert_of_thread"),
            models.Index(fields=["destination", "status"], name="alert_waiting"),
            models.Index(fields=["event", "-at"], name="alert_of_event"),
        ]
        permissions = [("resend_alert", "Can send alerts again")]

    def __str__(self) -> str:
        return f"{self.event} {self.provider}".strip()
