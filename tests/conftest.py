"""Fixtures for every test: a real Redis, empty at the start of each test, and the namespace."""

import shutil
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from django.core.cache import cache

from controlplane.embedded_redis import EmbeddedRedis


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
    with redis.Redis.from_url(redis_url, protocol=2, socket_timeout=5) as client:
        client.flushdb()
        client.script_flush()
        cache.clear()
        yield client


@pytest.fixture
def namespace() -> str:
    """Return the namespace that keys are built with under test."""
    return settings.FALLBACK_NAMESPACE
