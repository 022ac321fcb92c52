"""WHERE PROMETHEUS READS: `/metrics`, and the state of each breaker at that moment.

With METRICS_TOKEN set it takes that token as `Authorization: Bearer`. Without one it answers this
machine only: routes, providers and traffic are not for whoever reaches the public port.
METRICS_OPEN opens it to all. Every process reports the same fleet-wide gauges: `max by (provider)`.

Transitions and alerts are counted by the pump that carried them, so a pump opens a port of its own
(`serve`): one counter in two processes' answers would be added up as two.
"""

import hmac
import ipaddress
import os
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fallback import metrics, status
from fallback.domain import Kind, State

log = structlog.get_logger(__name__)

FORWARDING: Final = ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via")
CLOSED: Final = (
    "Metrics are read from this machine only, unless METRICS_TOKEN is set and sent as"
    " `Authorization: Bearer`, or METRICS_OPEN=1 opens them to all.\n"
)
FRESH_S: Final = 1.0
BUDGET_S: Final = 0.2  # a scrape must not hang because Redis does


@require_safe
def exposition(request: HttpRequest) -> HttpResponse:
    """Serve the metrics in the text format."""
    if settings.METRICS_TOKEN:
        if not _is_token(request.headers.get("Authorization", "")):
            return HttpResponse(status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    elif not (settings.METRICS_OPEN or _is_of_this_machine(request)):
        return HttpResponse(CLOSED, status=403, content_type="text/plain; charset=utf-8")
    return HttpResponse(
        generate_latest(REGISTRY),
        content_type=CONTENT_TYPE_LATEST,
        headers={"Cache-Control": "no-store"},
    )


def _is_of_this_machine(request: HttpRequest) -> bool:
    """Say whether a process of this machine asks, and no proxy on it for somebody else."""
    if any(header in request.headers for header in FORWARDING):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _is_token(sent: str) -> bool:
    token = settings.METRICS_TOKEN
    return not token or hmac.compare_digest(sent.encode(), f"Bearer {token}".encode())


class BreakerCollector(Collector):
    """`stt_breaker_state{provider,state}`: 1 for the current state, 0 for the others; and
    `stt_event_lag_seconds`, how far the pumps are behind, alive or not.

    Only while Redis answers: a gauge from the last known state would look like the truth. Slugs
    are unique within a kind; those of other kinds than `stt` carry it, as in `openai (tts)`.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._lock = threading.Lock()
        self._looking: Future[Mapping[str, Any]] | None = None
        self._looked_at_s = float("-inf")

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the gauge without looking: registering must not reach for Redis."""
        return [_gauge(), _lag_gauge()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Read the status, at most `FRESH_S` old, waiting `BUDGET_S` at most."""
        gauge, lag = _gauge(), _lag_gauge()
        body = self._body()
        if body.get("pump_lag_s") is not None:
            lag.add_metric([], body["pump_lag_s"])
        for breaker in body.get("breakers", ()):
            provider, kind = breaker["provider"], breaker["kind"]
            provider += "" if kind == Kind.STT else f" ({kind})"
            for state in State:
                gauge.add_metric([provider, state], float(breaker["state"] == state))
        return [gauge, lag]

    def _body(self) -> Mapping[str, Any]:
        try:
            body = self._look().result(timeout=BUDGET_S)
        except NotInTime:
            metrics.degraded("metrics")
            log.warning("metrics without breaker states: no answer in time")
            return {}
        return {} if body["degraded"] else body

    def _look(self) -> Future[Mapping[str, Any]]:
        with self._lock:
            is_due = time.monotonic() - self._looked_at_s > FRESH_S
            if self._looking is None or (is_due and self._looking.done()):
                self._looking = self._threads.submit(_build)
                self._looked_at_s = time.monotonic()
            return self._looking


def _build() -> Mapping[str, Any]:
    try:
        return status.build()
    finally:
        connections.close_all()  # this thread's own, for the numbers of incidents


def _gauge() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "stt_breaker_state", "1 for the state a breaker is in.", labels=["provider", "state"]
    )


def _lag_gauge() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "stt_event_lag_seconds", "Age of the oldest event that no pump has carried yet."
    )


REGISTRY.register(BreakerCollector())


class _Scrape(BaseHTTPRequestHandler):
    """`GET /metrics` of a process that serves nothing else, with the same token."""

    timeout = 5.0  # a scraper that says nothing keeps no thread

    def do_GET(self) -> None:
        """Answer with the metrics, 401 or 404; on `/livez` with the process's number."""
        if self.path == "/livez":
            self._answer(200, str(os.getpid()).encode())
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"")
        elif not _is_token(self.headers.get("Authorization", "")):
            self._answer(401, b"")
        else:
            self._answer(200, generate_latest(REGISTRY))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: a scrape is no news."""


def serve(host: str, port: int) -> ThreadingHTTPServer | None:
    """Serve this process's metrics on a port of its own, from a daemon thread.

    None, with a warning, where the port cannot be had: the work goes on unmeasured.
    """
    try:
        server = ThreadingHTTPServer((host, port), _Scrape)
    except OSError as error:
        log.warning("metrics_port_not_opened", host=host, port=port, error=str(error))
        return None
    threading.Thread(target=server.serve_forever, name="scrape", daemon=True).start()
    log.info("metrics_served", host=host, port=server.server_port)
    return server
