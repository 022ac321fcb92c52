"""WHERE PROMETHEUS READS: `/metrics`, and the state of each breaker at that moment.

Open to whoever can reach the port, as exporters are; with METRICS_TOKEN set it takes that token
as `Authorization: Bearer`. Every process reports the same fleet-wide gauge: `max by (provider)`.
"""

import hmac
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
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

FRESH_S: Final = 1.0
BUDGET_S: Final = 0.2  # a scrape must not hang because Redis does


@require_safe
def exposition(request: HttpRequest) -> HttpResponse:
    """Serve the metrics in the text format."""
    if not _may_read(request):
        return HttpResponse(status=401, headers={"WWW-Authenticate": 'Bearer realm="metrics"'})
    return HttpResponse(
        generate_latest(REGISTRY),
        content_type=CONTENT_TYPE_LATEST,
        headers={"Cache-Control": "no-store"},
    )


def _may_read(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    sent = request.headers.get("Authorization", "")
    return not token or hmac.compare_digest(sent.encode(), f"Bearer {token}".encode())


class BreakerCollector(Collector):
    """`stt_breaker_state{provider,state}`: 1 for the current state, 0 for the others.

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
        return [_gauge()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Read the status, at most `FRESH_S` old, waiting `BUDGET_S` at most."""
        gauge = _gauge()
        for breaker in self._breakers():
            provider, kind = breaker["provider"], breaker["kind"]
            provider += "" if kind == Kind.STT else f" ({kind})"
            for state in State:
                gauge.add_metric([provider, state], float(breaker["state"] == state))
        return [gauge]

    def _breakers(self) -> Iterable[Mapping[str, Any]]:
        try:
            body = self._look().result(timeout=BUDGET_S)
        except NotInTime:
            metrics.degraded("metrics")
            log.warning("metrics without breaker states: no answer in time")
            return []
        return [] if body["degraded"] else body["breakers"]

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


REGISTRY.register(BreakerCollector())
