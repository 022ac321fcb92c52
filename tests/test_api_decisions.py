"""POST decisions: the answer's shape, what is refused, and what a decision may cost."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.configuration import make_route
from tests.rest import api, assert_problem, outcome

pytestmark = pytest.mark.django_db(transaction=True)

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def agent():
    make_route()
    return api("agent")


def fail(agent, *calls: str) -> None:
    """Have the primary fail in these calls."""
    agent.report(*(outcome(call_id=call, reason="connection") for call in calls))


def test_a_healthy_primary_is_given_with_the_whole_order(agent):
    answer = agent.decide().json()

    assert (answer["provider"], answer["mode"], answer["degraded"]) == ("soniox", "primary", False)
    assert [step["provider"] for step in answer["order"]] == ["soniox", "deepgram"]
    assert answer["probe"] is None
    assert re.fullmatch(RFC3339, answer["decided_at"])


def test_a_tripped_primary_diverts_the_next_call_and_says_why(agent):
    fail(agent, "CA1", "CA2")

    answer = agent.decide(call_id="CA3").json()

    assert (answer["provider"], answer["mode"]) == ("deepgram", "fallback")
    why = answer["why"][0]
    assert (why["provider"], why["verdict"]) == ("soniox", "open")
    assert re.fullmatch(RFC3339, why["until"])
    assert "2 failures" in why["detail"]


def test_a_probe_carries_its_lease_and_how_long_it_lives(agent):
    operator = api("operator")
    operator.send("PUT", "providers/soniox/override", {"state": "forced_open", "reason": "drill"})
    operator.send("DELETE", "providers/soniox/override")

    answer = agent.decide().json()

    assert (answer["provider"], answer["mode"]) == ("soniox", "probe")
    assert answer["probe"]["lease"]
    assert answer["probe"]["expires_in_s"] == 120
    assert re.fullmatch(RFC3339, answer["probe"]["expires_at"])


def test_unknown_names_are_named_in_why_and_do_not_stop_the_decision(agent):
    answer = agent.decide(can_use=["soniox", "nobody"], failed=["nowhere"]).json()

    verdicts = {line["provider"]: line["verdict"] for line in answer["why"]}
    assert verdicts["nobody"] == verdicts["nowhere"] == "not_usable"


def test_a_chain_that_this_agent_cannot_use_is_a_conflict(agent):
    problem = assert_problem(agent.decide(can_use=["google"]), 409, "no_usable_provider")

    assert "soniox" in problem["detail"]
    assert problem["why"] == [
        {"provider": "soniox", "verdict": "not_usable",
         "detail": "the agent did not name it in can_use"},
        {"provider": "deepgram", "verdict": "not_usable",
         "detail": "the agent did not name it in can_use"},
        {"provider": "google", "verdict": "not_usable",
         "detail": "not a step of route breeze-buddy"},
    ]  # fmt: skip


def test_an_unknown_route_is_not_found(agent):
    assert_problem(agent.decide(route="nowhere"), 404, "not_found")


def test_a_misspelled_field_is_refused_with_the_right_name(agent):
    problem = assert_problem(agent.decide(langauge="hi"), 400, "invalid")

    assert problem["errors"] == [
        {
            "field": "langauge",
            "detail": "is not a field here; did you mean language?",
            "code": "invalid",
        }
    ]


def test_every_wrong_field_is_named_at_once(agent):
    problem = assert_problem(agent.decide(call_id=5, probe="yes", can_use="soniox"), 400)

    assert {error["field"] for error in problem["errors"]} == {"call_id", "probe", "can_use"}


def test_null_is_the_same_as_left_out(agent):
    answer = agent.decide(language=None, can_use=None, failed=None, host=None, probe=None)

    assert answer.status_code == 200


def test_a_call_id_of_128_characters_is_taken_and_one_more_is_not(agent):
    assert agent.decide(call_id="ü" * 128).status_code == 200
    assert_problem(agent.decide(call_id="ü" * 129), 400)


def test_a_decision_in_steady_state_makes_no_query(agent):
    agent.decide()

    with CaptureQueriesContext(connection) as queries:
        agent.decide(call_id="CA2")

    assert [query["sql"] for query in queries] == []


def test_a_decision_is_one_round_trip_to_redis(agent, redis_client):
    agent.decide()

    with redis_client.monitor() as monitor:
        redis_client.echo("begin")
        agent.decide(call_id="CA2")
        redis_client.echo("done")
        commands_until("ECHO begin", monitor)
        turns = commands_until("ECHO done", monitor)

    # A thread beside all decisions looks three times a second whether the server is the master.
    assert [turn.split()[0] for turn in turns if turn != "INFO replication"] == ["EVALSHA"]


def commands_until(last: str, monitor) -> list[str]:
    """Return what clients sent, without what scripts did inside."""
    sent: list[str] = []
    while True:
        seen = monitor.next_command()
        if seen["command"] == last:
            return sent
        if seen["client_type"] != "lua":
            sent.append(seen["command"])
