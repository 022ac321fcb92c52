"""Policies: the thresholds that breakers obey, and what each reason counts."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from simple_history.models import HistoricalRecords

from fallback import domain
from fallback.models.configured import Configured, choices
from fallback.models.thresholds import RANGES, contradictions, never_trips
from fallback.models.validators import one_of, within

DEFAULTS = domain.Policy()


def _number(field: str, help_text: str) -> Any:
    """Return a whole-number column with the default of `domain.Policy` and its range."""
    low, high = RANGES[field]
    return models.PositiveIntegerField(
        default=getattr(DEFAULTS, field),
        validators=[MinValueValidator(low), MaxValueValidator(high)],
        help_text=f"{help_text} Allowed: {low:,} to {high:,}.",
    )


class Policy(Configured):
    """The thresholds that a provider's breaker obeys; shared by any number of providers."""

    name = models.CharField(
        max_length=63,
        unique=True,
        help_text="What operators call it, such as “default” or “strict”.",
    )
    notes = models.TextField(
        blank=True, help_text="Why these numbers: for whoever reads them at 3 a.m."
    )

    failure_threshold = _number(
        "failure_threshold",
        "Weighted failures within the window that trip the breaker. 0 switches this rule off."
        " Sane: 2 to 10.",
    )
    failure_window_s = _number(
        "failure_window_s",
        "Seconds, an exact sliding window: older failures are forgotten. Sane: 60 to 600.",
    )

    failure_rate_percent = _number(
        "failure_rate_percent",
        "Per cent of calls that failed within the rate window that trips the breaker."
        " 0 switches this rule off. Sane: 10 to 50.",
    )
    minimum_calls = _number(
        "minimum_calls",
        "Calls that must be seen within the rate window before a rate means anything. Counts for"
        " both rates. Sane: 10 to 100.",
    )
    rate_window_s = _number(
        "rate_window_s", "Seconds over which both rates are taken. Sane: 30 to 600."
    )

    slow_rate_percent = _number(
        "slow_rate_percent",
        "Per cent of calls whose first transcript was slow that trips the breaker."
        " 0 switches this rule off. Sane: 20 to 80.",
    )
    slow_after_ms = _number(
        "slow_after_ms",
        "Milliseconds after which a first transcript counts as slow. Sane: 1,500 to 5,000.",
    )

    distinct_hosts = _number(
        "distinct_hosts",
        "Hosts that failures must come from, for a trip at once too: with 2, one pod's bad key or"
        " network takes nobody off a provider. Sane: 1 to 3.",
    )
    distinct_keys = _number(
        "distinct_keys",
        "API keys that failures must come from, for a trip at once too: with 2, one leaked or"
        " broken agent key takes nobody off a provider; but a provider that the agents of one key"
        " alone use never trips. Sane: 1, or 2 where each provider is used with two keys or more.",
    )
    distinct_calls_for_stall = _number(
        "distinct_calls_for_stall",
        "Calls that must stall (speech, no transcript) before stalls count: one silent caller is"
        " no outage. Sane: 2 to 5.",
    )

    open_duration_s = _number(
        "open_duration_s",
        "Seconds that the provider is out, counted from the trip. Sane: 60 to 3,600.",
    )
    open_backoff = models.FloatField(
        default=DEFAULTS.open_backoff,
        validators=[MinValueValidator(1), MaxValueValidator(10)],
        help_text="Factor on the open duration for each consecutive trip with no proof of health"
        " between: with 2.0, 30 minutes become 60, then 120. 1.0 keeps it level."
        " Allowed: 1.0 to 10.0.",
    )
    open_duration_max_s = _number(
        "open_duration_max_s", "Seconds, the longest that backoff can make it. Sane: up to 7,200."
    )

    recovery = models.CharField(
        max_length=8,
        choices=choices(domain.Recovery),
        default=DEFAULTS.recovery.value,
        help_text="When the time is up — probe: half open, and closed only after a call has had a"
        " real transcript. timer: straight back to closed, with no proof.",
    )
    probe_slots = _number(
        "probe_slots", "Calls that may probe at the same time while half open. Sane: 1 to 3."
    )
    probe_lease_s = _number(
        "probe_lease_s",
        "Seconds that one probe call may take to prove itself; then its slot is free again."
        " Sane: 30 to 420.",
    )
    probe_successes = _number(
        "probe_successes", "Probes that must succeed to close the breaker. Sane: 1 to 5."
    )
    retrip_threshold = _number(
        "retrip_threshold", "Failed probes that open the breaker again. Sane: 1 to 3."
    )

    shadow = models.BooleanField(
        default=DEFAULTS.shadow,
        help_text="Counts and says what it would have done, and never diverts a call. For trying"
        " out thresholds. While ticked, an outage is NOT acted upon.",
    )

    history = HistoricalRecords()

    rules_to_be_saved: Mapping[str, domain.ReasonRule] | None = None
    """What-counts rows that will be saved with this policy, where a form knows them."""

    class Meta(Configured.Meta):
        ordering = ["name"]
        verbose_name_plural = "policies"
        constraints = [
            *(within(name, *RANGES[name], prefix="policy") for name in RANGES if name != "weight"),
            one_of("recovery", domain.Recovery, prefix="policy"),
            models.CheckConstraint(
                condition=Q(open_duration_max_s__gte=F("open_duration_s")),
                name="policy_open_duration_max",
                violation_error_message="open_duration_max_s must be at least open_duration_s.",
            ),
            models.CheckConstraint(
                condition=Q(failure_rate_percent=0, slow_rate_percent=0) | Q(minimum_calls__gte=1),
                name="policy_rate_has_minimum",
                violation_error_message="A rate needs minimum_calls of 1 or more.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        if not self.is_plain():  # each such field has its own error already
            return
        value = self.as_value(self._known_rules())
        wrong: dict[str, list[str]] = {}
        for problem in contradictions(value):
            wrong.setdefault(problem.field, []).append(problem.detail)
        never = never_trips(value)
        if never and never.field in {field.name for field in self._meta.fields}:
            wrong.setdefault(never.field, []).append(never.detail)
        elif never and self.rules_to_be_saved is None:
            wrong.setdefault("__all__", []).append(never.detail)
        if wrong:
            raise ValidationError(wrong)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        if why := self.why_it_stays():
            raise models.ProtectedError(why, set(self.providers.all()))
        return super().delete(*args, **kwargs)

    def why_it_stays(self) -> str:
        users = [str(row) for row in self.providers.all()] if self.pk else []
        if not users:
            return ""
        return (
            f"{self.name} cannot be deleted while {', '.join(users)} obey it: give them another"
            " policy first."
        )

    def as_value(self, rules: Mapping[str, domain.ReasonRule]) -> domain.Policy:
        """Return the plain value; a reason without a row counts what it counts by default."""
        plain = {
            field.name: getattr(self, field.name)
            for field in fields(domain.Policy)
            if field.name not in {"recovery", "what_counts"}
        }
        return domain.Policy(
            **plain,
            recovery=domain.Recovery(self.recovery),
            what_counts={**domain.DEFAULT_WHAT_COUNTS, **rules},
        )

    def is_plain(self) -> bool:
        """Whether every threshold is a number at all: else its own field says what is wrong."""
        numbers = [getattr(self, name, 0) for name in RANGES]
        return self.recovery in list(domain.Recovery) and all(
            isinstance(number, int | float) for number in numbers
        )

    def why_it_never_trips(self, rules: Mapping[str, domain.ReasonRule]) -> str | None:
        """Return why no outcome could trip this policy with these what-counts rows, or None."""
        problem = never_trips(self.as_value(rules))
        return problem.detail if problem else None

    @property
    def trips_at_once_only(self) -> bool:
        """Whether only a reason that trips at once can open it: allowed, and worth a word."""
        return not (self.failure_threshold or self.failure_rate_percent or self.slow_rate_percent)

    def _known_rules(self) -> Mapping[str, domain.ReasonRule]:
        if self.rules_to_be_saved is not None:
            return self.rules_to_be_saved
        return rules_of(self.reasons.all()) if self.pk else {}


class PolicyReason(Configured):
    """What one reason of failure counts under one policy."""

    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="reasons")
    reason = models.CharField(
        max_length=16,
        choices=choices(domain.Reason),
        help_text="Why a provider failed, as the agent saw it.",
    )
    weight = models.PositiveSmallIntegerField(
        default=domain.ReasonRule().weight,
        validators=[MinValueValidator(0), MaxValueValidator(10)],
        help_text="Failures that one such failure counts as, 0 to 10. 0: never counted.",
    )
    trips_at_once = models.BooleanField(
        "trips at once",
        default=False,
        help_text="One such failure opens the breaker (the quorums of hosts and keys still hold).",
    )
    open_duration_s = models.PositiveIntegerField(
        "own open time, s",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(RANGES["open_duration_s"][1])],
        help_text="Seconds out when this reason trips it; empty: the policy's own."
        " Allowed: 1 to 604,800.",
    )

    history = HistoricalRecords()

    class Meta(Configured.Meta):
        ordering = ["policy_id", "id"]
        verbose_name = "what counts"
        verbose_name_plural = "what counts"
        constraints = [
            models.UniqueConstraint(
                fields=["policy", "reason"],
                name="policyreason_once",
                violation_error_message="This reason has a row already: change that one.",
            ),
            within("weight", *RANGES["weight"], prefix="policyreason"),
            one_of("reason", domain.Reason, prefix="policyreason"),
            models.CheckConstraint(
                condition=Q(open_duration_s__isnull=True)
                | Q(open_duration_s__gte=1, open_duration_s__lte=RANGES["open_duration_s"][1]),
                name="policyreason_open_duration_s_range",
                violation_error_message="The open time must be from 1 to 604800 seconds.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.policy}: {self.reason}"

    def as_rule(self) -> domain.ReasonRule:
        """Return the plain value."""
        return domain.ReasonRule(self.weight, self.trips_at_once, self.open_duration_s)


def rules_of(rows: Iterable[PolicyReason]) -> dict[str, domain.ReasonRule]:
    """Return what-counts rows as the table that `domain.Policy` holds."""
    return {row.reason: row.as_rule() for row in rows}
