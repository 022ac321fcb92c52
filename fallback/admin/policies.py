"""Policies: thresholds, and beside them what each reason counts."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.utils.html import format_html_join

from fallback.admin.base import ConfiguredAdmin, link
from fallback.admin.confirmation import AsksFirst
from fallback.admin.questions import WhichPolicies
from fallback.admin.rehearsing import WithRehearsal
from fallback.admin.shadowing import WithFindings
from fallback.admin.words import NOTHING, duration
from fallback.domain import DEFAULT_WHAT_COUNTS, Reason, ReasonRule, Recovery
from fallback.models import Policy, PolicyReason

UNITS = {"s": "s", "ms": "ms", "percent": "%"}


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """Leaves the judgement that needs the what-counts rows to their formset, which has them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.rules_to_be_saved = {}
        for name, field in self.fields.items():
            field.label = _label(name)


class WhatCounts(BaseInlineFormSet):  # type: ignore[type-arg]  # not at run time
    """A row for every reason there is; one that has none yet shows what it counts by default."""

    def __init__(
        self, data: Any = None, files: Any = None, instance: Policy | None = None, **kwargs: Any
    ) -> None:
        known = (
            {row.reason for row in instance.reasons.all()} if instance and instance.pk else set()
        )
        self.missing = [reason for reason in Reason if reason not in known]
        kwargs["initial"] = [_initial(reason) for reason in self.missing]
        super().__init__(data, files, instance, **kwargs)
        self.extra, self.max_num = len(self.missing), len(Reason)

    def clean(self) -> None:
        super().clean()
        if any(self.errors) or not self.instance.is_plain():
            return
        rules = {
            form.cleaned_data["reason"]: ReasonRule(
                form.cleaned_data["weight"],
                form.cleaned_data["trips_at_once"],
                form.cleaned_data["open_duration_s"],
            )
            for form in self.forms
            if form.cleaned_data
        }
        never = self.instance.why_it_never_trips(rules)
        if never:
            raise ValidationError(never)


class WhatCountsForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """One reason. Its name is fixed, and a row that shows a default is saved like any other."""

    class Meta:
        model = PolicyReason
        fields = ["reason", "weight", "trips_at_once", "open_duration_s"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].disabled = True
        reason = self.initial.get("reason", "a reason")
        for name, field in self.fields.items():  # a table's cell has no label of its own
            field.widget.attrs["aria-label"] = f"{reason}: {name}".replace("_", " ")

    def has_changed(self) -> bool:
        return not self.instance.pk or super().has_changed()


def _label(name: str) -> str:
    """Return a field's name in words, with its unit in brackets."""
    words, _, last = name.rpartition("_")
    if last in UNITS:
        return f"{words.replace('_', ' ')} ({UNITS[last]})".capitalize()
    return name.replace("_", " ").capitalize()


def _initial(reason: Reason) -> dict[str, Any]:
    rule = DEFAULT_WHAT_COUNTS[reason]
    return {
        "reason": reason.value,
        "weight": rule.weight,
        "trips_at_once": rule.trips_at_once,
        "open_duration_s": rule.open_duration_s,
    }


class WhatCountsInline(admin.TabularInline):  # type: ignore[type-arg]  # not at run time
    """What counts, on the policy's page."""

    model = PolicyReason
    form = WhatCountsForm
    formset = WhatCounts
    can_delete = False
    verbose_name_plural = "What counts: the weight of each reason, or a trip at once"


@admin.register(Policy)
class PolicyAdmin(WithRehearsal, WithFindings, AsksFirst, ConfiguredAdmin):
    """The thresholds that breakers obey."""

    form = PolicyForm
    inlines = [WhatCountsInline]
    list_display = [
        "name",
        "count_rule",
        "rate_rule",
        "slow_rule",
        "out_for",
        "back",
        "is_shadow",
        "used_by",
    ]
    list_filter = [WhichPolicies]
    search_fields = ["name", "notes", "providers__slug"]
    search_help_text = "Name, notes, or a provider that obeys it."
    readonly_fields = ["used_by", "in_shadow"]
    fieldsets = [
        (None, {"fields": ["name", "used_by", "in_shadow"]}),
        ("Trips on count", {"fields": [("failure_threshold", "failure_window_s")]}),
        (
            "Trips on rate",
            {"fields": [("failure_rate_percent", "minimum_calls", "rate_window_s")]},
        ),
        (
            "Trips on slowness",
            {
                "fields": [("slow_rate_percent", "slow_after_ms")],
                "description": "Taken over the rate window, of at least its minimum of calls.",
            },
        ),
        ("Quorum", {"fields": [("distinct_hosts", "distinct_keys", "distinct_calls_for_stall")]}),
        (
            "Open time",
            {"fields": [("open_duration_s", "open_backoff", "open_duration_max_s")]},
        ),
        (
            "Recovery",
            {
                "fields": [
                    "recovery",
                    ("probe_slots", "probe_lease_s"),
                    ("probe_successes", "retrip_threshold"),
                ],
                "description": "The four numbers are for recovery by probe.",
            },
        ),
        (
            "Shadow",
            {
                "fields": ["shadow"],
                "classes": ["danger"],
                "description": "⚠ Danger: while it is ticked, no outage moves a single call.",
            },
        ),
        ("For operators", {"fields": ["notes"]}),
    ]

    @admin.display(description="trips on count")
    def count_rule(self, row: Policy) -> str:
        if not row.failure_threshold:
            return "off"
        return f"{row.failure_threshold} in {row.failure_window_s} s"

    @admin.display(description="on rate")
    def rate_rule(self, row: Policy) -> str:
        if not row.failure_rate_percent:
            return "off"
        percent, of = row.failure_rate_percent, row.minimum_calls
        return f"{percent} % of {of}+ in {row.rate_window_s} s"

    @admin.display(description="on slowness")
    def slow_rule(self, row: Policy) -> str:
        if not row.slow_rate_percent:
            return "off"
        return f"{row.slow_rate_percent} % over {row.slow_after_ms} ms"

    @admin.display(description="out for")
    def out_for(self, row: Policy) -> str:
        return duration(timedelta(seconds=row.open_duration_s))

    @admin.display(description="back by")
    def back(self, row: Policy) -> str:
        if row.recovery == Recovery.TIMER:
            return "timer"
        return f"{row.probe_successes} probe{'s' if row.probe_successes > 1 else ''}"

    @admin.display(description="shadow", ordering="shadow")
    def is_shadow(self, row: Policy) -> str:
        return "⚠ yes: nothing is diverted" if row.shadow else "no"

    @admin.display(description="used by")
    def used_by(self, row: Policy) -> str:
        if not row.pk:
            return NOTHING
        links = [(link(provider),) for provider in row.providers.all()]
        return format_html_join(", ", "{}", links) or NOTHING

    def get_queryset(self, request: HttpRequest) -> QuerySet[Policy]:
        queryset: QuerySet[Policy] = super().get_queryset(request)
        return queryset.prefetch_related("providers")
