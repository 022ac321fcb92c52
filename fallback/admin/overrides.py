"""The five orders to a breaker, and the page that asks for a reason and an end before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from fallback import catalog, services, status
from fallback.admin.base import CSS, admin_url
from fallback.admin.words import Shown
from fallback.domain import ADMITTING_STATES, Kind, State
from fallback.errors import FallbackError
from fallback.models import Provider

UNTIL_CLEARED = "cleared"
ENDS = [
    ("900", "15 minutes"),
    ("1800", "30 minutes"),
    ("3600", "1 hour"),
    ("7200", "2 hours"),
    ("28800", "8 hours"),
    ("86400", "24 hours"),
    (UNTIL_CLEARED, "until cleared — nobody will be reminded"),
]
PERMISSION = "fallback.override_breaker"


@dataclass(frozen=True, slots=True)
class Order:
    """One order: what it is called, and what it does to calls. `state` None: no override."""

    verb: str
    label: str
    effect: str
    danger: str = ""
    state: State | None = None
    has_end: bool = False


ORDERS = {
    order.verb: order
    for order in (
        Order(
            "force-open",
            "Force open",
            "New calls go to the next provider of their chain, whatever this one reports.",
            "Every new call leaves this provider at once. Calls that have begun on it stay.",
            State.FORCED_OPEN,
            has_end=True,
        ),
        Order(
            "force-closed",
            "Force closed",
            "New calls go to this provider, however often it fails.",
            "Nothing protects calls from this provider until it ends: an outage will be heard.",
            State.FORCED_CLOSED,
            has_end=True,
        ),
        Order(
            "shadow",
            "Shadow",
            "Failures are counted and told, and no call is diverted.",
            "Nothing protects calls from this provider until it ends: an outage will be heard.",
            State.SHADOW,
            has_end=True,
        ),
        Order(
            "auto",
            "Back to automatic",
            "The override ends, and the breaker obeys its policy again.",
        ),
        Order(
            "reset",
            "Reset",
            "Closed again with nothing counted, and any override ended: calls return to this"
            " provider at once, with no probe.",
        ),
    )
}


class OrderForm(forms.Form):
    """A reason, and an end where the order has one."""

    reason = forms.CharField(
        max_length=300,
        widget=forms.TextInput(attrs={"class": "vLargeTextField", "autofocus": True}),
        help_text="Why, in a few words: it is shown in Slack, on the dashboard and in the history.",
    )
    end = forms.ChoiceField(
        choices=ENDS,
        initial="1800",
        label="Ends after",
        help_text="Then the breaker obeys its policy again, by itself.",
    )

    def __init__(self, *args: Any, has_end: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not has_end:
            del self.fields["end"]

    def for_s(self) -> int | None:
        """Return the seconds it holds, None until cleared."""
        end = self.cleaned_data.get("end", UNTIL_CLEARED)
        return None if end == UNTIL_CLEARED else int(end)


def order_action(order: Order) -> Any:
    """Return the list's action, which leads to the page that asks."""

    @admin.action(
        permissions=["override"], description=f"{order.label}…{' ⚠' if order.danger else ''}"
    )
    def ask(model_admin: Any, request: HttpRequest, queryset: Any) -> HttpResponse:
        ids = ",".join(str(pk) for pk in queryset.values_list("pk", flat=True))
        return HttpResponseRedirect(f"{order_url(order.verb)}?ids={ids}")

    ask.__name__ = order.verb.replace("-", "_")
    return ask


def order_url(verb: str) -> str:
    """Return the address of the page that asks."""
    return admin_url("provider", "order", verb)


def order_view(request: HttpRequest, verb: str) -> HttpResponse:
    """Ask for a reason and an end; then give the order to each provider."""
    order = ORDERS.get(verb)
    if order is None:
        raise Http404(verb)
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    providers = _chosen(request)
    form = OrderForm(request.POST or None, has_end=order.has_end)
    if form.is_valid():
        for provider in providers:
            _give(request, order, provider, form)
        return HttpResponseRedirect(_back(request))
    return _page(request, order, providers, form)


def _chosen(request: HttpRequest) -> Sequence[Provider]:
    ids = [pk for pk in request.GET.get("ids", "").split(",") if pk.isdecimal()]
    providers = list(Provider.objects.filter(pk__in=ids[:500]).select_related("policy"))
    if not providers:
        raise Http404("no such provider")
    return providers


def _give(request: HttpRequest, order: Order, provider: Provider, form: OrderForm) -> None:
    kind, slug, reason = Kind(provider.kind), provider.slug, form.cleaned_data["reason"]
    by = f"admin:{request.user.get_username()}"
    try:
        if order.state is not None:
            services.set_override(
                kind, slug, state=order.state, reason=reason, for_s=form.for_s(), by=by
            )
        elif order.verb == "reset":
            services.reset_breaker(kind, slug, reason=reason, by=by)
        else:
            services.clear_override(kind, slug, reason=reason, by=by)
    except FallbackError as error:
        messages.error(request, f"{order.label}, {slug}: not done. {error}")
        return
    status.expire()  # the next page must show it
    end = f", {dict(ENDS)[form.cleaned_data['end']]}" if order.has_end else ""
    _log(request, provider, f"{order.label}{end}: {reason}")
    messages.success(request, f"{order.label}, {slug}: done{end}.")


def _log(request: HttpRequest, provider: Provider, message: str) -> None:
    LogEntry.objects.log_actions(
        str(request.user.pk), [provider], CHANGE, change_message=message, single_object=True
    )


def _back(request: HttpRequest) -> str:
    target = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if is_ours else admin_url("provider", "changelist")


def _page(
    request: HttpRequest, order: Order, providers: Sequence[Provider], form: OrderForm
) -> HttpResponse:
    board = board_now()
    context = admin.site.each_context(request) | {
        "title": order.label,
        "order": order,
        "form": form,
        "opts": Provider._meta,
        "providers": [
            (provider, board.get((provider.kind, provider.slug))) for provider in providers
        ],
        "consequences": consequences(order, providers),
        "next": request.POST.get("next") or request.GET.get("next") or "",
        "media": forms.Media(css=CSS),
        "now": timezone.now(),
    }
    return TemplateResponse(request, "admin/fallback/provider/order.html", context)


def board_now() -> dict[tuple[str, str], Shown]:
    """Return every breaker as it is shown, by kind and slug; empty when nothing is known."""
    body = status.build()
    is_fresh = not body["degraded"]
    return {
        (shown["kind"], shown["provider"]): Shown(shown, is_fresh) for shown in body["breakers"]
    }


def consequences(order: Order, providers: Sequence[Provider]) -> list[tuple[str, bool]]:
    """Return a line for each route that a forced opening touches, and whether it is left alone."""
    if order.state is not State.FORCED_OPEN:
        return []
    out = {(provider.kind, provider.slug) for provider in providers}
    board = board_now()
    lines = []
    for route in catalog.current().routes.values():
        names = [(str(step.provider.kind), step.provider.slug) for step in route.steps]
        if not out.intersection(names):
            continue
        left = [
            slug for kind, slug in names if (kind, slug) not in out and _admits(board, kind, slug)
        ]
        line = (
            f"{route.slug}: new calls start on {left[0]}"
            if left
            else (f"{route.slug}: NO provider is left; calls get the last resort")
        )
        lines.append((line, not left))
    return lines


def _admits(board: dict[tuple[str, str], Shown], kind: str, slug: str) -> bool:
    shown = board.get((kind, slug))
    return shown is None or shown.breaker["state"] in ADMITTING_STATES
