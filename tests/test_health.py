"""The health paths: who is asked, what fails, and what only degrades."""

import threading

import pytest
from django.db import connection, connections
from django.test import Client

from fallback import catalog, health, stream
from fallback.domain import Kind

NO_PUMP = "no pump asks for events: run manage.py pump"
UNREACHABLE = "unix:///nowhere/redis.sock"


@pytest.fixture
def redis_away(settings):
    """Point the decisions' client at a server that is not there."""
    settings.CACHES = {
        **settings.CACHES,
        "breaker": {**settings.CACHES["breaker"], "LOCATION": UNREACHABLE},
    }


def test_liveness_asks_nothing_of_the_database(client: Client):
    response = client.get("/livez")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_web_is_ready_when_all_it_needs_answers(client: Client):
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    checks = {"configuration", "database", "migrations", "redis"}
    assert set(response.json()["checks"]) == checks


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_pump_is_ready_once_one_asks_for_events(client: Client):
    before = client.get("/readyz", {"role": "pump"})
    stream.owed(Kind.STT, "pump-1", count=1)
    after = client.get("/readyz", {"role": "pump"})

    assert before.json()["checks"]["events"] == {"status": "failing", "detail": NO_PUMP}
    assert (after.status_code, after.json()["status"]) == (200, "ok")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a pool keeps its connections")
@pytest.mark.django_db(transaction=True)
def test_the_web_stays_ready_while_the_database_is_away(client: Client, monkeypatch):
    catalog.reload()
    monkeypatch.setitem(connections.settings["default"], "NAME", "/nowhere/db.sqlite3")
    response = client.get("/readyz")

    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["checks"]["database"]["status"] == "degraded"


@pytest.mark.django_db(transaction=True)
def test_health_answers_under_any_host_name(client: Client):
    response = client.get("/readyz", headers={"host": "10.1.2.3:8000"})

    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"


def test_an_unknown_role_is_a_problem_that_names_the_right_ones(client: Client):
    response = client.get("/readyz", {"role": "database"})

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert "web or pump" in response.json()["detail"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("role", "code", "status"), [("web", 200, "degraded"), ("pump", 503, "failing")]
)
def test_without_redis_the_web_is_degraded_and_the_pump_fails(
    client: Client, redis_away, role: str, code: int, status: str
):
    response = client.get("/readyz", {"role": role})

    assert (response.status_code, response.json()["status"]) == (code, status)
    assert response.json()["checks"]["redis"] == {"status": status, "detail": "ConnectionError"}


async def test_a_check_that_hangs_is_given_up_within_its_bound(monkeypatch, hanging):
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)

    found = await health._run("database", health.Check(ask=hanging, required=True))

    assert found == {"status": "failing", "detail": "no answer within 0.05 s"}


@pytest.fixture
def hanging():
    """Return a check that hangs until the test is over, so that no thread outlives it."""
    over = threading.Event()
    yield lambda: over.wait(10) and None
    over.set()
