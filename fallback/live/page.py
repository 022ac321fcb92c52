"""The dashboard at `/`: everything painted by the server, complete without a script.

Then static/fallback/dashboard/ keeps it true with the feed, from the same values.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from fallback import orders, stats, status
from fallback.domain import ADMITTING_STATES, Kind
from fallback.errors import BreakerUnavailable, FallbackError, NotFound
from fallback.live import words
from fallback.live.door import PERMISSION
from fallback.live.timeline import lane
from fallback.models import Incident, Provider, Transition
from fallback.stats.counts import Counts

WINDOWS: Final = {"15m": 900, "1h": 3_600, "6h": 21_600, "24h": 86_400}
TRANSITIONS_SHOWN: Final = 20
TRANSITIONS_AT_MOST: Final = 1_000  # in a day; more than that no timeline can show
INCIDENTS_AT_MOST: Final = 50


def staff_only(request: HttpRequest) -> None:
    """Raise PermissionDenied for whoever is signed in and may not look."""
    user: Any = request.user
    if not (user.is_active and user.is_staff and user.has_perm(PERMISSION)):
        raise PermissionDenied("Your account may not view providers.")


@never_cache
@require_safe
@login_required
def dashboard(request: HttpRequest) -> HttpResponse:
    """Paint the page as things are now. `?window=15m|1h|6h|24h` is what the timeline spans."""
    staff_only(request)
    chosen = request.GET.get("window", "")
    window = chosen if chosen in WINDOWS else "24h"
    return render(request, "fallback/dashboard.html", _painted(request, window))


def _painted(request: HttpRequest, window: str) -> dict[str, Any]:
    body = status.newest()
    now = words.parsed(body["at"])
    may_order = request.user.has_perm(orders.PERMISSION)
    pages = _provider_ids()
    moves = _moves(now - timedelta(days=1))
    start = now - timedelta(seconds=WINDOWS[window])
    return {
        "body": body,
        "verdict": words.WORDS[body["verdict"]],
        "sentence": words.sentence(body),
        "unknown_names": words.unknown_names(body),
        "at": words.moment(body["at"], now),
        "cards": [
            _card(row, now, pages.get((row["kind"], row["provider"]))) for row in body["breakers"]
        ],
        "blank": _blank(),
        "routes": [_route(route, body) for route in body["routes"]],
        "incidents": [_incident(row, now) for row in _incidents(now)],
        "lanes": [
            lane(row, _of(moves, row), start, now) for row in body["breakers"]
        ],
        "ticks": _ticks(start, now),
        "window": window,
        "windows": WINDOWS,
        "moves": [_move(row, now) for row in reversed(moves[-TRANSITIONS_SHOWN:])],
        "stats": _traffic(now),
        "may_order": may_order,
        "orders": orders.ORDERS.values() if may_order else [],
        "ends": orders.ENDS,
        "held": {
            "status": body,
            "moves": moves,
            "window": window,
            "windows": WINDOWS,
            "pages": {f"{kind}/{slug}": pk for (kind, slug), pk in pages.items()},
        },
        "site_header": "STT control plane",
    }  # fmt: skip


def _card(row: Mapping[str, Any], now: datetime, pk: int | None) -> dict[str, Any]:
    return {"row": row, "text": words.card(row, now), "pk": pk, "is_held": bool(row["override"])}


def _blank() -> dict[str, Any]:
    """Return what the card is filled with that the script copies for a new provider."""
    row = {"kind": "", "provider": "", "state": "closed", "incident": None}
    return {"row": row, "text": {}, "pk": 0, "is_held": False}


def _route(route: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    states = {(row["kind"], row["provider"]): row["state"] for row in body["breakers"]}
    return {
        "route": route["route"],
        "fallback_enabled": route["fallback_enabled"],
        "steps": [
            {
                "provider": step["provider"],
                "state": (state := states.get((route["kind"], step["provider"]), "closed")),
                "word": "" if state in ADMITTING_STATES else words.spoken(state),
            }
            for step in route["order"]
        ],
    }


def _provider_ids() -> dict[tuple[str, str], int]:
    rows = Provider.objects.values_list("kind", "slug", "pk")
    return {(kind, slug): pk for kind, slug, pk in rows}


def _moves(since: datetime) -> list[dict[str, Any]]:
    """Return the transitions since then, oldest first, as the API writes them."""
    rows = Transition.objects.filter(at__gte=since).order_by("-at", "-version", "-id")
    return [
        {
            "id": row.event_id,
            "provider": row.provider,
            "kind": row.kind,
            "from": row.before,
            "to": row.after,
            "at": words.utc(row.at),
            "cause": row.cause,
            "actor": row.actor,
            "reason": row.reason[:200],
        }
        for row in reversed(rows[:TRANSITIONS_AT_MOST])
    ]


def _of(moves: list[dict[str, Any]], row: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = (row["kind"], row["provider"])
    return [move for move in moves if (move["kind"], move["provider"]) == name]


def _move(move: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {
        **move,
        "before": words.spoken(move["from"]),
        "after": words.spoken(move["to"]),
        "time": words.moment(move["at"], now),
        "why": words.spoken(move["cause"]),
    }


def _incidents(now: datetime) -> list[Incident]:
    """Return today's incidents and those that still go on, newest first."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    going_on = Incident.objects.filter(closed_at=None)
    return list((going_on | Incident.objects.filter(opened_at__gte=today))[:INCIDENTS_AT_MOST])


def _incident(row: Incident, now: datetime) -> dict[str, Any]:
    ended = row.closed_at or now
    return {
        "id": row.pk,
        "provider": row.provider,
        "opened": words.moment(words.utc(row.opened_at), now),
        "cause": words.spoken(row.cause),
        "state": "over" if row.closed_at else "going on",
        "out_for": words.length(ended - row.opened_at),
        "trips": row.trips,
        "diverted": row.diverted,
        "hurt": row.hurt,
        "saved": row.saved,
    }


def _traffic(now: datetime) -> list[dict[str, Any]]:
    """Return each provider's last hour, for the table that stands where there is no script."""
    found = stats.read(now - timedelta(hours=1), now)
    return [_hour(provider, found.total(kind, provider)) for kind, provider in found.providers]


def _hour(provider: str, counts: Counts) -> dict[str, Any]:
    median, within = (counts.percentile_ms(percent) for percent in (50, 95))
    return {
        "provider": provider,
        "calls": counts.calls,
        "failures": counts.failures,
        "diverted": counts.diverted,
        "median": "—" if median is None else f"{median} ms",
        "within": "—" if within is None else f"{within} ms",
    }


def _ticks(start: datetime, end: datetime) -> list[str]:
    step = (end - start) / 4
    return [f"{start + step * number:%H:%M}" for number in range(5)]


@never_cache
@require_POST
def give_order(request: HttpRequest) -> JsonResponse:
    """Give an order from the dashboard's dialog; what is wrong comes back as `{"errors": [...]}`.

    A cookie lets in here, so Django's token against forged requests is required.
    """
    user: Any = request.user
    if not (user.is_staff and user.has_perm(orders.PERMISSION)):
        return _refused(403, "Your account may not give orders. Sign in again?")
    order = orders.ORDERS.get(request.POST.get("verb", ""))
    kind = request.POST.get("kind", "")
    if order is None or kind not in list(Kind):
        return _refused(404, "There is no such order, or no such kind of provider.")
    form = orders.OrderForm(request.POST, has_end=order.has_end)
    if not form.is_valid():
        return _refused(
            400, *(f"{name}: {' '.join(map(str, found))}" for name, found in form.errors.items())
        )
    return _given(order, Kind(kind), request.POST.get("provider", ""), form, user.get_username())


def _given(
    order: orders.Order, kind: Kind, provider: str, form: orders.OrderForm, name: str
) -> JsonResponse:
    try:
        orders.give(
            order, kind, provider,
            reason=form.cleaned_data["reason"], for_s=form.for_s(), by=f"dashboard:{name}",
        )  # fmt: skip
    except NotFound as error:
        return _refused(404, str(error))
    except BreakerUnavailable:
        return _refused(503, "Redis is out of reach: nothing was done. Try again in a moment.")
    except FallbackError as error:
        return _refused(400, str(error))
    return JsonResponse({"done": f"{order.label}, {provider}: done."})


def _refused(code: int, *errors: str) -> JsonResponse:
    return JsonResponse({"errors": list(errors)}, status=code)
