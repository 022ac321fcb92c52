"""The recorded past: what agents saw of one provider, ten minutes to a row. See `fallback.past`."""

from django.db import models

from fallback.domain import Kind
from fallback.models.configured import choices


class RecordedSlot(models.Model):
    """Everything that was seen of one provider in one slot of time, for rehearsals to replay."""

    kind = models.CharField(max_length=3, choices=choices(Kind))
    provider = models.CharField(max_length=63)
    at = models.DateTimeField(help_text="When the slot began.")
    calls = models.PositiveIntegerField(default=0, help_text="Calls that wanted it.")
    failures = models.PositiveIntegerField(default=0, help_text="Failures in it.")
    dropped = models.PositiveIntegerField(
        default=0, help_text="Sightings that found no room; the rest is still in order."
    )
    data = models.BinaryField(help_text="The sightings, packed; past/sightings.py says how.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "provider", "at"], name="recorded_slot_once")
        ]
        indexes = [models.Index(fields=["at"], name="recorded_slot_at")]

    def __str__(self) -> str:
        return f"{self.kind} {self.provider}, from {self.at:%Y-%m-%d %H:%M} UTC"
