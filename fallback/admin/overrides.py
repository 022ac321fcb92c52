"""The page that asks for a reason and an end before an order is given to a breaker."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from fallback import catalog, orders, status
from fallback.admin.asking import whole
from fallback.admin.base import CSS, admin_url
from fallback.admin.words import Shown
from fallback.domain import ADMITTING_STATES, Kind, State
from fallback.errors import FallbackError
from fallback.models import Provider
from fallback.orders import ENDS, ORDERS, PERMISSION, Order, OrderForm


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
    ids = [whole(pk) or 0 for pk in request.GET.get("ids", "").split(",")[:500]]
    providers = list(Provider.objects.filter(pk__in=ids).select_related("policy"))
    if not providers:
        raise Http404("no such provider")
    return providers


def _give(request: HttpRequest, order: Order, provider: Provider, form: OrderForm) -> None:
    kind, slug, reason = Kind(provider.kind), provider.slug, form.cleaned_data["reason"]
    by = f"admin:{request.user.get_username()}"
    try:
        orders.give(order, kind, slug, reason=reason, for_s=form.for_s(), by=by)
    except FallbackError as error:
        messages.error(request, f"{order.label}, {slug}: not done. {error}")
        return
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
        "media": Media(css=CSS),
        "now": timezone.now(),
    }
    return TemplateResponse(request, "admin/fallback/provider/order.html", context)


def board_now() -> dict[tuple[str, str], Shown]:
    """Return every breaker as it is shown, by kind and slug; empty when nothing is known."""
    body = status.newest()
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
