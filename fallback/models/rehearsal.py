"""Rehearsals: who asked what a change of a policy would have done, and what came of it."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from fallback.models.policy import Policy

SLOTS = 2  # rehearsals that may run at once, all processes together


class Rehearsal(models.Model):
    """One question to the recorded past. A row is the job, its progress and its answer."""

    class What(models.TextChoices):
        """What is asked of the past."""

        REHEARSE = "rehearse", "what these values would have done"
        SUGGEST = "suggest", "which values would have done better"

    class State(models.TextChoices):
        """What has become of it."""

        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        STOPPED = "stopped", "stopped"
        FAILED = "failed", "failed"

    UNFINISHED = (State.WAITING, State.RUNNING)

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="rehearsals")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="rehearsals"
    )
    asked_at = models.DateTimeField(auto_now_add=True)
    what = models.CharField(max_length=8, choices=What.choices, default=What.REHEARSE)
    span = models.CharField(max_length=16, help_text="Which past: incident, 24h, 7d or 30d.")
    proposed = models.JSONField(help_text="The values in the form, as breakers read a policy.")

    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    progress = models.FloatField(
        default=0, validators=[MinValueValidator(0), MaxValueValidator(1)], help_text="0 to 1."
    )
    stop_asked = models.BooleanField(default=False)
    slot = models.PositiveSmallIntegerField(
        null=True, unique=True, help_text=f"Held while it runs: there are {SLOTS}."
    )
    started_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True, help_text="When its process last said a word.")
    ended_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    problem = models.TextField(blank=True, help_text="Why it failed, for whoever asked.")

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["asked_by"],
                condition=Q(state__in=["waiting", "running"]),
                name="rehearsal_one_of_each_user",
            ),
            models.CheckConstraint(
                condition=Q(state="running", slot__gte=1, slot__lte=SLOTS)
                | (~Q(state="running") & Q(slot=None)),
                name="rehearsal_runs_in_a_slot",
            ),
        ]
        indexes = [models.Index(fields=["state", "asked_at"], name="rehearsal_waiting")]

    def __str__(self) -> str:
        return f"{self.what} {self.policy_id}, {self.span} ({self.state})"

    @property
    def is_unfinished(self) -> bool:
        """Whether an answer is still to come."""
        return self.state in self.UNFINISHED
