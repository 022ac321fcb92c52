"""Fixtures for every test: a real Redis, empty at the start of each test, a process that holds
nothing of the test before, and the namespace."""

import shutil
import time
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from django.core.cache import cache

from controlplane.embedded_redis import EmbeddedRedis
from fallback import catalog, deadline, health, keys, metrics, standin, status
from fallback.api import throttling
from fallback.breaker import link, watch
from fallback.past import recorder
from fallback.services import budget, configuration, suspects, unknown
from fallback.sign_in import guard
from fallback.stats import tally

THREADS_END_S = 2.0

# A busy test machine stalls longer than a decision may wait; tests of slowness start processes.
link.ANSWER_S, deadline.CALL_S, watch.SURE_S = 2.0, 4.0, 5.0


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Start this run's Redis server, unless TEST_REDIS_URL names one; return its URL."""
    server = EmbeddedRedis(settings.VAR_DIR)
    if settings.EMBEDDED_REDIS:
        server.start()
    yield settings.REDIS_URL
    server.stop()
    shutil.rmtree(settings.VAR_DIR, ignore_errors=True)


@pytest.fixture(autouse=True)
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """Return a raw client (bytes, RESP2, patient) of the server, emptied before each test."""
    options = {"protocol": 2, "socket_timeout": 5, "driver_info": None}  # quiet before MONITOR
    with redis.Redis.from_url(redis_url, **options) as client:
        client.flushdb()
        client.script_flush()
        cache.clear()
        yield client


@pytest.fixture(autouse=True)
def process(request: pytest.FixtureRequest, redis_client: redis.Redis) -> Iterator[None]:
    """Have this process hold what it holds at its start: nothing.

    Every test is a product of its own, with its own Redis and database; what a process knows of
    them for a moment, counts or remembers to have told must not come from the test before, and no
    thread of one test may write into the next.
    """
    catalog._cache = catalog.Cache(clock=time.monotonic if is_committing(request) else lambda: 0.0)
    status._board = status.Board()
    standin.shared = standin.StandIn()
    guard.memory.forget()
    throttling.buckets.cache_clear()
    budget.buckets.cache_clear()
    suspects.shared = suspects.Suspects()
    configuration._restored.forget()
    for once in (configuration._publish, configuration._tell, budget.told):
        once.forget()
    keys._usage = keys.Usage()
    unknown._namings = unknown.Namings()
    metrics._configured.clear()
    tally._tally.__dict__.update(_counts={}, _changed=set())  # its thread goes on
    recorder._recorder.__dict__.update(_slots={}, _waiting={}, _count=0)
    _forget_health()
    yield
    _forget_health()
    for threads in (keys._usage, unknown._namings, catalog._cache):
        threads.join(THREADS_END_S)


def _forget_health() -> None:
    """Have readiness know nothing, and nobody ask for it any more."""
    for question in health.QUESTIONS:
        question.forget(THREADS_END_S)


def is_committing(request: pytest.FixtureRequest) -> bool:
    """Whether what a test saves can be seen by threads, and so by the catalog's looks. If not, time
    stands still for the catalog: a look that falls due would find nothing."""
    mark = request.node.get_closest_marker("django_db")
    is_marked = mark is not None and mark.kwargs.get("transaction")
    return bool(is_marked or "transactional_db" in request.fixturenames)


@pytest.fixture
def namespace() -> str:
    """Return the namespace that keys are built with under test."""
    return settings.FALLBACK_NAMESPACE
