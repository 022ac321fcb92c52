"""What happened: incidents and transitions, to read and to search."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from fallback import alerts, stream
from fallback.admin.base import HistoryAdmin, ReadOnly, admin_url, link, pretty
from fallback.admin.failures import failures_in
from fallback.admin.questions import WhichIncidents, WhichLetters
from fallback.admin.words import NOTHING, duration, moment, state_badge
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.models import AlertThread, DeadLetter, Incident, Provider, Transition

IN_INCIDENT: list[str] = [
    "when",
    "name",
    "from_state",
    "to_state",
    "cause",
    "actor",
    "reason",
    "evidence_words",
]
ALL_OF_IT: list[str] = [
    "when",
    "provider",
    "kind",
    "name",
    "from_state",
    "to_state",
    "cause",
    "actor",
    "reason",
    "evidence_json",
    "incident_link",
    "event_id",
    "version",
]


class Arrows:
    """How a transition is shown, in lists and on an incident's page."""

    @admin.display(description="at", ordering="at")
    def when(self, row: Transition) -> str:
        return moment(row.at)

    @admin.display(description="from")
    def from_state(self, row: Transition) -> str:
        return state_badge(row.before)

    @admin.display(description="to", ordering="after")
    def to_state(self, row: Transition) -> str:
        return state_badge(row.after)

    @admin.display(description="evidence")
    def evidence_json(self, row: Transition) -> str:
        return pretty(row.evidence)

    @admin.display(description="evidence")
    def evidence_words(self, row: Transition) -> str:
        return in_words(row.evidence) or NOTHING

    @admin.display(description="incident")
    def incident_link(self, row: Transition) -> str:
        return link(row.incident, f"#{row.incident_id}")


class TransitionInline(Arrows, ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # not at run time
    """The transitions of one incident, oldest first."""

    model = Transition
    fields = [*IN_INCIDENT]
    readonly_fields = IN_INCIDENT
    ordering = ["at", "id"]
    extra = 0
    verbose_name_plural = "What happened, oldest first"


@admin.register(Transition)
class TransitionAdmin(Arrows, HistoryAdmin):
    """Every change of a breaker's state."""

    list_display = [
        "when",
        "provider",
        "from_state",
        "to_state",
        "cause",
        "actor",
        "reason",
        "incident_link",
    ]
    list_display_links = ["when"]
    list_filter = [
        "provider",
        "kind",
        ("after", admin.AllValuesFieldListFilter),
        ("cause", admin.AllValuesFieldListFilter),
        "at",
    ]
    list_select_related = ["incident"]
    search_fields = ["provider", "actor", "reason", "event_id"]
    date_hierarchy = "at"
    fields = [*ALL_OF_IT]
    readonly_fields = ALL_OF_IT


@admin.register(Incident)
class IncidentAdmin(HistoryAdmin):
    """Outages, with the calls they touched."""

    inlines = [TransitionInline]
    list_display = [
        "number",
        "provider",
        "state",
        "opened",
        "out_for",
        "why",
        "call_counts",
        "owner",
    ]
    list_filter = [
        WhichIncidents,
        "provider",
        "kind",
        ("cause", admin.AllValuesFieldListFilter),
        "opened_at",
    ]
    actions = ["acknowledge"]  # type: ignore[assignment]  # its base has none
    search_fields = ["provider", "reason", "actor", "key"]
    date_hierarchy = "opened_at"
    readonly_fields = [
        "state",
        "opened",
        "closed",
        "detected_after",
        "out_for",
        "last_event",
        "calls",
        "acknowledged",
        "behind",
    ]
    fieldsets = [
        (None, {"fields": ["provider", "kind", "state", "calls", "acknowledged", "behind"]}),
        ("When", {"fields": ["opened", "detected_after", "out_for", "closed", "last_event"]}),
        ("Why", {"fields": ["cause", "reason", "actor", "trips", "closing_cause"]}),
        ("For support", {"fields": ["key"], "classes": ["collapse"]}),
    ]

    @admin.display(description="incident")
    def number(self, row: Incident) -> str:
        return f"#{row.pk}"

    @admin.display(description="state", ordering="closed_at")
    def state(self, row: Incident) -> SafeString:
        if row.closed_at:
            return format_html('<span class="state state-closed">{}</span>', "● over")
        return format_html('<span class="state state-open">{}</span>', "■ going on")

    @admin.display(description="opened", ordering="opened_at")
    def opened(self, row: Incident) -> str:
        return moment(row.opened_at)

    @admin.display(description="why", ordering="cause")
    def why(self, row: Incident) -> str:
        return Truncator(": ".join(filter(None, [row.get_cause_display(), row.reason]))).chars(80)

    @admin.display(description="closed", ordering="closed_at")
    def closed(self, row: Incident) -> str:
        return moment(row.closed_at)

    @admin.display(description="last event")
    def last_event(self, row: Incident) -> str:
        return moment(row.last_event_at)

    @admin.display(description="out for")
    def out_for(self, row: Incident) -> str:
        length = (row.closed_at or timezone.now()) - row.opened_at
        return duration(length) + ("" if row.closed_at else " so far")

    @admin.display(description="detected after")
    def detected_after(self, row: Incident) -> str:
        if row.first_failure_at is None:
            return NOTHING
        return f"{_precisely(row.opened_at - row.first_failure_at)} from its first failure"

    @admin.display(description="calls", ordering="diverted")
    def call_counts(self, row: Incident) -> str:
        return f"{row.diverted} diverted, {row.hurt} hurt, {row.saved} saved"

    @admin.display(description="calls")
    def calls(self, row: Incident) -> SafeString:
        return format_html(
            '<ul class="calls"><li><b>{}</b> diverted: began elsewhere because of it</li>'
            "<li><b>{}</b> hurt: it failed in them</li>"
            "<li><b>{}</b> saved: had a transcript from another provider</li></ul>",
            row.diverted,
            row.hurt,
            row.saved,
        )

    @admin.display(description="acknowledged by")
    def acknowledged(self, row: Incident) -> SafeString | str:
        threads = AlertThread.objects.filter(incident_key=row.key).exclude(acknowledged_by="")
        thread = threads.first()
        if thread is None:
            return NOTHING
        return format_html("{}, {}", thread.acknowledged_by, moment(thread.acknowledged_at))

    @admin.display(description="acknowledged by")
    def owner(self, row: Any) -> str:
        return row.owner or NOTHING

    @admin.display(description="behind it")
    def behind(self, row: Incident) -> SafeString | str:
        provider = Provider.objects.filter(kind=row.kind, slug=row.provider).first()
        alert_list = f"{admin_url('alert', 'changelist')}?{urlencode({'q': row.key})}"
        links = [(alert_list, "alerts sent about it")]
        if provider:
            links.append((failures_in(row, provider), "its failures, one by one"))
            links.append((admin_url("provider", "change", provider.pk), "the provider"))
        return format_html_join(" · ", '<a href="{}">{}</a>', links)

    def get_queryset(self, request: HttpRequest) -> Any:
        seen = AlertThread.objects.filter(incident_key=OuterRef("key")).exclude(acknowledged_by="")
        owner = Coalesce(Subquery(seen.values("acknowledged_by")[:1]), Value(""))
        found = super().get_queryset(request).annotate(owner=owner)
        return found.prefetch_related("transitions")

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fallback.acknowledge_incident")

    @admin.action(permissions=["acknowledge"], description="Acknowledge: stop the reminders")
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        """Do what the button in Slack does, for each incident that goes on."""
        by = f"admin:{request.user.get_username()}"
        for row in queryset:
            thread = AlertThread.objects.filter(incident_key=row.key).first()
            if row.closed_at or thread is None:
                why = "it is over" if row.closed_at else "nothing was told to Slack"
                messages.warning(request, f"#{row.pk}: not done, {why}.")
                continue
            first = alerts.acknowledge(thread, by)
            told = "is yours: no more reminders" if first == by else f"was already {first}'s"
            messages.success(request, f"#{row.pk} {told}.")


@admin.register(DeadLetter)
class DeadLetterAdmin(HistoryAdmin):
    """Events that could not be carried: there should be none."""

    list_display = ["at", "kind", "entry_id", "problem", "deliveries", "replayed_at"]
    list_filter = [WhichLetters, "kind", "at"]
    search_fields = ["entry_id", "problem"]
    fields = ["at", "kind", "entry_id", "problem", "deliveries", "replayed_at", "fields_json"]
    readonly_fields = ["fields_json"]
    actions = ["replay"]  # type: ignore[assignment]  # its base has none

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fallback.change_deadletter")

    @admin.action(permissions=["replay"], description="Put back into the stream")
    def replay(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Have the pump try again. What did get through is known by its id: nothing is doubled."""
        count = 0
        for letter in queryset.exclude(fields={}):
            try:
                stream.put_back(Kind(letter.kind), letter.fields)
            except BreakerUnavailable as error:
                messages.error(request, f"{letter.entry_id}: not done. {error}")
                break
            DeadLetter.objects.filter(pk=letter.pk).update(replayed_at=timezone.now())
            count += 1
        messages.success(request, f"{count} of {len(queryset)} put back; those without fields"
                         " were trimmed before they were read, and cannot be.")  # fmt: skip

    @admin.display(description="fields")
    def fields_json(self, row: DeadLetter) -> str:
        return pretty(row.fields)


def in_words(evidence: Any) -> str:
    """Return evidence on one line: “failures 2; hosts pod-3, pod-7; reasons connection 2”."""
    if isinstance(evidence, dict):
        parts = (f"{name.replace('_', ' ')} {in_words(it)}" for name, it in evidence.items())
        return "; ".join(parts)
    if isinstance(evidence, list):
        return ", ".join(map(in_words, evidence))
    return str(evidence)


def _precisely(length: timedelta) -> str:
    seconds = length.total_seconds()
    return f"{max(seconds, 0):.1f} s" if seconds < 60 else duration(length)
