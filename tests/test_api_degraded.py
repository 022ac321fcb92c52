"""What the API answers while Redis or the database refuses: decisions always, the rest honestly."""

from contextlib import contextmanager

import pytest
from django.db import connection

from fallback import breaker, catalog, status
from fallback.domain import Kind
from fallback.models import IdempotentRequest
from tests.configuration import make_route
from tests.rest import api, assert_problem, outcome

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator():
    make_route()
    client = api("operator")
    client.decide()
    return client


@pytest.fixture
def damaged(operator, redis_client):
    """Make Redis refuse every script: a key of ours is of a wrong type."""
    key = breaker.key(Kind.STT, "breakers")
    redis_client.delete(key)
    redis_client.set(key, "not a hash")


@contextmanager
def table_gone(name: str):
    """Take a table away, as a database does that is being restored."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO {name}_gone")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name}_gone RENAME TO {name}")


def test_a_decision_is_given_and_says_that_it_is_degraded(operator, damaged):
    response = operator.decide(call_id="CA2")

    assert (response.status_code, response.json()["degraded"]) == (200, True)
    assert response.json()["provider"] == "soniox"


def test_outcomes_are_refused_whole_with_the_time_to_come_back(operator, damaged):
    response = operator.report(outcome(reason="connection"), {"id": "bad"})

    assert_problem(response, 503, "breaker_unavailable")
    assert int(response["Retry-After"]) >= 1


def test_s22_a_refusal_is_told_in_plain_words_and_logged_in_redis_own(operator, damaged, caplog):
    response = operator.report(outcome(reason="connection"))
    detail = response.json()["detail"]

    assert detail.startswith("Redis refused the write")
    assert not any(word in detail.lower() for word in ("script", "wrongtype", "f_", "@", "error"))
    assert "WRONGTYPE" in caplog.text


def test_s22_what_can_be_said_of_the_cause_is_said(operator, redis_client):
    redis_client.config_set("min-replicas-to-write", 1)
    try:
        response = operator.report(outcome(reason="connection"))
    finally:
        redis_client.config_set("min-replicas-to-write", 0)

    assert_problem(response, 503, "breaker_unavailable")
    assert response.json()["detail"].startswith("Redis refused the write: this server is not the m")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "providers/soniox/override", {"state": "forced_open", "reason": "x"}),
        ("DELETE", "providers/soniox/override", None),
        ("POST", "providers/soniox/reset", {"reason": "x"}),
    ],
)
def test_orders_are_refused_honestly(operator, damaged, method, path, body):
    assert_problem(operator.send(method, path, body), 503, "breaker_unavailable")


def test_the_status_says_that_it_is_from_the_last_known_state(operator, damaged):
    shown = operator.get("/api/v1/status").json()

    assert (shown["degraded"], shown["pump_lag_s"]) == (True, None)


@pytest.mark.parametrize("resource", ["incidents", "transitions"])
def test_history_without_its_table_is_a_503_that_says_so(operator, resource):
    with table_gone(f"fallback_{resource.removesuffix('s')}"):
        response = operator.get(f"/api/v1/{resource}")

    assert_problem(response, 503, "database_unavailable")
    assert int(response["Retry-After"]) >= 1


def test_an_order_is_carried_out_though_its_key_cannot_be_kept(operator):
    with table_gone(IdempotentRequest._meta.db_table):
        response = operator.send(
            "POST", "providers/soniox/reset", {"reason": "x"}, **{"idempotency-key": "k"}
        )

    assert response.status_code == 200


def test_the_status_does_without_incident_numbers(operator):
    operator.report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))

    with table_gone("fallback_incident"):
        shown = status.Board().current().body

    assert catalog.current().routes
    assert [one["state"] for one in shown["breakers"]] == ["closed", "open"]
    assert [one["incident"] for one in shown["breakers"]] == [None, None]
