"""A change of the configuration that waits for a second person. See `fallback.proposals`."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from fallback.models.change import ConfigChange


class Proposal(models.Model):
    """What somebody wants to change, and what became of it.

    `before` and `after` hold the entries of the configuration that it touches, as they were when
    it was proposed and as they would be. Names are as they were then; who is who the ids say,
    which are missing only in rows of before there were any.
    """

    class State(models.TextChoices):
        """What has become of it."""

        PROPOSED = "proposed", "waits for a second person"
        APPROVED = "approved", "approved, and done"
        REJECTED = "rejected", "rejected"
        WITHDRAWN = "withdrawn", "withdrawn by its author"
        EXPIRED = "expired", "expired: nobody decided in time"

    NAME_MAX = 150
    REASON_MAX = 600

    author = models.CharField(max_length=NAME_MAX, help_text="The name they signed in with.")
    author_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.CharField(max_length=REASON_MAX, blank=True, help_text="Why.")
    summary = models.CharField(max_length=500, help_text="What, in a line.")
    base_revision = models.BigIntegerField(help_text="Of the configuration it was made from.")
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.PROPOSED)
    decided_by = models.CharField(max_length=NAME_MAX, blank=True)
    decided_by_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=REASON_MAX, blank=True)
    change = models.ForeignKey(
        ConfigChange, null=True, blank=True, on_delete=models.SET_NULL, related_name="proposals"
    )

    class Meta:
        ordering = ["-pk"]
        indexes = [models.Index(fields=["state", "expires_at"], name="proposal_waiting")]
        permissions = [("approve_proposal", "Can approve and reject proposals")]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="approved")
                | (
                    Q(author_user__isnull=False, decided_by_user__isnull=False)
                    & ~Q(decided_by_user=F("author_user"))
                )
                | (
                    Q(author_user__isnull=True, decided_by_user__isnull=True)
                    & ~Q(decided_by="")
                    & ~Q(decided_by=F("author"))
                ),
                name="proposal_second_person",
                violation_error_message="Nobody approves their own proposal.",
            )
        ]

    def __str__(self) -> str:
        return f"Proposal #{self.pk}"
