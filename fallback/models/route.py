"""Routes: named, ordered chains of providers."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from simple_history.models import HistoricalRecords

from fallback.domain import Kind, LastResort, MidCallAction
from fallback.models.configured import Configured
from fallback.models.provider import Provider
from fallback.models.validators import (
    one_of,
    settings_or_empty,
    validate_settings,
    validate_slug,
)


class Route(Configured):
    """A named, ordered chain of providers of one kind: one per product, merchant or campaign."""

    name = models.CharField(
        max_length=100, help_text="What people call it, such as “Breeze Buddy”."
    )
    slug = models.CharField(
        max_length=63,
        unique=True,
        validators=[validate_slug],
        help_text="What agents ask for. Renaming it breaks agents that still ask for the old name.",
    )
    kind = models.CharField(
        max_length=3,
        choices=[("stt", "speech to text"), ("tts", "text to speech"), ("llm", "language model")],
        default=Kind.STT.value,
        help_text="All providers of the chain must be of this kind.",
    )
    fallback_enabled = models.BooleanField(
        default=True,
        help_text="The run-time switch. Off: every call starts on the first provider of the"
        " chain, even while it is out.",
    )
    on_mid_call_failure = models.CharField(
        max_length=8,
        choices=[
            (MidCallAction.SWAP.value, "swap: go on with the next provider"),
            (MidCallAction.END.value, "end: end the call"),
        ],
        default=MidCallAction.SWAP.value,
        help_text="What a call is told when its provider fails in the middle.",
    )
    last_resort = models.CharField(
        max_length=8,
        choices=[
            (LastResort.PRIMARY.value, "primary: the first of the chain"),
            (LastResort.SOONEST.value, "soonest: whoever is back first"),
        ],
        default=LastResort.PRIMARY.value,
        help_text="Whom a call gets when every provider of the chain is out. No call is refused.",
    )
    notes = models.TextField(blank=True, help_text="Whose traffic this is. Operators only.")

    history = HistoricalRecords()

    steps_to_be_saved: Sequence[Provider] | None = None
    """The chain that will be saved with this route, where a form knows it."""

    class Meta(Configured.Meta):
        ordering = ["slug"]
        constraints = [
            one_of("kind", Kind, prefix="route"),
            one_of("on_mid_call_failure", MidCallAction, prefix="route"),
            one_of("last_resort", LastResort, prefix="route"),
        ]

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        super().clean()
        if self.steps_to_be_saved is None and self.pk:
            steps = self.steps.select_related("provider")
            wrong = chain_problems(self.kind, [step.provider for step in steps])
            if wrong:
                raise ValidationError(wrong)


class RouteStep(Configured):
    """One provider in the chain of a route; the lowest position is tried first."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField(
        default=0, db_index=True, help_text="Order of trying: the lowest first."
    )
    provider = models.ForeignKey(
        Provider,
        on_delete=models.PROTECT,
        related_name="steps",
        help_text="An enabled provider of the route's kind.",
    )
    settings = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_settings],
        help_text="JSON object; its keys override the provider's own settings on this route.",
    )

    history = HistoricalRecords()

    class Meta(Configured.Meta):
        ordering = ["position"]
        verbose_name = "step"
        constraints = [
            models.UniqueConstraint(
                fields=["route", "provider"],
                name="routestep_provider_once",
                violation_error_message="This provider is in the chain already: name it once, and"
                " drag the rows to change their order.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.route}: {self.provider}"

    def delete(
        self, *args: Any, chain_is_judged: bool = False, **kwargs: Any
    ) -> tuple[int, dict[str, int]]:
        """Delete it, unless that empties its chain: calls of the route would be refused.

        `chain_is_judged`: whoever deletes it has judged what the whole chain becomes. Deleting
        the route takes its steps along.
        """
        if not (chain_is_judged or self._others().exists()):
            raise models.ProtectedError(self._last_of_chain(), {self})
        return super().delete(*args, **kwargs)

    def why_it_stays(self) -> str:
        return "" if self._others().exists() else self._last_of_chain()

    def _others(self) -> models.QuerySet["RouteStep"]:
        steps = RouteStep.objects.filter(route=self.route_id).exclude(pk=self.pk)
        return steps.filter(provider__enabled=True, provider__kind=self.route.kind)

    def _last_of_chain(self) -> str:
        return (
            f"{self.provider} is the last usable provider of {self.route}, whose calls would be"
            " refused without it: add another to the chain first, or delete the route."
        )

    def clean(self) -> None:
        super().clean()
        self.settings = settings_or_empty(self.settings)
        provider = Provider.objects.filter(pk=self.provider_id).first()
        if provider is None or not hasattr(self, "route"):  # told by the field's own check
            return
        wrong = step_problem(self.route.kind, provider)
        if wrong:
            raise ValidationError({"provider": wrong})


def step_problem(kind: str, provider: Provider) -> str | None:
    """Return why a provider cannot be a step of a route of this kind, or None."""
    if provider.kind != kind:
        return (
            f"{provider.slug} is of kind {provider.kind}, and this route is of kind {kind}: choose"
            f" a provider of kind {kind}."
        )
    if not provider.enabled:
        return f"{provider.slug} is disabled: enable it first, or choose another provider."
    return None


def chain_problems(kind: str, providers: Iterable[Provider]) -> list[str]:
    """Return everything that is wrong with a chain, each with what would be right."""
    chain = list(providers)
    if not chain:
        return [f"The chain is empty: add at least one enabled provider of kind {kind}."]
    wrong = [problem for provider in chain if (problem := step_problem(kind, provider))]
    doubled = sorted({provider.slug for provider in chain if chain.count(provider) > 1})
    return wrong + [
        f"{slug} is in the chain more than once: name each provider once." for slug in doubled
    ]
