"""Alerts: templates with their preview, destinations, the delivery log, Slack operators."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextareaWidget
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fallback import alerts
from fallback.admin.asking import whole
from fallback.admin.base import ConfiguredAdmin, HistoryAdmin, LanguageTags, admin_url, link, pretty
from fallback.admin.confirmation import AsksFirst
from fallback.admin.questions import WhichDestinations, WhichTemplates
from fallback.admin.slack_preview import html_of
from fallback.admin.words import NOTHING, moment
from fallback.alerts.cards import filled
from fallback.domain import Event, Kind
from fallback.messages import mentions, template
from fallback.messages.alerts import Buttons, Card, incident_message
from fallback.messages.blocks import Message
from fallback.messages.events import AlertEvent
from fallback.messages.values import NAMES, known_names, sample, values_of
from fallback.models import (
    Alert,
    AlertDestination,
    AlertTemplate,
    SlackOperator,
    Transition,
)
from fallback.models.alert import normalized

RECENT = 10
WIDE = forms.TextInput(attrs={"class": "vLargeTextField"})
SAMPLE = "sample"


class NeedsSlack:
    """Says on its list what is missing of Slack's side."""

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        for line in alerts.missing():
            messages.warning(request, f"Slack: {line}")
        if not AlertDestination.objects.filter(enabled=True).exists():
            messages.warning(request, "Slack: there is no destination: no alert goes anywhere.")
        page: HttpResponse = super().changelist_view(request, *args, **kwargs)  # type: ignore[misc]
        return page


class MentionList(LanguageTags):
    """Mentions as people write them: separated by commas; kept by their ids."""

    def to_python(self, value: Any) -> Any:
        return normalized(super().to_python(value))


class WithMentions(ConfiguredAdmin):
    """A model with a field of mentions."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "mentions":
            kwargs |= {"form_class": MentionList, "widget": WIDE}
        if db_field.name == "title":
            kwargs |= {"widget": WIDE}
        if db_field.name == "body":
            kwargs |= {"widget": AdminTextareaWidget(attrs={"rows": 9})}
        return super().formfield_for_dbfield(db_field, request, **kwargs)


@admin.register(AlertTemplate)
class AlertTemplateAdmin(AsksFirst, NeedsSlack, WithMentions):
    """What is said about each event."""

    change_form_template = "admin/fallback/alerttemplate/change_form.html"
    list_display = ["name", "event", "enabled", "severity", "destination", "mentioned"]
    list_display_links = ["name", "event"]
    list_filter = [WhichTemplates, "destination"]
    search_fields = ["name", "title", "body"]
    readonly_fields = ["values"]
    fieldsets = [
        (None, {"fields": ["event", "name", "enabled", "severity"]}),
        ("What is said", {"fields": ["title", "body", "values"]}),
        ("To whom", {"fields": ["destination", "mentions"]}),
    ]

    class Media:
        js = ["fallback/alert_preview.js"]

    @admin.display(description="mentions")
    def mentioned(self, row: AlertTemplate) -> str:
        return ", ".join(row.mentions) or NOTHING

    @admin.display(description="values")
    def values(self, row: AlertTemplate) -> SafeString | str:
        if row.event not in list(AlertEvent):
            return "Save it once: then the values of its event are listed here."
        known = sorted(known_names(AlertEvent(row.event)))
        rows = ((f"{{{name}}}", NAMES[name][0]) for name in known)
        items = format_html_join("", "<li><code>{}</code> {}</li>", rows)
        return format_html('<ul class="values">{}</ul>', items)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("preview/", view, name="fallback_alerttemplate_preview"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        row = kw.get("obj")
        if row is not None:
            context["recent"] = recent(row.event)
            context["preview"] = preview(row, context["recent"][0][0])
        context["can_send"] = alerts.is_configured()
        return super().render_change_form(request, context, *args, **kw)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Return what a template that is being written would look like."""
        if not (self.has_view_permission(request) and request.method == "POST"):
            return HttpResponse(status=403)
        row = AlertTemplate(
            event=request.POST.get("event", ""),
            title=request.POST.get("title", "")[:1000],
            body=request.POST.get("body", "")[:10_000].replace("\r\n", "\n"),
            severity=request.POST.get("severity", ""),
            mentions=MentionList(required=False).to_python(request.POST.get("mentions", "")),
            destination=AlertDestination.objects.filter(
                pk=whole(request.POST.get("destination", "")) or 0
            ).first(),
        )
        return HttpResponse(preview(row, request.POST.get("preview_of", SAMPLE)))

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        if "_send_test" in request.POST:
            self._send_test(request, obj)
            return HttpResponseRedirect(request.path)
        page: HttpResponse = super().response_change(request, obj)
        return page

    def _send_test(self, request: HttpRequest, row: AlertTemplate) -> None:
        if not alerts.is_configured():
            messages.error(request, "No test was sent: SLACK_BOT_TOKEN is not set.")
            return
        places = [row.destination] if row.destination else general_destinations()
        for place in places:
            values = chosen(row.event, request.POST.get("preview_of", SAMPLE))
            alerts.send_test(row, place, values)
            messages.success(request, f"A test is on its way to {place}; see the alerts.")
        if not places:
            messages.error(request, "No test was sent: there is no destination.")


def general_destinations() -> list[AlertDestination]:
    """Return where alerts go that no provider or route sends elsewhere."""
    rows = AlertDestination.objects.filter(enabled=True, providers=None, routes=None)
    return list(rows)


def recent(event: str) -> list[tuple[str, str]]:
    """Return what a preview can be made of, as (choice, label): real events, then a sample."""
    moves = Transition.objects.filter(name=event)[:RECENT]
    notices = Alert.objects.filter(event=event).exclude(event_id__startswith="test")[:RECENT]
    found = [(f"t{row.pk}", f"{row.provider}, {row.at:%Y-%m-%d %H:%M:%S} UTC") for row in moves]
    if not found:
        found = [
            (f"a{row.pk}", f"{row.provider}, {row.at:%Y-%m-%d %H:%M:%S} UTC") for row in notices
        ]
    return [*found, (SAMPLE, "a made-up sample")]


def chosen(event: str, choice: str) -> Mapping[str, Any]:
    """Return the values of a choice; of the sample where there is no such event any more."""
    number = whole(choice[1:]) or 0
    if choice.startswith("t") and (move := Transition.objects.filter(pk=number).first()):
        return values_of(_event(move)) | {"incident": str(move.incident_id or "")}
    if choice.startswith("a") and (alert := Alert.objects.filter(pk=number).first()):
        values: Mapping[str, Any] = alert.values
        return values
    return sample(AlertEvent(event)) if event in list(AlertEvent) else {}


def preview(row: AlertTemplate, choice: str) -> SafeString:
    """Return a template as Slack would show it, and what is wrong with it."""
    if row.event not in list(AlertEvent):
        return format_html("<p>{}</p>", "Choose an event.")
    event = AlertEvent(row.event)
    problems = [one for found in template.problems(row.title, row.body, event).values()
                for one in found]  # fmt: skip
    problems += [mentions.problem(str(one)) for one in row.mentions if not mentions.parsed(one)]
    wrong = format_html_join("", '<li class="errornote">{}</li>', ((one,) for one in problems))
    return format_html('<ul class="problems">{}</ul>{}', wrong, html_of(_message(row, choice)))


def _message(row: AlertTemplate, choice: str) -> Message:
    values = chosen(row.event, choice)
    now_ms = int(timezone.now().timestamp() * 1000)
    at_ms = int(values.get("at") or now_ms)
    told = filled(row, {"duration": "31 min 4 s", **values}, at_ms)
    whom = row.mentions
    if not whom and row.severity == "critical":
        places = [row.destination] if row.destination else general_destinations()
        whom = [one for place in places for one in place.mentions]
    return incident_message(_card(told, values, mentions.together(map(str, whom))))


def _card(told: Any, values: Mapping[str, Any], whom: str) -> Card:
    """Return the facts of an event as its message has them."""
    if "diverted" not in values:
        return Card(told, str(values.get("state", "")).replace(" ", "_"), whom)
    counts = (int(values["diverted"]), int(values.get("hurt", 0)), int(values.get("saved", 0)))
    state = str(values.get("state", "")).replace(" ", "_")
    is_open = state not in {"closed", "shadow", "forced_closed"}
    return Card(
        told, state, whom, since_ms=told.at_ms, until_ms=values.get("until"), calls=counts,
        lasted=str(values.get("duration", "31 min 4 s")), reasons=str(values.get("reasons", "")),
        buttons=Buttons(0, "", can_acknowledge=True) if is_open else None,
    )  # fmt: skip


def _event(row: Transition) -> Event:
    return Event(
        id=row.event_id, name=row.name, kind=Kind(row.kind), provider=row.provider,
        before=row.before, after=row.after, at_ms=int(row.at.timestamp() * 1000), cause=row.cause,
        actor=row.actor, reason=row.reason, incident="", evidence=row.evidence,
    )  # fmt: skip


@admin.register(AlertDestination)
class AlertDestinationAdmin(AsksFirst, NeedsSlack, WithMentions):
    """Where alerts go."""

    list_display = ["name", "channel", "enabled", "meant_for", "mentioned", "waiting", "trouble"]
    list_filter = [WhichDestinations]
    search_fields = ["name", "channel", "notes"]
    filter_horizontal = ["providers", "routes"]
    readonly_fields = ["waiting", "trouble"]
    fieldsets = [
        (None, {"fields": ["name", "kind", "channel", "enabled", "mentions", "remind_every_min"]}),
        ("Only for", {"fields": ["providers", "routes"]}),
        ("For operators", {"fields": ["notes", "waiting", "trouble"]}),
    ]

    @admin.display(description="for")
    def meant_for(self, row: AlertDestination) -> str:
        own = [*map(str, row.providers.all()), *map(str, row.routes.all())]
        return ", ".join(own) or "everything else"

    @admin.display(description="mentions")
    def mentioned(self, row: AlertDestination) -> str:
        return ", ".join(row.mentions) or NOTHING

    @admin.display(description="waiting")
    def waiting(self, row: Any) -> str:
        count = row.waits if row.pk else 0
        held = row.held_until if row.held_until and row.held_until > timezone.now() else None
        url = f"{admin_url('alert', 'changelist')}?status__exact=pending&destination__id__exact="
        until = format_html(", held until {}", moment(held)) if held else ""
        return format_html('<a href="{}{}">{}</a>{}', url, row.pk, count, until)

    @admin.display(description="trouble")
    def trouble(self, row: AlertDestination) -> SafeString | str:
        if not row.problem:
            return NOTHING
        return format_html('<span class="state state-open">■ {}</span>', row.problem)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertDestination]:
        queryset: QuerySet[AlertDestination] = super().get_queryset(request)
        waits = [Alert.Status.PENDING, Alert.Status.SENDING]
        count = Count("alerts", filter=Q(alerts__status__in=waits))
        return queryset.annotate(waits=count).prefetch_related("providers", "routes")


@admin.register(Alert)
class AlertAdmin(NeedsSlack, HistoryAdmin):
    """Every alert, what became of it, and those that could not be delivered."""

    list_display = ["when", "state", "event", "provider", "place", "delay", "problem"]
    list_display_links = ["when"]
    list_filter = ["status", "event", "destination", "provider"]
    list_select_related = ["destination"]
    search_fields = ["event_id", "provider", "problem", "thread__incident_key"]
    search_help_text = "Event id, provider, incident's key, or what went wrong."
    date_hierarchy = "at"
    actions = ["send_again"]  # type: ignore[assignment]  # its base has none
    fields = [
        "when", "event", "provider", "destination", "state", "delay", "problem", "ts", "incident",
        "acknowledged", "values_json", "event_id",
    ]  # fmt: skip
    readonly_fields = ["when", "state", "delay", "incident", "acknowledged", "values_json"]

    @admin.display(description="at", ordering="at")
    def when(self, row: Alert) -> str:
        return moment(row.at)

    @admin.display(description="status", ordering="status")
    def state(self, row: Alert) -> SafeString:
        shape, colour = _STATES.get(Alert.Status(row.status), ("◌", "unknown"))
        words = row.get_status_display()
        return format_html('<span class="state state-{}">{} {}</span>', colour, shape, words)

    @admin.display(description="to", ordering="destination__name")
    def place(self, row: Alert) -> str:
        return row.destination.name

    @admin.display(description="told after")
    def delay(self, row: Alert) -> str:
        return f"{max((row.sent_at - row.at).total_seconds(), 0):.1f} s" if row.sent_at else NOTHING

    @admin.display(description="incident")
    def incident(self, row: Alert) -> str:
        found = Transition.objects.filter(incident__key=row.thread.incident_key).first()
        return link(found.incident) if found and row.thread.incident_key else NOTHING

    @admin.display(description="acknowledged by")
    def acknowledged(self, row: Alert) -> str:
        return row.thread.acknowledged_by or NOTHING

    @admin.display(description="values")
    def values_json(self, row: Alert) -> str:
        return pretty(row.values)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fallback.resend_alert")

    @admin.action(permissions=["resend"], description="Send again (those not delivered)")
    def send_again(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        count = alerts.send_again(queryset.filter(status=Alert.Status.DEAD))
        messages.success(request, f"{count} of {len(queryset)} will be sent again.")


_STATES = {
    Alert.Status.SENT: ("●", "closed"),
    Alert.Status.DEAD: ("■", "open"),
    Alert.Status.PENDING: ("◐", "half_open"),
    Alert.Status.SENDING: ("◐", "half_open"),
}


@admin.register(SlackOperator)
class SlackOperatorAdmin(NeedsSlack, ConfiguredAdmin):
    """Who may give orders in Slack."""

    list_display = ["name", "slack_user", "enabled"]
    search_fields = ["name", "slack_user", "notes"]
