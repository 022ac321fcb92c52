"""Every HTTP and WebSocket path of the app, on one screen.

`/livez` and `/readyz` are not here: fallback/health.py answers them before any routing.
"""

from typing import Any

from django.urls import URLPattern, URLResolver, path, re_path

from fallback.api.decisions import DecisionView
from fallback.api.history import CallView, IncidentView, TransitionView
from fallback.api.outcomes import OutcomeView
from fallback.api.providers import OverrideView, ProviderView, ResetView
from fallback.api.schema import DocsView, SchemaView
from fallback.api.stats import StatsView
from fallback.api.status import StatusView
from fallback.exporter import exposition
from fallback.live.consumer import StatusConsumer, nowhere
from fallback.live.page import dashboard, give_order
from fallback.slack import listening

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/decisions", DecisionView.as_view()),
    path("api/v1/outcomes", OutcomeView.as_view()),
    path("api/v1/status", StatusView.as_view()),
    path("api/v1/providers/<str:slug>", ProviderView.as_view()),
    path("api/v1/providers/<str:slug>/override", OverrideView.as_view()),
    path("api/v1/providers/<str:slug>/reset", ResetView.as_view()),
    path("api/v1/calls/<path:call_id>", CallView.as_view()),
    path("api/v1/incidents", IncidentView.as_view()),
    path("api/v1/transitions", TransitionView.as_view()),
    path("api/v1/stats", StatsView.as_view()),
    re_path(r"^api/schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^api/docs/?$", DocsView.as_view(), name="docs"),
    path("slack/events", listening.events),
    path("metrics", exposition),
    path("", dashboard, name="dashboard"),
    path("orders", give_order, name="give_order"),
]

websocket_urlpatterns: list[Any] = [
    path("ws/v1/status", StatusConsumer.as_asgi()),  # type: ignore[arg-type] # ASGI, not a view
    re_path("", nowhere),  # type: ignore[arg-type]
]
