"""Calls, incidents and transitions: what was, newest first, in pages."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from fallback.models import Incident, Transition
from tests.configuration import make_route
from tests.rest import api, assert_problem, flaw, outcome

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 11, 22, 12, tzinfo=UTC)

BAD_QUERIES = [
    "provider=",
    "provider=" + "a" * 64,
    "provider=a%00",
    "kind=sst",
    "kind=",
    "since=yesterday",
    "since=2026-13-01",
    "since=2026-11-22T12:00:00 02:00",
    "since=0001-01-01T00:00:00%2B14:00",
    "until=9999-12-31T23:59:59-14:00",
    "until=%00",
    "since=1e400",
    "page_size=0",
    "page_size=201",
    "page_size=-1",
    "page_size=all",
    "page_size=99999999999999999999",
    "page_size=%C2%B2",
    "cursor=",
    "cursor=x",
    "cursor=%00",
    "cursor=" + "A" * 2000,
    "cursor=cD1hJm89LTE=",  # p=a&o=-1
    "cursor=cD1ub25zZW5zZQ==",  # p=nonsense
    "cursor=cj0xJnA9JTAw",  # r=1&p=%00
    "provder=soniox",
    "limit=5",
]


@pytest.fixture
def reader():
    make_route()
    return api("reader")


def add_incident(provider: str = "soniox", minutes: int = 0, **values) -> Incident:
    """Store an incident that opened so many minutes after START."""
    opened_at = START + timedelta(minutes=minutes)
    fixed = {"kind": "stt", "cause": "failure_threshold", "actor": "breaker"}
    return Incident.objects.create(
        key=f"e{minutes}-{provider}-1",
        provider=provider,
        opened_at=opened_at,
        **{**fixed, **values},
    )


def add_transitions(count: int, **values) -> None:
    """Store transitions, one a minute, the first at START."""
    Transition.objects.bulk_create(
        Transition(
            **{
                "event_id": f"i-{number}-r",
                "name": "tripped",
                "provider": "soniox",
                "kind": "stt",
                "before": "closed",
                "after": "open",
                "at": START + timedelta(minutes=number),
                "cause": "failure_threshold",
                "actor": "breaker",
                "evidence": {"failures": 2},
                **values,
            }
        )
        for number in range(count)
    )


def ids(response) -> list:
    """Return the ids of a page."""
    return [row["id"] for row in response.json()["results"]]


def test_a_transition_is_written_as_the_contract_has_it(reader):
    incident = add_incident()
    add_transitions(1, incident=incident, reason="401")

    page = reader.get("/api/v1/transitions").json()

    assert page == {
        "next": None,
        "previous": None,
        "results": [
            {
                "id": "i-0-r",
                "provider": "soniox",
                "kind": "stt",
                "from": "closed",
                "to": "open",
                "at": "2026-11-22T12:00:00.000Z",
                "cause": "failure_threshold",
                "actor": "breaker",
                "reason": "401",
                "evidence": {"failures": 2},
                "incident": incident.pk,
            }
        ],
    }


def test_an_incident_says_how_long_it_took_to_see_and_to_end(reader):
    add_incident(
        first_failure_at=START - timedelta(seconds=1.5), closed_at=START + timedelta(minutes=30)
    )

    row = reader.get("/api/v1/incidents").json()["results"][0]

    assert (row["detected_after_s"], row["out_for_s"]) == (1.5, 1800)
    assert row["closed_at"] == "2026-11-22T12:30:00.000Z"


def test_pages_are_newest_first_and_lead_to_each_other(reader):
    add_transitions(5)
    first = reader.get("/api/v1/transitions?page_size=2")
    second = reader.get(first.json()["next"])
    third = reader.get(second.json()["next"])

    assert [ids(page) for page in (first, second, third)] == [
        ["i-4-r", "i-3-r"],
        ["i-2-r", "i-1-r"],
        ["i-0-r"],
    ]
    assert third.json()["next"] is None
    assert ids(reader.get(second.json()["previous"])) == ids(first)


def test_pages_stay_where_they_are_while_something_happens(reader):
    add_transitions(3)
    first = reader.get("/api/v1/transitions?page_size=2").json()
    add_transitions(1, event_id="new", at=START + timedelta(hours=1))

    assert ids(reader.get(first["next"])) == ["i-0-r"]


def test_transitions_of_the_same_moment_are_all_seen_once(reader):
    add_transitions(5, at=START)
    seen, url = [], "/api/v1/transitions?page_size=2"
    while url:
        page = reader.get(url)
        seen, url = seen + ids(page), page.json()["next"]

    assert sorted(seen) == [f"i-{number}-r" for number in range(5)]


def test_filters_narrow_by_provider_kind_and_time(reader):
    add_incident("soniox", 0)
    add_incident("deepgram", 10)
    add_incident("soniox", 20, kind="tts")

    def found(query: str) -> list[str]:
        rows = reader.get(f"/api/v1/incidents?{query}").json()["results"]
        return [row["opened_at"][11:16] for row in rows]

    assert found("provider=soniox") == ["12:20", "12:00"]
    assert found("kind=tts") == ["12:20"]
    assert found("since=2026-11-22T12:10:00Z") == ["12:20", "12:10"]
    assert found("until=2026-11-22T12:10:00Z") == ["12:00"]
    assert found("since=2026-11-22T17:40:00%2B05:30&until=2026-11-22T12:20") == ["12:10"]
    assert found("provider=gone") == []


def test_incidents_that_go_on_are_found_whenever_they_began(reader):
    add_incident("soniox", 0)
    add_incident("deepgram", 10)
    Incident.objects.filter(provider="deepgram").update(closed_at="2026-11-22T12:30:00Z")

    def found(state: str) -> list[str]:
        page = reader.get(f"/api/v1/incidents?state={state}").json()
        return [row["provider"] for row in page["results"]]

    assert found("going_on") == ["soniox"]
    assert found("over") == ["deepgram"]
    assert reader.get("/api/v1/incidents?state=open").status_code == 400


@pytest.mark.parametrize("resource", ["transitions", "incidents"])
def test_a_query_that_makes_no_sense_is_a_problem(reader, resource):
    found = {query: flaw(reader.get(f"/api/v1/{resource}?{query}"), 400) for query in BAD_QUERIES}

    assert {query: text for query, text in found.items() if text} == {}


def test_a_misspelled_filter_is_refused_with_the_right_name(reader):
    problem = assert_problem(reader.get("/api/v1/transitions?provder=soniox"), 400)

    assert "did you mean provider?" in problem["detail"]


def test_a_call_that_failed_tells_what_happened_in_it(reader):
    agent = api("agent")
    agent.decide()
    agent.report(outcome(reason="connection", message="refused"))

    call = reader.get("/api/v1/calls/CA1").json()

    assert call["call_id"] == "CA1"
    assert call["entries"][-1]["reason"] == "connection"
    assert call["entries"][-1]["at"].endswith("Z")


def test_a_lease_is_told_to_nobody_but_the_call_that_holds_it(reader):
    operator = api("operator")
    operator.send("PUT", "providers/soniox/override", {"state": "forced_open", "reason": "drill"})
    operator.send("DELETE", "providers/soniox/override")
    lease = operator.decide().json()["probe"]["lease"]

    assert lease not in reader.get("/api/v1/calls/CA1").content.decode()


def test_an_uneventful_call_is_not_found_and_the_answer_says_why(reader):
    api("agent").decide()

    problem = assert_problem(reader.get("/api/v1/calls/CA1"), 404, "not_found")

    assert "CA1" in problem["detail"]


def test_a_call_id_may_have_slashes_and_spaces(reader):
    agent = api("agent")
    agent.report(outcome(call_id="a/b c?d%e", reason="connection"))

    assert reader.get("/api/v1/calls/a%2Fb%20c%3Fd%25e").json()["call_id"] == "a/b c?d%e"


@pytest.mark.parametrize("where", ["transitions", "incidents"])
@pytest.mark.parametrize(
    "position",
    [
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "10000-01-01T00:00:00Z",
        "-1",
        "0",
    ],
)
def test_s17_a_cursor_at_the_end_of_the_calendar_is_a_bad_one(where, position):
    cursor = b64encode(urlencode({"p": position}).encode()).decode()
    answer = api("reader").get(f"/api/v1/{where}", {"cursor": cursor})

    assert_problem(answer, 400, "invalid")


@pytest.mark.parametrize(
    "position", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-01", "2026-W01-1"]
)
def test_s17_a_cursor_within_the_calendar_is_followed(position):
    cursor = b64encode(urlencode({"p": position}).encode()).decode()
    answer = api("reader").get("/api/v1/transitions", {"cursor": cursor})

    assert (answer.status_code, answer.json()["results"]) == (200, [])
