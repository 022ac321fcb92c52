"""Providers: the speech services that agents can be sent to."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from simple_history.models import HistoricalRecords

from fallback.domain import Kind
from fallback.models.configured import Configured
from fallback.models.policy import Policy
from fallback.models.validators import (
    normalized_language,
    one_of,
    settings_or_empty,
    validate_languages,
    validate_settings,
    validate_slug,
    validate_variable_name,
)


class Provider(Configured):
    """A speech service that agents can be sent to."""

    name = models.CharField(max_length=100, help_text="What people call it, such as “Soniox (EU)”.")
    slug = models.CharField(
        max_length=63,
        validators=[validate_slug],
        help_text="What agents, Slack and the API call it; unique within its kind. Renaming it"
        " breaks agents that still report under the old name.",
    )
    kind = models.CharField(
        max_length=3,
        choices=[("stt", "speech to text"), ("tts", "text to speech"), ("llm", "language model")],
        default=Kind.STT.value,
        help_text="What it does. A route holds providers of one kind.",
    )
    enabled = models.BooleanField(
        default=True,
        help_text="Off: it is in no chain and gets no call. To take it out for a while, force its"
        " breaker open instead.",
    )
    policy = models.ForeignKey(
        Policy,
        on_delete=models.PROTECT,
        related_name="providers",
        help_text="The thresholds its breaker obeys.",
    )
    shadow_policy = models.ForeignKey(
        Policy,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="shadowed_providers",
        help_text="A second policy that runs beside it in shadow: it moves no call, and says what"
        " it would have done. Empty: none.",
    )
    languages = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_languages],
        help_text="BCP-47 tags it can hear, such as hi-IN, en. Empty: any language.",
    )
    settings = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_settings],
        help_text="JSON object handed to agents as it is (model, endpointing,"
        " reconnect_on_error, vad_events, …). A route's step may override single keys."
        " At most 16 KiB. No secrets.",
    )
    credential_hint = models.CharField(
        max_length=128,
        blank=True,
        validators=[validate_variable_name],
        help_text="The NAME of the variable that an agent needs, such as SONIOX_API_KEY. Never"
        " the secret: secrets do not enter this system.",
    )
    notes = models.TextField(blank=True, help_text="Contacts, contract, quirks. Operators only.")

    history = HistoricalRecords()

    class Meta(Configured.Meta):
        ordering = ["kind", "slug"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "slug"],
                name="provider_slug_in_kind",
                violation_error_message="There is a provider of this kind with this slug already.",
            ),
            one_of("kind", Kind, prefix="provider"),
        ]
        permissions = [("override_breaker", "Can override and reset breakers")]

    def __str__(self) -> str:
        return self.slug if self.kind == Kind.STT else f"{self.slug} ({self.kind})"

    def clean(self) -> None:
        super().clean()
        self._normalize()
        routes = self.route_slugs()
        if self.shadow_policy_id and self.shadow_policy_id == self.policy_id:
            detail = "It obeys this one already: choose another to compare it with, or none."
            raise ValidationError({"shadow_policy": detail})
        if routes and not self.enabled:
            raise ValidationError({"enabled": self._in_use("switched off", routes)})
        if routes and self._kind_before() != self.kind:
            raise ValidationError({"kind": self._in_use("moved to another kind", routes)})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        if why := self.why_it_stays():
            raise models.ProtectedError(why, set(self.steps.all()))
        return super().delete(*args, **kwargs)

    def why_it_stays(self) -> str:
        routes = self.route_slugs()
        return self._in_use("deleted", routes) if routes else ""

    def route_slugs(self) -> list[str]:
        """Return the routes whose chain holds this provider."""
        if not self.pk:
            return []
        return list(self.steps.order_by("route__slug").values_list("route__slug", flat=True))

    def _in_use(self, what: str, routes: list[str]) -> str:
        return (
            f"{self.slug} cannot be {what} while it is in the chain of {', '.join(routes)}: take"
            " it out there first. To keep calls off it for a while, force its breaker open."
        )

    def _kind_before(self) -> str:
        return Provider.objects.values_list("kind", flat=True).get(pk=self.pk)

    def _normalize(self) -> None:
        self.settings = settings_or_empty(self.settings)
        self.languages = self.languages or []
        try:
            validate_languages(self.languages)
        except ValidationError:
            return  # the field's own check has told
        self.languages = [normalized_language(tag) for tag in self.languages]
