"""The health paths: who is asked, what fails, and what only degrades."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client

from fallback import catalog, health, stream
from fallback.domain import Kind
from fallback.fitness import WELL, question
from fallback.fitness.question import FIRST_WAIT_S, Question
from tests.configuration import make_route

NO_PUMP = "no pump asks for events: run manage.py pump"
UNREACHABLE = "unix:///nowhere/redis.sock"


@pytest.fixture
def redis_away(settings):
    """Point the decisions' client at a server that is not there."""
    settings.CACHES = {
        **settings.CACHES,
        "breaker": {**settings.CACHES["breaker"], "LOCATION": UNREACHABLE},
    }


@pytest.fixture
def configured(transactional_db: None) -> None:
    """Give the database a configuration: without one no web process is ready."""
    make_route()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy test machine is slower than a probe is patient; tests of hanging set their own."""
    monkeypatch.setattr(question, "FIRST_WAIT_S", 5.0)


def test_liveness_asks_nothing_of_the_database(client: Client):
    response = client.get("/livez")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_web_is_ready_when_all_it_needs_answers(client: Client, configured):
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
    health.EVENTS.forget(2)
    after = client.get("/readyz", {"role": "pump"})

    assert before.json()["checks"]["events"]["detail"] == NO_PUMP
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
def test_health_answers_under_any_host_name(client: Client, configured):
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
    client: Client, configured, redis_away, role: str, code: int, status: str
):
    response = client.get("/readyz", {"role": role})

    assert (response.status_code, response.json()["status"]) == (code, status)
    assert (
        response.json()["checks"]["redis"].items()
        >= {
            "status": status,
            "detail": "ConnectionError",
        }.items()
    )


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a pool keeps its connections")
@pytest.mark.django_db(transaction=True)
def test_a4_a_web_process_that_never_read_the_configuration_is_not_ready(
    client: Client, monkeypatch
):
    monkeypatch.setitem(connections.settings["default"], "NAME", "/nowhere/db.sqlite3")
    response = client.get("/readyz")

    assert (response.status_code, response.json()["status"]) == (503, "failing")
    assert "not been read" in response.json()["checks"]["configuration"]["detail"]


@pytest.mark.django_db(transaction=True)
def test_a3_a_database_without_a_configuration_is_told(client: Client, configured) -> None:
    empty = {"interactive": False, "verbosity": 0}
    well = client.get("/readyz").json()
    call_command("flush", **empty)
    catalog.refresh(5)
    held = client.get("/readyz")
    catalog._cache = catalog.Cache()
    fresh = client.get("/readyz")
    checks = [answer.json()["checks"]["configuration"] for answer in (held, fresh)]

    assert well["checks"]["configuration"]["status"] == "ok"
    assert [held.status_code, fresh.status_code] == [200, 503]
    assert [check["status"] for check in checks] == ["degraded", "failing"]
    assert all("run manage.py seed, or finish its restore" in check["detail"] for check in checks)


@contextmanager
def hanging(asked: Question) -> Iterator[None]:
    """Have a question hang in the block."""
    over = threading.Event()
    asked._ask, ask = lambda: over.wait(30) and WELL, asked._ask
    patient, question.FIRST_WAIT_S = question.FIRST_WAIT_S, FIRST_WAIT_S
    try:
        yield
    finally:
        over.set()
        asked._ask, question.FIRST_WAIT_S = ask, patient


@contextmanager
def frozen_postgres() -> Iterator[None]:
    """Stop every process of the PostgreSQL server in the block, as a hung disk would."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        (directory,) = cursor.fetchone()
    server = int(Path(directory, "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for pid in (server, *map(int, children)):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (server, *map(int, children)):
            os.kill(pid, signal.SIGCONT)


def probe(seconds: float, *, role: str) -> list[tuple[int, float, dict[str, Any]]]:
    """Ask from several probers for so long; return (code, seconds it took, checks) of each."""

    def prober(every_s: float) -> list[tuple[int, float, dict[str, Any]]]:
        found, client, until = [], Client(), time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            response = client.get("/readyz", {"role": role})
            took_s = time.monotonic() - began
            found.append((response.status_code, took_s, response.json()["checks"]))
            time.sleep(every_s)
        return found

    with ThreadPoolExecutor(5) as pool:
        return [row for rows in pool.map(prober, [0.5, 0.1, 0.1, 0.1, 0.1]) for row in rows]


@pytest.mark.django_db(transaction=True)
def test_a4_probes_of_the_web_are_answered_at_once_while_the_database_hangs(
    client: Client, configured
):
    client.get("/readyz")
    health.DATABASE.forget(2)
    with hanging(health.DATABASE), hanging(health.MIGRATIONS):
        found = probe(3, role="web")

    assert {code for code, _, _ in found} == {200}
    assert median(took_s for _, took_s, _ in found) < 1  # it hangs for three
    last = found[-1][2]
    assert {name: check["status"] for name, check in last.items()} == {
        "configuration": "ok",
        "database": "degraded",
        "migrations": "ok",
        "redis": "ok",
    }


@pytest.mark.django_db(transaction=True)
def test_a8_only_the_database_is_named_when_only_the_database_hangs(client: Client):
    stream.owed(Kind.STT, "pump-1", count=1)
    client.get("/readyz", {"role": "pump"})
    health.DATABASE.forget(2)
    with hanging(health.DATABASE):
        found = client.get("/readyz", {"role": "pump"}).json()

    assert found["status"] == "failing"
    assert {name for name, check in found["checks"].items() if check["status"] != "ok"} == {
        "database"
    }


@pytest.mark.skipif(
    connection.vendor != "postgresql" or os.geteuid() != 0, reason="stops a PostgreSQL of ours"
)
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("role", "codes"), [("web", {200}), ("pump", {200, 503})])
def test_a4_a_frozen_postgresql_takes_no_web_process_out_of_the_balancer(
    client: Client, configured, role: str, codes: set[int]
):
    stream.owed(Kind.STT, "pump-1", count=1)
    client.get("/readyz")
    client.get("/readyz", {"role": role})
    with frozen_postgres():
        found = probe(5, role=role)

    assert {code for code, _, _ in found} == codes
    assert median(took_s for _, took_s, _ in found) < 1  # it hangs for five
    last = found[-1][2]
    assert last["redis"]["status"] == "ok"
    assert last["database"]["status"] == ("failing" if role == "pump" else "degraded")
