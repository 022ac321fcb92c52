"""Orders that came with an Idempotency-Key: what was asked, and what was answered."""

from django.db import models


class IdempotentRequest(models.Model):
    """One order, so that sending it again repeats the answer and not the order. Kept a day."""

    actor = models.CharField(max_length=150)
    key = models.CharField(max_length=255)
    request_sha256 = models.CharField(max_length=64)
    body = models.JSONField(null=True)  # null: still under way
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["actor", "key"], name="idempotentrequest_once"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.key}"
