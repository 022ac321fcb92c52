"""The filters of the lists: each choice is a question that somebody really asks."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest
from django.utils import timezone

from fallback import cautions, stats, status
from fallback.admin.asking import whole
from fallback.domain import ADMITTING_STATES, State
from fallback.models import AlertThread, Provider, Route

LONG = timedelta(minutes=30)
IDLE = timedelta(days=30)

Rows = QuerySet[Any]
Answer = Callable[[Rows], Rows]


class Question(admin.SimpleListFilter):
    """A filter whose choices are whole questions: `answers` maps each to (label, rows)."""

    title = "question"
    parameter_name = "which"
    answers: ClassVar[dict[str, tuple[str, Answer]]] = {}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, label) for key, (label, _) in self.answers.items()]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        answer = self.answers.get(self.value() or "")
        return answer[1](queryset) if answer else queryset


def _named(names: Iterable[tuple[str, str]]) -> Q:
    """Return what finds providers by kind and slug; nothing where there are none."""
    slugs: dict[str, list[str]] = {}
    for kind, slug in names:
        slugs.setdefault(kind, []).append(slug)
    found = Q(pk__in=[])
    for kind, of_kind in slugs.items():
        found |= Q(kind=kind, slug__in=of_kind)
    return found


def _out(rows: Rows) -> Rows:
    breakers = status.newest()["breakers"]
    return rows.filter(
        _named((it["kind"], it["provider"]) for it in breakers if is_out(it["state"]))
    )


def is_out(state: str) -> bool:
    """Say whether a breaker in this state sends calls elsewhere."""
    return state not in ADMITTING_STATES


def _alone(rows: Rows) -> Rows:
    setup = cautions.read()
    chains = [chain for route in setup.routes.values() if (chain := setup.usable(route))]
    return rows.filter(
        _named((chain[0].kind, chain[0].slug) for chain in chains if len(chain) == 1)
    )


def _in_shadow(rows: Rows) -> Rows:
    breakers = status.newest()["breakers"]
    held = [(it["kind"], it["provider"]) for it in breakers if it["state"] == State.SHADOW]
    return rows.filter(_named(held) | Q(policy__shadow=True))


def _failing(rows: Rows) -> Rows:
    now = timezone.now()
    found = stats.read(now - timedelta(hours=1), now)
    return rows.filter(_named(key for key in found.providers if found.total(*key).failures))


def _overridden(rows: Rows) -> Rows:
    breakers = status.newest()["breakers"]
    return rows.filter(_named((it["kind"], it["provider"]) for it in breakers if it["override"]))


class WhichProviders(Question):
    """Providers by how they are and what hangs on them."""

    answers = {
        "out": ("out now", _out),
        "overridden": ("under an override", _overridden),
        "failing": ("failed in the last hour", _failing),
        "alone": ("with no other to fall back on", _alone),
        "unused": ("in no route", lambda rows: rows.filter(enabled=True, steps=None)),
        "shadow": ("in shadow", _in_shadow),
        "off": ("switched off", lambda rows: rows.filter(enabled=False)),
    }


def _one_left(rows: Rows) -> Rows:
    setup = cautions.read()
    found = [pk for pk, route in setup.routes.items() if len(setup.usable(route)) == 1]
    return rows.filter(pk__in=found)


def _diverted(rows: Rows) -> Rows:
    return rows.filter(slug__in=diverted_routes())


def diverted_routes() -> dict[str, tuple[str, str]]:
    """Return the routes whose calls start elsewhere now, as route -> (from, to).

    Those that nobody admits have nowhere to go: their calls start where they always do.
    """
    body = status.newest()
    states = {(it["kind"], it["provider"]): it["state"] for it in body["breakers"]}
    found = {}
    for route in body["routes"]:
        chain = sorted(route["order"], key=lambda step: step["position"])
        if not chain or not route["fallback_enabled"]:
            continue
        first, now = chain[0]["provider"], route["order"][0]["provider"]
        if first != now and is_out(states.get((route["kind"], first), State.CLOSED)):
            found[route["route"]] = (first, now)
    return found


class WhichRoutes(Question):
    """Routes by what protects them."""

    answers = {
        "diverted": ("diverted now", _diverted),
        "one": ("with one usable provider", _one_left),
        "off": ("with their fallback off", lambda rows: rows.filter(fallback_enabled=False)),
    }


class RoutesOver(admin.SimpleListFilter):
    """Routes by a provider of their chain."""

    title = "provider in the chain"
    parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        used = Provider.objects.filter(Exists(Route.objects.filter(steps__provider=OuterRef("pk"))))
        return [(str(row.pk), str(row)) for row in used]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        pk = whole(self.value() or "")
        return queryset if pk is None else queryset.filter(steps__provider=pk)


class WhichPolicies(Question):
    """Policies by their use."""

    answers = {
        "unused": ("used by no provider", lambda rows: rows.filter(providers=None)),
        "shadow": ("in shadow", lambda rows: rows.filter(shadow=True)),
        "timer": ("that close with no proof", lambda rows: rows.filter(recovery="timer")),
    }


def _unacknowledged(rows: Rows) -> Rows:
    seen = AlertThread.objects.filter(incident_key=OuterRef("key")).exclude(acknowledged_by="")
    return rows.filter(~Exists(seen), closed_at=None)


def _long(rows: Rows) -> Rows:
    return rows.filter(opened_at__lt=Coalesce(F("closed_at"), Now()) - LONG)


class WhichIncidents(Question):
    """Incidents by what they still ask for."""

    parameter_name = "state"
    answers = {
        "going-on": ("going on", lambda rows: rows.filter(closed_at=None)),
        "unacknowledged": ("going on, and nobody's", _unacknowledged),
        "long": (f"longer than {LONG.seconds // 60} min", _long),
        "hurt": ("in which calls were hurt", lambda rows: rows.filter(hurt__gt=0)),
        "over": ("over", lambda rows: rows.exclude(closed_at=None)),
    }


class WhichLetters(Question):
    """Dead letters by whether anything was done about them."""

    answers = {
        "waiting": ("not put back yet", lambda rows: rows.filter(replayed_at=None)),
        "replayed": ("put back", lambda rows: rows.exclude(replayed_at=None)),
    }


class WhichTemplates(Question):
    """Templates by whether, and to whom, they speak."""

    answers = {
        "off": ("switched off", lambda rows: rows.filter(enabled=False)),
        "own": ("with a destination of their own", lambda rows: rows.exclude(destination=None)),
        "loud": ("critical", lambda rows: rows.filter(severity="critical")),
    }


def _troubled(rows: Rows) -> Rows:
    return rows.exclude(problem="")


class WhichDestinations(Question):
    """Destinations by how they do."""

    answers = {
        "trouble": ("in trouble", _troubled),
        "off": ("switched off", lambda rows: rows.filter(enabled=False)),
        "general": (
            "for everything that goes nowhere else",
            lambda rows: rows.filter(providers=None, routes=None),
        ),
    }


def _idle(rows: Rows) -> Rows:
    since = timezone.now() - IDLE
    return rows.filter(Q(last_used_at=None) | Q(last_used_at__lt=since), enabled=True)


def expiring(rows: Rows, now: datetime) -> Rows:
    """Return the keys that are refused within a week from `now`, or since less than a day."""
    span = (now - timedelta(days=1), now + timedelta(days=7))
    return rows.filter(enabled=True, expires_at__range=span)


class WhichKeys(Question):
    """API keys by whether they can go, or soon will."""

    answers = {
        "expiring": ("expiring this week", lambda rows: expiring(rows, timezone.now())),
        "idle": (f"not used for {IDLE.days} days", _idle),
        "off": ("switched off", lambda rows: rows.filter(enabled=False)),
    }
