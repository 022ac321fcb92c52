"""API keys: who may ask, report, override or read. Only a keyed hash of the secret is kept."""

from django.core.validators import MinLengthValidator
from django.db import models
from simple_history.models import HistoricalRecords

from fallback.models.configured import Configured
from fallback.models.validators import one_of


class Role(models.TextChoices):
    """What the holder of a key may do."""

    AGENT = "agent", "agent: decisions, outcomes, status"
    OPERATOR = "operator", "operator: all of that, and overrides"
    READER = "reader", "reader: status and history"


class ApiKey(Configured):
    """A key for the REST API and the live feed. Minted and checked by `fallback.keys`."""

    name = models.CharField(
        max_length=100,
        unique=True,
        validators=[MinLengthValidator(1)],
        help_text="Who holds it, such as “pipecat-pods-prod”. Overrides carry it as their author.",
    )
    role = models.CharField(
        max_length=8, choices=Role.choices, default=Role.AGENT, help_text="What its holder may do."
    )
    enabled = models.BooleanField(
        default=True, help_text="Off: refused from the next request on, in every process."
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="Refused from then on. Empty: never expires."
    )
    notes = models.TextField(blank=True, help_text="Where it is deployed, whom to ask.")
    public = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)

    history = HistoricalRecords(excluded_fields=["secret_hash", "last_used_at"])

    class Meta(Configured.Meta):
        ordering = ["name"]
        verbose_name = "API key"
        constraints = [one_of("role", Role, prefix="apikey")]

    def __str__(self) -> str:
        return self.name
