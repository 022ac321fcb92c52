"""Whose key took a provider out is known everywhere; a key bound to routes reaches no other."""

from datetime import datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from fallback import catalog, cautions, history, status, stream
from fallback.domain import Event, Kind
from fallback.messages.blocks import words
from fallback.messages.defaults import DEFAULTS
from fallback.messages.events import AlertEvent
from fallback.messages.template import body_of
from fallback.messages.values import values_of
from fallback.models import ApiKey, Policy, Route, Transition
from tests.configuration import WHY, make_policy, make_route
from tests.rest import Api, api, assert_problem, make_key, outcome

pytestmark = pytest.mark.django_db(transaction=True)


def failure(call: str, **values: object) -> dict[str, object]:
    return outcome(call_id=call, **{"reason": "connection", **values})


def events() -> list[Event]:
    """Return every event so far, oldest first."""
    return [entry.event for entry in stream.follow(Kind.STT, "0", count=100) if entry.event]


def breaker(slug: str = "soniox") -> dict[str, object]:
    """Return a breaker as GET status has it."""
    return next(row for row in status.build()["breakers"] if row["provider"] == slug)


def told(event: Event, name: AlertEvent) -> str:
    """Return the alert of an event, as its default template says it."""
    return "\n".join(words(line) for line in body_of(DEFAULTS[name].body, values_of(event)))


def in_s(until: str) -> float:
    return (datetime.fromisoformat(until) - timezone.now()).total_seconds()


def test_s2_a_trip_names_the_key_that_made_it_wherever_it_is_told(caplog) -> None:
    make_route()
    agent = api("agent", name="pods-eu")
    agent.report(failure("CA1"), failure("CA2"))
    trip = events()[-1]
    history.record([trip])

    assert agent.get("/api/v1/calls/CA2").json()["entries"][-1]["key"] == "pods-eu"
    assert (trip.evidence["key"], trip.evidence["keys"]) == ("pods-eu", {"pods-eu": 2})
    assert Transition.objects.get().evidence["keys"] == {"pods-eu": 2}
    assert breaker()["keys"] == {"pods-eu": 2}
    assert "Reported by key pods-eu" in told(trip, AlertEvent.TRIPPED)
    assert caplog.text.count("provider_out") == 1
    assert "'pods-eu': 2" in caplog.text
    assert "user_id=None" not in caplog.text


def test_s2_the_key_is_its_name_and_never_a_part_of_its_secret(redis_client) -> None:
    make_route()
    key = make_key("agent", name="pods-eu")
    catalog.reload()
    Api(key).report(failure("CA1"))
    public, secret = key.removeprefix("stt_").split(".")
    stored = b"".join(redis_client.dump(key) or b"" for key in redis_client.keys("*"))

    assert b"pods-eu" in stored
    assert secret.encode() not in stored
    assert public.encode() not in stored


def test_s2_one_request_of_one_key_takes_each_provider_out_for_300_s_at_most(caplog) -> None:
    """The study's request, under the default policy; before, it was 7,200 s and nobody's."""
    slugs = ("soniox", "deepgram", "sarvam", "google", "openai")
    make_route("breeze-buddy", *slugs)
    invented = [
        failure(f"never-{slug}", provider=slug, reason="auth", retry_after_s=86_400, host=slug)
        for slug in slugs
    ]
    results = api("agent", name="leaked").report(*invented).json()["results"]

    assert [one["effect"] for one in results] == ["tripped"] * 5
    assert all(in_s(breaker(slug)["until"]) <= 300 for slug in slugs)
    assert {event.evidence["key"] for event in events()} == {"leaked"}
    assert caplog.text.count("provider_out") == 5


@pytest.mark.parametrize(
    ("others", "providers", "is_told"),
    [(1, 3, True), (0, 3, False), (1, 2, False)],
    ids=["one of two keys", "the only key", "two providers"],
)
def test_s2_a_key_that_alone_takes_several_providers_out_is_told(
    others: int, providers: int, is_told: bool
) -> None:
    slugs = ("soniox", "deepgram", "sarvam")
    make_route("breeze-buddy", *slugs)
    for number in range(others):
        make_key("agent", name=f"other-{number}")
    leaked = api("agent", name="leaked")
    leaked.report(
        *(failure(f"CA-{slug}", provider=slug, reason="auth") for slug in slugs[:providers])
    )
    told_of = [event.reason for event in events() if event.name == "misconfigured"]

    assert told_of == ["the API key leaked alone took 3 providers out"] * is_told


def test_s2_with_a_quorum_of_two_keys_it_takes_nobody_out_and_is_shown() -> None:
    make_policy(distinct_keys=2)
    make_route()
    leaked, other = api("agent", name="leaked"), api("agent", name="pods-eu")
    leaked.report(*(failure(f"CA{n}", reason="auth", provider="soniox") for n in range(4)))
    held = breaker()
    alert = told(events()[-1], AlertEvent.PROVIDER_FAILURE)
    effect = other.report(failure("real", reason="auth")).json()["results"][0]["effect"]

    assert held["state"] == "closed"
    assert held["held_back"] == "4 failures, all by key leaked; 2 keys are asked for"
    assert "all by key leaked; 2 keys are asked for" in alert
    assert effect == "tripped"
    assert breaker()["keys"] == {"leaked": 4, "pods-eu": 1}


def test_s2_a_policy_may_not_ask_for_more_keys_than_its_threshold_has_failures() -> None:
    with pytest.raises(ValidationError, match="ask for at most 2 keys"):
        make_policy(distinct_keys=3)


def agent_key(name: str, **values: object) -> None:
    key = {"role": "agent", "last_used_at": timezone.now(), **values}
    ApiKey.objects.create(name=name, public=name, **key)


@pytest.mark.parametrize(
    ("second", "quorum", "is_said"),
    [
        ({}, 1, True),
        ({}, 2, False),
        ({"enabled": False}, 1, False),
        ({"role": "reader"}, 1, False),
        ({"last_used_at": None}, 1, False),
        ({"last_used_at": timezone.now() - timedelta(days=40)}, 1, False),
        ({"expires_at": timezone.now() - timedelta(days=1)}, 1, False),
    ],
)
def test_s2_with_two_agent_keys_in_use_a_quorum_of_one_is_cautioned(
    second: dict[str, object], quorum: int, is_said: bool
) -> None:
    make_route()
    Policy.objects.update(distinct_keys=quorum)
    agent_key("eu")
    agent_key("us", **second)
    codes = [one.code for one in cautions.present(cautions.read())]

    assert ("one_key" in codes) == is_said


# --- keys bound to routes


@pytest.fixture
def bound() -> Api:
    """Return an agent whose key is bound to one of two routes, which share deepgram."""
    make_route("breeze-buddy", "soniox", "deepgram")
    make_route("acme", "sarvam", "deepgram")
    return api("agent", name="acme", routes=["acme"])


def test_s2_a_bound_key_is_given_decisions_of_its_routes_alone(bound: Api) -> None:
    other = bound.decide()

    problem = assert_problem(other, 403, "not_your_route")
    assert problem["detail"] == (
        "This API key may not use the route 'breeze-buddy': it is bound to acme."
    )
    assert bound.decide(route="acme").json()["provider"] == "sarvam"
    assert bound.get("/api/v1/status").status_code == 200


@pytest.mark.parametrize(
    "named",
    [{"provider": "soniox"}, {"provider": "soniox", "route": "acme"}, {"provider": "deepgram"}],
    ids=["another route", "a provider of another route", "another route, a provider of both"],
)
def test_s2_a_bound_key_reports_on_its_routes_and_their_providers_alone(
    bound: Api, named: dict[str, str]
) -> None:
    foreign = failure("CA1", **{"route": "breeze-buddy", **named})
    alone = bound.report(foreign)
    mixed = bound.report(foreign, failure("CA2", provider="deepgram", route="acme"))

    assert_problem(alone, 403, "not_your_route")
    assert [one["status"] for one in mixed.json()["results"]] == ["invalid", "accepted"]
    assert breaker("soniox")["failures"] == 0


def test_s2_a_bound_operator_orders_the_providers_of_its_routes_alone(bound: Api) -> None:
    operator = api("operator", name="acme-ops", routes=["acme"])
    body = {"state": "forced_open", "reason": "a test", "for_s": 60}
    refused = operator.send("PUT", "providers/soniox/override", body)
    carried_out = operator.send("PUT", "providers/sarvam/override", body)

    assert "does not reach the provider 'soniox'" in assert_problem(refused, 403)["detail"]
    assert carried_out.status_code == 200
    assert breaker("soniox")["state"] == "closed"


def test_s2_a_bound_key_need_not_name_the_route(bound: Api) -> None:
    seen = failure("CA1", provider="sarvam")
    del seen["route"]

    assert bound.report(seen).json()["results"][0]["counted"] is True


def test_s2_a_bound_stays_when_its_route_is_renamed(bound: Api, admin_client) -> None:
    Route.objects.filter(slug="acme").update(slug="acme-2")
    row = ApiKey.objects.get(name="acme")
    page = admin_client.get(f"/admin/fallback/apikey/{row.pk}/change/").content.decode()
    row.full_clean()

    assert '<option value="acme" selected>' in page
    assert row.routes == ["acme"]


def test_s2_a_key_is_bound_in_the_admin_and_says_so_in_its_history(
    bound: Api, admin_client
) -> None:
    row = ApiKey.objects.get(name="acme")
    form = {"name": "acme", "role": "agent", "enabled": "on", **WHY}
    address = f"/admin/fallback/apikey/{row.pk}/change/"
    answer = admin_client.post(address, {**form, "routes": ["acme", "breeze-buddy"]})
    row.refresh_from_db()
    freed = admin_client.post(address, form)

    assert (answer.status_code, freed.status_code) == (302, 302)
    assert row.routes == ["acme", "breeze-buddy"]
    assert [it.routes for it in row.history.all()] == [[], ["acme", "breeze-buddy"], ["acme"]]


def test_s2_a_key_is_bound_to_routes_that_exist() -> None:
    make_route("acme")
    row = ApiKey(name="x", public="x", secret_hash="x", role="agent")
    for wrong in (["nowhere"], "acme", [1]):
        row.routes = wrong
        with pytest.raises(ValidationError, match="route"):
            row.full_clean()
