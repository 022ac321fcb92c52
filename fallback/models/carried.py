"""What the pump keeps for itself: entries that made no sense, and how far it has carried events."""

from django.db import models

from fallback.domain import Kind
from fallback.models.configured import choices


class DeadLetter(models.Model):
    """An entry of the event stream that could not be carried, kept for a person to look at."""

    kind = models.CharField(max_length=3, choices=choices(Kind))
    entry_id = models.CharField(max_length=41, help_text="In the event stream, not of the event.")
    fields = models.JSONField(
        default=dict, help_text="What the entry held; bytes that are no text stand as \\x…."
    )
    problem = models.TextField(help_text="Why it could not be carried.")
    deliveries = models.PositiveIntegerField(default=1, help_text="Times it was tried.")
    at = models.DateTimeField(auto_now_add=True)
    replayed_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was put back into the stream, if it was."
    )

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            # A pump that dies between writing this and acknowledging the entry writes it again.
            models.UniqueConstraint(fields=["kind", "entry_id"], name="dead_letter_once")
        ]
        indexes = [models.Index(fields=["-at", "-id"], name="dead_letter_newest")]

    def __str__(self) -> str:
        return f"{self.kind} {self.entry_id}: {self.problem}"


class Position(models.Model):
    """How far the numbered events of one breaker were carried, and which of them never came.

    Its row is also the lock under which a provider's history is written: any number of pumps may
    carry events of one provider at once.
    """

    kind = models.CharField(max_length=3, choices=choices(Kind))
    provider = models.CharField(max_length=63)
    incarnation = models.CharField(
        max_length=32, help_text="Of Redis's data: after a loss the numbers begin again."
    )
    highest = models.BigIntegerField(default=0, help_text="The highest number that came.")
    missing = models.JSONField(
        default=list,
        help_text="[[first, last, noticed_ms, told], …]: numbers below it that did not come.",
    )
    forks = models.PositiveIntegerField(
        default=0, help_text="Numbers that came twice with different events."
    )
    forks_told = models.PositiveIntegerField(default=0, help_text="Of these, told to people.")
    forked_at = models.DateTimeField(null=True, help_text="When the last of them was seen.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "provider", "incarnation"], name="position_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.provider} ({self.incarnation}): {self.highest}"
