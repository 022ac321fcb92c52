"""What agents can make Redis keep is bounded, for each key; a full Redis still takes orders."""

import time
from collections.abc import Iterator

import pytest
import redis

from fallback import breaker, catalog, services, status
from fallback.api import idempotency
from fallback.domain import Kind, Memory
from fallback.models import IdempotentRequest, Policy
from fallback.services import budget
from tests.configuration import make_route
from tests.rest import Api, api, assert_problem, outcome

pytestmark = pytest.mark.django_db(transaction=True)

MINUTES_15, DAY = 15 * 60, 24 * 3600
LARGEST = "\U0001f600"  # four bytes a character


def call_key(call: str = "CA1") -> str:
    return breaker.key(Kind.STT, f"call:{call}")


def kept_s(client: redis.Redis, call: str = "CA1") -> int:
    """Return for how long a call is remembered, in s; -2: not at all."""
    return client.ttl(call_key(call))


def state(slug: str = "soniox") -> str:
    rows = status.build()["breakers"]
    return next(row["state"] for row in rows if row["provider"] == slug)


def trip(agent: Api) -> list[str]:
    """Report two failures; return their effects."""
    sent = [outcome(call_id=call, reason="connection") for call in ("CA-a", "CA-b")]
    return [one["effect"] for one in agent.report(*sent).json()["results"]]


def test_s11_the_100_largest_outcomes_of_a_call_take_40_kb(redis_client: redis.Redis) -> None:
    """Before, 514 kB."""
    make_route()
    agent = api("agent")
    sent = [
        {
            **outcome("call_end", host=LARGEST * 200, code=LARGEST * 64, message=LARGEST * 500),
            "id": f"{LARGEST * 250}{number:06}",
        }
        for number in range(100)
    ]
    results = [
        one for n in range(0, 100, 10) for one in agent.report(*sent[n : n + 10]).json()["results"]
    ]

    assert redis_client.memory_usage(call_key(), samples=0) < 40_000
    assert "no more is taken" in results[-1]["detail"]


def test_s11_a_hundred_usual_outcomes_of_a_call_are_taken() -> None:
    make_route()
    agent = api("agent")
    sent = [
        {**outcome("call_end", host="pod-7", message="x" * 120), "id": f"{number:036}"}
        for number in range(100)
    ]

    assert {one["status"] for one in agent.report(*sent).json()["results"]} == {"accepted"}


@pytest.mark.parametrize("why", ["bypass", "its first provider is not usable"])
def test_s11_a_call_that_nothing_happened_to_is_kept_15_minutes(
    redis_client: redis.Redis, why: str
) -> None:
    """Before, a day."""
    make_route(fallback_enabled=why != "bypass")
    asked = {} if why == "bypass" else {"can_use": ["deepgram"]}
    agent = api("agent")
    agent.decide(**asked)
    quiet_s = kept_s(redis_client)
    agent.report(outcome(reason="connection"))

    assert MINUTES_15 - 5 < quiet_s <= MINUTES_15
    assert kept_s(redis_client) > DAY - 5


# --- the budget of a key


@pytest.fixture
def two(settings) -> tuple[Api, Api]:
    """Return agents with two keys, of small budgets: some 230 calls each."""
    settings.CALL_MEMORY_MB = 1
    make_route()
    return api("agent", name="leaked"), api("agent", name="pods-eu")


def spend(by: str, *which: Memory) -> None:
    for memory in which:
        budget.buckets(memory).spend(by, time.monotonic(), 1e12)


@pytest.mark.parametrize(
    ("spent", "least_s", "most_s"),
    [
        ((), DAY - 5, DAY),
        ((Memory.FULL,), MINUTES_15 - 5, MINUTES_15),
        ((Memory.FULL, Memory.BRIEF), -2, -2),
    ],
    ids=["left", "full one spent", "both spent"],
)
def test_s11_past_its_budget_a_key_s_calls_are_decided_and_not_remembered(
    two: tuple[Api, Api], redis_client: redis.Redis, caplog, spent, least_s, most_s
) -> None:
    leaked, other = two
    trip(other)
    spend("api:leaked", *spent)
    made = leaked.decide().json()
    other.decide(call_id="CA2")

    assert (made["provider"], made["mode"], made["degraded"]) == ("deepgram", "fallback", False)
    assert least_s <= kept_s(redis_client) <= most_s
    assert kept_s(redis_client, "CA2") > DAY - 5
    assert ("call_budget_spent" in caplog.text and "api:leaked" in caplog.text) == bool(spent)


def test_s11_past_its_budget_a_key_s_failures_count_all_the_same(
    two: tuple[Api, Api], redis_client: redis.Redis
) -> None:
    """A long outage must not make the breakers deaf."""
    leaked, _ = two
    spend("api:leaked", Memory.FULL, Memory.BRIEF)

    assert trip(leaked) == ["counted", "tripped"]
    assert redis_client.keys("*call:*") == []


def test_s11_one_key_s_calls_take_what_its_budget_says_at_most(
    two: tuple[Api, Api], redis_client: redis.Redis
) -> None:
    """The study's flood: each outcome of another call, as large as may be."""
    leaked, _ = two
    before = redis_client.info("memory")["used_memory"]
    for batch in range(12):
        leaked.report(
            *(
                outcome(call_id=f"{batch}-{n}".rjust(128, "x"), kind="call_end", host="h" * 128)
                for n in range(100)
            )
        )
    grown = redis_client.info("memory")["used_memory"] - before

    assert redis_client.dbsize() < 1_000 < 12 * 100
    assert grown < 1_000_000


def test_s11_the_default_budget_remembers_an_outage_of_a_fleet() -> None:
    """50,000 diverted calls at once, and 40 quiet ones a second for ever, through one process."""
    full, brief = budget.buckets(Memory.FULL), budget.buckets(Memory.BRIEF)

    assert full.burst > 50_000 * (budget.DECISION_BYTES + 2 * 34 + 20)
    assert brief.rate_per_s > 40 * 1_700


def test_s11_a_large_batch_is_charged_as_several_requests(settings) -> None:
    settings.API_THROTTLE = {"caller": (0.001, 12), "stranger": (1, 5)}
    make_route()
    agent = api("agent")
    batch = [outcome("call_end", call_id=f"CA{number}") for number in range(100)]
    first, second = agent.report(*batch), agent.report(*batch)

    assert first.status_code == 200
    assert_problem(second, 429, "throttled")
    assert int(second["Retry-After"]) > 0


def test_s11_orders_remembered_of_one_caller_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "MOST", 5)
    make_route()
    operator = api("operator")
    for number in range(9):
        body = {"state": "forced_open", "reason": "a test", "for_s": 60}
        headers = {"Idempotency-Key": f"order-{number}"}
        path = "providers/soniox/override"
        assert operator.send("PUT", path, body, **headers).status_code == 200

    assert IdempotentRequest.objects.count() == 5
    assert IdempotentRequest.objects.filter(key="order-8").exists()


# --- a full Redis


@pytest.fixture
def full(redis_client: redis.Redis) -> Iterator[None]:
    """Have Redis refuse whatever may need memory."""
    make_route()
    services.publish_configuration()
    redis_client.config_set("maxmemory-policy", "noeviction")
    redis_client.config_set("maxmemory", 1)
    yield
    redis_client.config_set("maxmemory", 0)


def test_s11_a_full_redis_takes_operators_orders(full: None) -> None:
    operator = api("operator")
    body = {"state": "forced_open", "reason": "a test", "for_s": 60}
    answer = operator.send("PUT", "providers/soniox/override", body)
    forced = state()
    cleared = operator.delete("/api/v1/providers/soniox/override?reason=done")

    assert (answer.status_code, forced) == (200, "forced_open")
    assert (cleared.status_code, state()) == (200, "half_open")


def test_s11_a_full_redis_trips_and_diverts_without_being_degraded(
    full: None, redis_client: redis.Redis
) -> None:
    agent = api("agent")
    effects = trip(agent)
    made = agent.decide().json()

    assert (effects, state()) == (["counted", "tripped"], "open")
    assert (made["provider"], made["degraded"]) == ("deepgram", False)
    assert redis_client.keys("*call:*") == []


def test_s11_a_full_redis_takes_a_new_configuration(full: None) -> None:
    Policy.objects.update(failure_threshold=1)
    row = Policy.objects.get()
    row.failure_threshold = 1
    row.save()
    catalog.reload()
    services.publish_configuration()

    assert trip(api("agent")) == ["tripped", "none"]


def test_s11_once_there_is_room_calls_are_remembered_again(
    full: None, redis_client: redis.Redis
) -> None:
    agent = api("agent")
    trip(agent)
    agent.decide()
    redis_client.config_set("maxmemory", 0)
    agent.decide(call_id="CA2")

    assert kept_s(redis_client, "CA1") == -2
    assert kept_s(redis_client, "CA2") > DAY - 5
