"""Who may do what: keys, roles, staff sessions, and how fast."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from fallback import catalog
from fallback.api import throttling
from fallback.pacing import Buckets
from tests.configuration import make_route
from tests.rest import Api, api, assert_problem, make_key

pytestmark = pytest.mark.django_db(transaction=True)

RESOURCES = {
    "decisions": ("POST", "/api/v1/decisions"),
    "outcomes": ("POST", "/api/v1/outcomes"),
    "status": ("GET", "/api/v1/status"),
    "provider": ("GET", "/api/v1/providers/soniox"),
    "call": ("GET", "/api/v1/calls/CA1"),
    "incidents": ("GET", "/api/v1/incidents"),
    "transitions": ("GET", "/api/v1/transitions"),
    "override": ("PUT", "/api/v1/providers/soniox/override"),
    "clear": ("DELETE", "/api/v1/providers/soniox/override"),
    "reset": ("POST", "/api/v1/providers/soniox/reset"),
}
READS = {"status", "provider", "call"}
MAY = {
    "agent": READS | {"decisions", "outcomes"},
    "reader": READS | {"incidents", "transitions"},
    "operator": set(RESOURCES),
}


@pytest.fixture(autouse=True)
def full_buckets():
    make_route()
    throttling.buckets.cache_clear()
    yield
    throttling.buckets.cache_clear()


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_do_what_the_contract_says_and_nothing_else(role):
    client = api(role)

    refused = {
        name
        for name, (method, path) in RESOURCES.items()
        if client.generic(method, path).status_code == 403
    }

    assert refused == set(RESOURCES) - MAY[role]


def test_a_role_that_may_not_is_told_which_may():
    problem = assert_problem(api("agent").send("DELETE", "providers/soniox/override"), 403)

    assert problem["detail"] == "A key of role agent may not do this; it takes operator."


@pytest.mark.parametrize(("method", "path"), RESOURCES.values(), ids=RESOURCES)
def test_nothing_is_told_without_a_key(method, path):
    response = Client().generic(method, path)

    assert_problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "sent", ["Bearer", "Bearer x", "Basic YTpi", "Bearer stt_00.11", "\x00", "Bearer " + "a" * 9000]
)
def test_a_key_that_is_none_is_refused_and_logged_without_it(sent, caplog):
    response = Client().get("/api/v1/status", headers={"authorization": sent})

    assert_problem(response, 401, "bad_key")
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert "api key refused" in caplog.text
    assert sent.removeprefix("Bearer ")[:40] not in caplog.text or sent in {
        "Bearer",
        "\x00",
        "Bearer x",
    }


@pytest.mark.parametrize(
    "values", [{"enabled": False}, {"expires_at": timezone.now() - timedelta(seconds=1)}]
)
def test_a_key_that_was_switched_off_or_ran_out_is_refused(values):
    client = Api(make_key("agent", **values))
    catalog.reload()

    assert_problem(client.get("/api/v1/status"), 401, "bad_key")


def test_a_key_works_as_soon_as_it_is_made():
    api("agent")  # the catalog is read here, and the next key is not in it

    assert Api(make_key("reader")).get("/api/v1/status").status_code == 200


def staff(*permissions: str, **values: bool) -> Client:
    """Return the browser of a member of staff."""
    user = User.objects.create_user("ana", password="x", **{"is_staff": True, **values})
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_staff_who_may_view_providers_read_with_their_session():
    client = staff("view_provider")

    assert client.get("/api/v1/status").status_code == 200
    assert client.get("/api/v1/incidents").status_code == 200


def test_a_session_orders_nothing():
    client = staff("view_provider", is_superuser=True)

    response = client.put("/api/v1/providers/soniox/override", {}, content_type="application/json")

    assert_problem(response, 401, "not_authenticated")


def test_staff_without_the_permission_are_refused():
    assert_problem(staff().get("/api/v1/status"), 403, "not_allowed")


def test_users_who_are_not_staff_are_nobody():
    assert_problem(staff("view_provider", is_staff=False).get("/api/v1/status"), 401)


def test_a_caller_who_is_too_fast_is_told_how_long_to_wait(settings):
    settings.API_THROTTLE = {"caller": (0.5, 2), "stranger": (1, 5)}
    client, other = api("agent"), api("reader")

    responses = [client.get("/api/v1/status") for _ in range(3)]

    assert [response.status_code for response in responses] == [200, 200, 429]
    assert_problem(responses[2], 429, "throttled")
    assert 1 <= int(responses[2]["Retry-After"]) <= 2
    assert other.get("/api/v1/status").status_code == 200


def test_an_address_that_keeps_guessing_is_held_back(settings):
    settings.API_THROTTLE = {"caller": (100, 100), "stranger": (0.1, 3)}
    guess = {"authorization": "Bearer stt_00.11"}

    codes = [Client().get("/api/v1/status", headers=guess).status_code for _ in range(5)]

    assert codes == [401, 401, 401, 429, 429]
    assert api("agent").get("/api/v1/status").status_code == 200


def test_a_bucket_refills_with_its_rate_and_holds_no_more_than_its_burst():
    buckets = Buckets(rate_per_s=2, burst=3)
    assert [buckets.take("a", 0) for _ in range(4)] == [0, 0, 0, 0.5]

    assert buckets.take("a", 0.5) == 0
    assert [buckets.take("a", 1000) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_clock_that_steps_back_takes_nothing_away():
    buckets = Buckets(rate_per_s=1, burst=2)
    buckets.take("a", 100)

    assert buckets.take("a", 50) == 0


def test_buckets_are_bounded_and_forget_the_least_recent():
    buckets = Buckets(rate_per_s=0.001, burst=1, max_callers=2)
    for caller in ("a", "b", "c"):
        buckets.take(caller, 0)

    assert buckets.take("a", 0) == 0
    assert buckets.take("c", 0) > 0


def test_a3_while_no_configuration_was_ever_read_a_key_is_not_called_wrong(settings, monkeypatch):
    settings.API_THROTTLE = {"caller": (100, 100), "stranger": (0.1, 3)}
    throttling.buckets.cache_clear()
    key = make_key()

    def away(held):
        raise OperationalError("no route to host")

    monkeypatch.setattr(catalog, "_cache", catalog.Cache(away))
    answers = [Api(key).decide() for _ in range(4)]
    problem = assert_problem(answers[0], 503, "configuration_unavailable")

    assert "/readyz" in problem["detail"]
    assert answers[0]["Retry-After"] == "1"
    assert answers[-1].status_code == 429  # an address that goes on is slowed down all the same
