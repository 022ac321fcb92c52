"""What one web process learns of what another did: nobody there is told an old truth.

A real web process beside this one, on the same database and Redis. What is changed here is found
there by its looks at the database alone, as in production.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fallback import catalog, services
from fallback.domain import Outcome, OutcomeKind, Reason
from fallback.models import ApiKey, Provider
from tests.configuration import make_route
from tests.processes import database_url
from tests.rest import make_key, outcome
from tests.web_process import CALLERS, Other, web_process

pytestmark = pytest.mark.django_db(transaction=True)

IDLE_S = catalog.CONFIRMED_S + 0.3


@pytest.fixture
def other(tmp_path, redis_url: str) -> Iterator[Other]:
    """Start the other process on this test's database and Redis, with a route to decide on."""
    make_route()
    services.publish_configuration()
    with web_process(tmp_path, database_url()) as process:
        yield process


# --- what is new is waited for


def assert_known(rounds: list[list[int]]) -> None:
    """Insist that nobody was told that there is no such thing. On a machine so busy that the look
    is too late some are told to ask again, but not each time."""
    assert {status for found in rounds for status in found} <= {200, 503}
    assert [200] * len(rounds[0]) in rounds


def test_s10_a_fresh_key_is_known_to_all_its_first_callers(other: Other) -> None:
    other.warm(make_key(name="old"))
    rounds = []
    for number in range(3):
        key = make_key(name=f"fresh-{number}")
        rounds.append(other.at_once(CALLERS, lambda call, key=key: other.decide(key, call)))

    assert_known(rounds)


def test_s10_a_fresh_route_is_known_to_all_its_first_callers(other: Other) -> None:
    key = make_key()
    other.warm(key)
    rounds = []
    for number in range(3):
        route = make_route(f"fresh-{number}").slug
        rounds.append(
            other.at_once(CALLERS, lambda call, route=route: other.decide(key, call, route))
        )

    assert_known(rounds)


def test_s10_nobody_uses_up_the_look_of_others_by_asking_for_nonsense(other: Other) -> None:
    key = make_key()
    other.warm(key)
    over = threading.Event()

    def ask_for_nonsense() -> None:
        """Name the same unknown route, and another unknown key each time, without a pause."""
        with httpx.Client(base_url=f"{other.url}/api/v1/", timeout=10) as client:
            number = 0
            while not over.is_set():
                number += 1
                for header, route in ((key, "nonsense"), (f"stt_x{number}.y", "breeze-buddy")):
                    client.post(
                        "decisions",
                        json={"route": route, "call_id": "CA1"},
                        headers={"Authorization": f"Bearer {header}"},
                    )

    agents = [threading.Thread(target=ask_for_nonsense) for _ in range(2)]
    for agent in agents:
        agent.start()
    try:
        time.sleep(0.5)
        rounds = []
        for number in range(3):
            fresh, route = make_key(name=f"fresh-{number}"), make_route(f"fresh-{number}").slug
            rounds.append(
                other.at_once(
                    16, lambda call, fresh=fresh, route=route: other.decide(fresh, call, route)
                )
            )
    finally:
        over.set()
        for agent in agents:
            agent.join()

    assert_known(rounds)


# --- what is over is over


def test_s9_a_key_that_is_switched_off_gives_no_order_however_idle_the_process(
    other: Other,
) -> None:
    key = make_key("operator")
    before = other.force_open(key).status_code
    time.sleep(IDLE_S)
    switch(key, enabled=False)
    time.sleep(IDLE_S)
    found = other.at_once(16, lambda _: other.force_open(key))

    assert (before, found) == (200, [401] * 16)


def test_s9_nor_does_it_where_the_process_is_busy(other: Other) -> None:
    key, reader = make_key("operator"), make_key("reader")
    found = []
    for _ in range(3):
        switch(key, enabled=True)
        found.append(other.force_open(key).status_code)
        other.send(reader, "GET", "status")
        switch(key, enabled=False)
        found.append(other.force_open(key).status_code)

    assert found == [200, 401] * 3


def test_s9_a_key_that_is_switched_on_again_is_good_at_its_first_request(other: Other) -> None:
    key, agent = make_key("operator", enabled=False), make_key(enabled=False)
    before = [other.force_open(key).status_code, other.decide(agent, 1).status_code]
    switch(key, enabled=True)
    switch(agent, enabled=True)
    after = [other.force_open(key).status_code, other.decide(agent, 2).status_code]

    assert (before, after) == ([401, 401], [200, 200])


def test_s9_a_key_that_became_an_agent_s_gives_no_order(other: Other) -> None:
    key = make_key("operator")
    before = other.force_open(key).status_code
    switch(key, role="agent")

    assert (before, other.force_open(key).status_code) == (200, 403)


def switch(key: str, **values: Any) -> None:
    """Change the row of a key, as its form does."""
    row = ApiKey.objects.get(public=key.removeprefix("stt_").partition(".")[0])
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


# --- GET status


def test_a8_status_of_an_idle_process_is_not_its_last_visit_s(other: Other) -> None:
    key = make_key("reader")
    before = other.soniox(key)["failure_threshold"]
    time.sleep(IDLE_S)
    policy = Provider.objects.get(slug="soniox").policy
    policy.failure_threshold = before + 3
    policy.save()
    time.sleep(IDLE_S)

    assert other.soniox(key)["failure_threshold"] == before + 3


def test_a8_status_right_after_an_outcome_tells_that_outcome_in_another_process_too(
    other: Other,
) -> None:
    key = make_key()
    other.soniox(key)
    seen = []
    for number in range(5):
        report = outcome(call_id=f"CA{number}", reason="bad_request" if number < 2 else "timeout")
        services.report_outcomes([_outcome(report)])
        seen.append(other.soniox(key)["failures"])

    assert seen == [0, 0, 1, 2, 2]


def _outcome(report: dict[str, Any]) -> Outcome:
    return Outcome(
        **{**report, "kind": OutcomeKind(report["kind"]), "reason": Reason(report["reason"])}
    )
