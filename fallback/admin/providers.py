"""Providers, with the live state of the breaker beside each."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fallback import stats
from fallback.admin.asking import PlainChangeList
from fallback.admin.base import ConfiguredAdmin, LanguageTags, admin_url, link
from fallback.admin.confirmation import AsksFirst
from fallback.admin.failures import failures_url, failures_view
from fallback.admin.overrides import board_now, order_action, order_url, order_view
from fallback.admin.questions import WhichProviders
from fallback.admin.shadowing import SHADOW_FIELDSET, WithShadow
from fallback.admin.words import (
    NOTHING,
    UNREACHABLE,
    NotShown,
    Shown,
    moment,
    state_badge,
    who_and_where,
)
from fallback.domain import BREAKER_ACTOR, EventName
from fallback.models import Incident, Provider, Transition
from fallback.orders import ORDERS, PERMISSION
from fallback.stats.counts import Counts

LAST_TRANSITIONS = 10
LAST_ORDERS = 100
ORDER_EVENTS = [EventName.OVERRIDE_SET, EventName.OVERRIDE_CLEARED, EventName.RESET]
ORDER_EVENTS += [EventName.RECOVERED]  # a reset of what was out


class LiveChangeList(PlainChangeList):
    """Puts the live state and the last hour on each row: one look each for the whole page."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        board = board_now()
        now = timezone.now()
        hour = stats.read(now - timedelta(hours=1), now)
        for row in self.result_list:
            row.shown = shown_of(row, board)
            key = (row.kind, row.slug)
            row.hour = hour.total(*key) if key in hour.providers else Counts()


def shown_on(row: Any) -> Shown | NotShown:
    """Return what the list put on its row."""
    shown: Shown | NotShown = row.shown
    return shown


def shown_of(row: Provider, board: Mapping[tuple[str, str], Shown]) -> Shown | NotShown:
    """Return the breaker of a provider as it is shown, or why there is none to show."""
    if not row.enabled:
        return NotShown("disabled")
    return board.get((row.kind, row.slug)) or NotShown(UNREACHABLE)


def orders_to(row: Provider) -> list[dict[str, Any]]:
    """Return what operators told a provider's breaker, newest first."""
    moves = Transition.objects.filter(kind=row.kind, provider=row.slug, name__in=ORDER_EVENTS)
    people = moves.exclude(actor__in=["", BREAKER_ACTOR, "policy"]).select_related("incident")
    found = []
    for move in people[:LAST_ORDERS]:
        who, where = who_and_where(move.actor)
        found.append(
            {
                "at": moment(move.at),
                "who": who,
                "where": where,
                "what": move.get_name_display(),
                "after": state_badge(move.after),
                "why": move.reason,
                "incident": link(move.incident, f"#{move.incident_id}"),
            }
        )
    return found


@admin.register(Provider)
class ProviderAdmin(WithShadow, AsksFirst, ConfiguredAdmin):
    """What agents can be sent to."""

    object_history_template = "admin/fallback/provider/history.html"
    list_display = [
        "provider",
        "live_state",
        "until",
        "failures",
        "last_hour",
        "override",
        "route_list",
        "policy_link",
    ]
    list_filter = [WhichProviders, "kind", "policy"]
    search_fields = ["slug", "name", "notes", "policy__name", "steps__route__slug"]
    search_help_text = "Name, notes, policy, or a route that uses it."
    list_select_related = ["policy"]
    ordering = ["kind", "slug"]
    actions = [order_action(order) for order in ORDERS.values()]
    readonly_fields = ["route_list", "shadow_findings"]
    fieldsets = [
        (None, {"fields": ["name", "slug", "kind", "enabled", "policy", "route_list"]}),
        ("What agents are told", {"fields": ["settings", "languages", "credential_hint"]}),
        SHADOW_FIELDSET,
        ("For operators", {"fields": ["notes"]}),
    ]

    @admin.display(description="provider", ordering="slug")
    def provider(self, row: Provider) -> str:
        return str(row)

    @admin.display(description="breaker")
    def live_state(self, row: Provider) -> str:
        shown = shown_on(row)
        since = shown.since
        if since == NOTHING:
            return shown.badge
        return format_html('{}<div class="since">since {}</div>', shown.badge, since)

    @admin.display(description="until")
    def until(self, row: Provider) -> str:
        return shown_on(row).until

    @admin.display(description="failures")
    def failures(self, row: Provider) -> SafeString | str:
        shown = shown_on(row)
        if isinstance(shown, NotShown):
            return shown.failures
        url = failures_url(row, last_s=shown.breaker["failure_window_s"])
        return format_html('<a href="{}">{}</a>', url, shown.failures)

    @admin.display(description="last hour")
    def last_hour(self, row: Any) -> SafeString | str:
        hour: Counts = row.hour
        if not (hour.calls or hour.failures):
            return "no calls"
        words = f"{hour.failures:,} failed, {hour.calls:,} calls"
        return format_html('<a href="{}">{}</a>', failures_url(row), words)

    @admin.display(description="override")
    def override(self, row: Provider) -> str:
        return shown_on(row).override

    @admin.display(description="policy", ordering="policy__name")
    def policy_link(self, row: Provider) -> str:
        return link(row.policy)

    @admin.display(description="in the chains of")
    def route_list(self, row: Provider) -> str:
        links = [(link(step.route),) for step in row.steps.all()]
        return format_html_join(", ", "{}", links) or NOTHING

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        queryset: QuerySet[Provider] = super().get_queryset(request)
        return queryset.prefetch_related("steps__route")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LiveChangeList

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "languages":
            kwargs |= {"form_class": LanguageTags}
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(order_view)
        listed = self.admin_site.admin_view(failures_view)
        return [
            path("order/<slug:verb>/", view, name="fallback_provider_order"),
            path("<path:object_id>/failures/", listed, name="fallback_provider_failures"),
            *super().get_urls(),
        ]

    def has_override_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {**(extra_context or {}), "live": self._live(request, object_id)}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        context = {**(extra_context or {}), "orders": orders_to(row) if row else []}
        page: HttpResponse = super().history_view(request, object_id, context)
        return page

    def _live(self, request: HttpRequest, object_id: str) -> dict[str, Any] | None:
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return None
        of_this = {"kind": row.kind, "provider": row.slug}
        may_order = self.has_override_permission(request) and row.enabled
        return {
            "shown": shown_of(row, board_now()),
            "orders": [(order, order_url(order.verb)) for order in ORDERS.values()]
            if may_order
            else [],
            "transitions": [
                (moment(it.at), state_badge(it.before), state_badge(it.after), it)
                for it in Transition.objects.filter(**of_this)[:LAST_TRANSITIONS]
            ],
            "failures_url": failures_url(row),
            "transitions_url": f"{admin_url('transition', 'changelist')}?{urlencode(of_this)}",
            "incidents_url": f"{admin_url('incident', 'changelist')}?{urlencode(of_this)}",
            "incident": Incident.objects.filter(**of_this, closed_at=None).first(),
        }
