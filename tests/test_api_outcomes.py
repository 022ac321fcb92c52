"""POST outcomes: batches, what is cut, what is refused, and what becomes of the others."""

import pytest

from controlplane.bodies import API_MAX
from tests.configuration import make_route
from tests.rest import api, assert_problem, outcome

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent():
    make_route()
    return api("agent")


def last_entry(agent, call_id: str = "CA1") -> dict:
    """Return the last of what is remembered of a call."""
    return agent.get(f"/api/v1/calls/{call_id}").json()["entries"][-1]


def test_a_failure_is_counted_and_the_agent_told_where_to_go(agent):
    result = agent.report(outcome(reason="connection")).json()["results"][0]

    assert result == {
        "id": "CA1:soniox:init_failure",
        "status": "accepted",
        "counted": True,
        "effect": "counted",
        "next": {"action": "swap", "provider": "deepgram"},
    }


def test_the_same_outcome_sent_again_is_a_duplicate(agent):
    agent.report(outcome(reason="connection"))

    result = agent.report(outcome(reason="connection")).json()["results"][0]

    assert (result["status"], result["counted"]) == ("duplicate", False)


def test_a_partly_bad_batch_takes_the_good_ones_and_names_the_bad(agent):
    good, bad = outcome(reason="connection"), outcome("init_failed", call_id="CA2")

    response = agent.report(bad, good, "not an object", {"id": "x"})

    results = response.json()["results"]
    assert response.status_code == 200
    assert [result["status"] for result in results] == ["invalid", "accepted", "invalid", "invalid"]
    assert results[0]["id"] == bad["id"]
    assert results[0]["detail"].startswith("outcomes.0.kind must be one of started, init_failure")
    assert "did you mean init_failure?" in results[0]["detail"]
    assert results[2] == {
        "id": None,
        "status": "invalid",
        "counted": False,
        "effect": "none",
        "next": None,
        "detail": 'outcomes.2 must be an object, not "not an object".',
    }


def test_a_batch_of_only_bad_ones_is_answered_one_by_one(agent):
    response = agent.report({}, {})

    assert response.status_code == 200
    assert {result["status"] for result in response.json()["results"]} == {"invalid"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "must be an object, not a list of 0"),
        ({}, "is required: a list of 1 to 100 outcomes"),
        ({"outcomes": {}}, "must be a list of 1 to 100 outcomes"),
        ({"outcomes": []}, "is empty: send 1 to 100 outcomes"),
        ({"outcomes": [{}] * 101}, "send at most 100"),
        ({"outcomes": [{}], "outcome": 1}, "did you mean outcomes?"),
    ],
)
def test_a_wrong_envelope_refuses_the_whole_request(agent, body, says):
    problem = assert_problem(agent.send("POST", "outcomes", body), 400, "invalid")

    assert says in problem["errors"][0]["detail"]


def test_an_unknown_provider_is_invalid_and_costs_no_other(agent):
    results = agent.report(outcome(provider="nobody"), outcome()).json()["results"]

    assert [result["status"] for result in results] == ["invalid", "accepted"]
    assert "nobody" in results[0]["detail"]


def test_texts_of_providers_are_cut_and_lose_their_controls(agent):
    hostile = "a\x00\x1b[31m\u202eb\n\ud800c" + "x" * 600

    agent.report(outcome(message=hostile, code=hostile, host=hostile, reason="connection"))

    entry = last_entry(agent)
    assert entry["message"] == ("a[31mb c" + "x" * 600)[:500]
    assert (len(entry["code"]), len(entry["host"])) == (64, 128)


def test_a_stall_without_a_reason_is_a_stall(agent):
    agent.report(outcome("stall"))

    assert last_entry(agent)["reason"] == "stall"


def test_an_age_of_years_is_taken_as_the_oldest_that_counts(agent):
    result = agent.report(outcome(age_ms=10**15)).json()["results"][0]

    assert result["status"] == "accepted"


def test_a_body_of_exactly_the_limit_is_read_and_one_more_byte_is_not(agent):
    padding = API_MAX - len('{"outcomes":[]}')

    at_limit = agent.send("POST", "outcomes", '{"outcomes":[]' + " " * padding + "}")
    over_it = agent.send("POST", "outcomes", '{"outcomes":[]' + " " * (padding + 1) + "}")

    assert_problem(at_limit, 400)
    assert_problem(over_it, 413, "too_large")
