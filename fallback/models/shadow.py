"""Shadow beside the live policy: how far it was followed, and what it would have done."""

from django.db import models

from fallback.models.policy import Policy
from fallback.models.provider import Provider


class ShadowRun(models.Model):
    """One provider's second policy at work on what is recorded. Its row is the lock under which it
    goes on: any number of pumps may try, one does, and what it did is stored with how far it came.
    """

    provider = models.OneToOneField(Provider, on_delete=models.CASCADE, related_name="shadow_run")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="shadow_runs")
    judged_by = models.JSONField(help_text="The policy's values: others begin another run.")
    since = models.DateTimeField(help_text="When it began.")
    until = models.DateTimeField(help_text="Up to when it has followed what was recorded.")
    lane = models.JSONField(
        default=dict, help_text="Where it stands; backtest/storing.py says how."
    )
    trips = models.PositiveIntegerField(default=0)
    hurt = models.PositiveIntegerField(default=0)
    diverted = models.PositiveIntegerField(default=0)
    diverted_healthy = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.provider} under {self.policy}, since {self.since:%Y-%m-%d %H:%M} UTC"


class ShadowTrip(models.Model):
    """One trip that a second policy would have made."""

    run = models.ForeignKey(ShadowRun, on_delete=models.CASCADE, related_name="found")
    at = models.DateTimeField()
    until = models.DateTimeField(null=True, help_text="When it would have closed again.")
    cause = models.CharField(max_length=32)
    reason = models.TextField(blank=True)
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [models.UniqueConstraint(fields=["run", "at"], name="shadowtrip_once")]

    def __str__(self) -> str:
        return f"{self.run.provider}, {self.at:%Y-%m-%d %H:%M:%S} UTC"
