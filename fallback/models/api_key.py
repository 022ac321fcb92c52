"""API keys: who may ask, report, override or read. Only a keyed hash of the secret is kept."""

from django.core.exceptions import ValidationError
from django.core.validators import MinLengthValidator
from django.db import models
from simple_history.models import HistoricalRecords

from fallback.models.configured import Configured
from fallback.models.route import Route
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
        default=True,
        help_text="Off: gives no order from then on, in any process, and nothing else after two"
        " seconds. A process that cannot reach the database goes by what it last read there.",
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="Refused from then on. Empty: never expires."
    )
    routes = models.JSONField(
        default=list,
        blank=True,
        help_text="Slugs of the routes that it may ask for and report on, and so of the providers"
        " it can take calls off. Empty: all. Status and history are read whole by any key.",
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

    def clean(self) -> None:
        super().clean()
        self.routes = self.routes or []
        if not isinstance(self.routes, list) or not all(isinstance(s, str) for s in self.routes):
            raise ValidationError(
                {"routes": 'Give a list of slugs such as ["breeze-buddy"]; empty means all routes.'}
            )
        self.routes = sorted(set(self.routes))
        known = set(Route.objects.filter(slug__in=self.routes).values_list("slug", flat=True))
        before = ApiKey.objects.filter(pk=self.pk).values_list("routes", flat=True).first()
        known |= set(before or ())  # of a route that was renamed: no reason to lose the bound
        if unknown := [slug for slug in self.routes if slug not in known]:
            raise ValidationError(
                {"routes": f"There is no route {', '.join(unknown)}: name routes that exist."}
            )
