"""History: transitions of breakers, and the incidents they belong to. Written by the pump only."""

from django.db import models

from fallback.domain import Cause, EventName, Kind, State
from fallback.models.configured import choices


class Incident(models.Model):
    """All that happens to one provider from the trip to the recovery."""

    key = models.CharField(
        max_length=100, unique=True, help_text="The id of the event that opened it."
    )
    provider = models.CharField(max_length=63)
    kind = models.CharField(max_length=3, choices=choices(Kind), default=Kind.STT.value)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="Empty: it is still going on."
    )
    cause = models.CharField(
        max_length=32, choices=choices(Cause), help_text="What opened the breaker."
    )
    reason = models.TextField(
        blank=True, help_text="The failure that tripped it, or the operator's words."
    )
    actor = models.CharField(max_length=150, blank=True, help_text="Who or what opened it.")
    closing_cause = models.CharField(
        max_length=32, choices=choices(Cause), blank=True, help_text="What closed the breaker."
    )
    trips = models.PositiveIntegerField(default=1, help_text="Times it opened in this incident.")
    diverted = models.PositiveIntegerField(
        default=0, help_text="Calls that started on another provider because of it."
    )
    hurt = models.PositiveIntegerField(default=0, help_text="Calls in which it failed.")
    saved = models.PositiveIntegerField(
        default=0, help_text="Calls that had a transcript from another provider all the same."
    )
    first_failure_at = models.DateTimeField(
        null=True, blank=True, help_text="The first failure of those that tripped it."
    )
    last_event_at = models.DateTimeField(
        null=True, blank=True, help_text="The latest event that belongs to it."
    )

    class Meta:
        ordering = ["-opened_at", "-id"]
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="incident_newest"),
            models.Index(fields=["kind", "provider", "-opened_at"], name="incident_of_provider"),
        ]
        permissions = [("acknowledge_incident", "Can acknowledge incidents")]

    def __str__(self) -> str:
        return f"{self.provider}, {self.opened_at:%Y-%m-%d %H:%M} UTC"


class Transition(models.Model):
    """One change of a breaker's state, with its cause, actor and evidence."""

    event_id = models.CharField(max_length=100, unique=True)
    name = models.CharField(max_length=32, choices=choices(EventName))
    provider = models.CharField(max_length=63)
    kind = models.CharField(max_length=3, choices=choices(Kind), default=Kind.STT.value)
    before = models.CharField("from", max_length=16, choices=choices(State))
    after = models.CharField("to", max_length=16, choices=choices(State))
    at = models.DateTimeField()
    cause = models.CharField(max_length=32, choices=choices(Cause), blank=True)
    actor = models.CharField(max_length=150, blank=True)
    reason = models.TextField(blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    incident = models.ForeignKey(
        Incident, null=True, blank=True, on_delete=models.SET_NULL, related_name="transitions"
    )
    version = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["-at", "-id"], name="transition_newest"),
            models.Index(fields=["kind", "provider", "-at"], name="transition_of_provider"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.before} → {self.after}"
