"""Every HTTP and WebSocket path of the app, on one screen.

`/livez` and `/readyz` are not here: fallback/health.py answers them before any routing.
"""

from typing import Any

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []

websocket_urlpatterns: list[Any] = []
