"""Statistics: what happened on one provider in one minute. Written by the pump only."""

from django.db import models

from fallback.domain import Kind
from fallback.models.configured import choices


class ProviderMinute(models.Model):
    """One minute of one provider, all processes together."""

    kind = models.CharField(max_length=3, choices=choices(Kind))
    provider = models.CharField(max_length=63)
    at = models.DateTimeField(help_text="When the minute began.")
    calls = models.PositiveIntegerField(default=0, help_text="Calls that began on it.")
    failures = models.PositiveIntegerField(default=0, help_text="Failures in it.")
    diverted = models.PositiveIntegerField(
        default=0, help_text="Calls sent elsewhere because it was out."
    )
    latencies = models.JSONField(
        default=list, help_text="First transcripts by how long they took; stats/counts.py says."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "provider", "at"], name="provider_minute_once")
        ]
        indexes = [models.Index(fields=["at"], name="provider_minute_at")]

    def __str__(self) -> str:
        return f"{self.kind} {self.provider}, {self.at:%Y-%m-%d %H:%M} UTC"
