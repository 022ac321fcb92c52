"""Statistics: counted without a turn, written twice without harm, added up, kept and answered."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fallback import catalog, services, stats
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.models import ProviderMinute
from fallback.stats import minutes, tally
from fallback.stats.counts import BOUNDS_MS, Counts, counts_from
from fallback.stats.minutes import Place
from fallback.stats.rollup import KEEP_DAYS, RollUp
from fallback.stats.tally import Tally
from tests.configuration import make_route
from tests.rest import api, assert_problem, outcome

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = int(START.timestamp()) // 60


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = START.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counting(clock, monkeypatch):
    """Have the verbs count in a tally of this test."""
    mine = Tally(clock)
    monkeypatch.setattr(mine._flusher, "start", lambda: None)
    monkeypatch.setattr(tally, "_tally", mine)
    return mine


def call(counts: Counts) -> None:
    counts.calls += 1


def row(provider: str = "soniox") -> ProviderMinute:
    return ProviderMinute.objects.get(provider=provider)


# --- counting


def test_decisions_failures_diversions_and_transcripts_are_counted(counting, clock):
    make_route()
    client = api()
    services.publish_configuration()
    client.decide()
    client.report(outcome(reason="connection"), outcome(call_id="CA2", reason="connection"))
    client.decide(call_id="CA3")
    client.report(
        outcome("first_transcript", call_id="CA3", provider="deepgram", latency_ms=420),
        outcome("started", call_id="CA4", provider="deepgram", mode="primary", source="pushed"),
    )
    counting.flush()
    RollUp(clock).run()

    found = {one.provider: one for one in ProviderMinute.objects.all()}
    assert (found["soniox"].calls, found["soniox"].failures, found["soniox"].diverted) == (1, 2, 1)
    assert (found["deepgram"].calls, found["deepgram"].failures) == (2, 0)
    assert sum(found["deepgram"].latencies) == 1
    assert found["deepgram"].at == START


def test_an_outcome_that_is_sent_again_counts_once(counting, clock):
    make_route()
    client = api()
    services.publish_configuration()
    for _ in range(3):
        client.report(outcome(reason="connection"))
    counting.flush()
    RollUp(clock).run()

    assert row().failures == 1


def test_counting_asks_neither_redis_nor_the_database(counting, redis_client):
    counting.add(Kind.STT, "soniox", call)
    redis_client.config_resetstat()
    with CaptureQueriesContext(connection) as queries:
        for _ in range(1_000):
            stats.decided(Kind.STT, "soniox")

    assert len(queries) == 0
    assert {"cmdstat_hset", "cmdstat_evalsha"} & set(redis_client.info("commandstats")) == set()


def test_many_threads_lose_no_count(counting, clock):
    def count() -> None:
        for _ in range(500):
            counting.add(Kind.STT, "soniox", call)

    threads = [threading.Thread(target=count) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    counting.flush()
    RollUp(clock).run()

    assert row().calls == 4_000


def test_what_redis_does_not_take_is_written_the_next_time(counting, clock, monkeypatch):
    def refuse(*_: object) -> None:
        raise BreakerUnavailable("away")

    counting.add(Kind.STT, "soniox", call)
    with monkeypatch.context() as away:
        away.setattr(minutes, "write", refuse)
        with pytest.raises(BreakerUnavailable):
            counting.flush()
    counting.flush()
    RollUp(clock).run()

    assert row().calls == 1


def test_while_redis_stays_away_the_oldest_minutes_go_first(counting, clock, monkeypatch):
    monkeypatch.setattr(tally, "PLACES_MAX", 3)
    for _ in range(5):
        counting.add(Kind.STT, "soniox", call)
        clock.now += 60
    counting.flush()
    RollUp(clock).run()

    kept = [one.at for one in ProviderMinute.objects.order_by("at")]
    assert kept == [START + timedelta(minutes=minute) for minute in (2, 3, 4)]


def test_a_minute_that_is_over_is_forgotten_in_memory(counting, clock):
    counting.add(Kind.STT, "soniox", call)
    clock.now += 600
    counting.flush()

    assert counting._counts == {}


# --- adding up


def test_all_processes_are_added_up_and_twice_is_once(clock):
    for process, calls in (("a", 3), ("b", 4), ("a", 5)):
        minutes.write(process, {Place(MINUTE, Kind.STT, "soniox"): Counts(calls).numbers()})
    rollup = RollUp(clock)

    assert (rollup.run(), rollup.run(), RollUp(clock).run()) == (1, 0, 1)
    assert row().calls == 9


def test_a_pump_that_was_away_takes_what_redis_still_has(clock):
    minutes.write("a", {Place(MINUTE, Kind.STT, "soniox"): Counts(1).numbers()})
    clock.now += 170 * 60
    RollUp(clock).run()

    assert row().calls == 1


def test_the_minutes_in_redis_end_by_themselves(redis_client, namespace):
    minutes.write("a", {Place(MINUTE, Kind.STT, "soniox"): Counts(1).numbers()})

    [key] = redis_client.keys("*stats*")
    assert key.decode() == f"{{{namespace}:stt}}:stats:{MINUTE}"
    assert 0 < redis_client.ttl(key) <= 180 * 60


@pytest.mark.parametrize(
    "raw", ["", "x", "[]", "{}", "[1,2]", "[" + "9" * 5000 + "]", "[-1" + ",0" * 16 + "]"]
)
def test_what_is_damaged_in_redis_counts_as_nothing(clock, redis_client, namespace, raw):
    redis_client.hset(f"{{{namespace}:stt}}:stats:{MINUTE}", "a:soniox", raw)
    minutes.write("b", {Place(MINUTE, Kind.STT, "soniox"): Counts(2).numbers()})
    RollUp(clock).run()

    assert row().calls == 2


def test_old_minutes_are_forgotten(clock):
    for age in (0, KEEP_DAYS - 1, KEEP_DAYS + 1):
        ProviderMinute.objects.create(
            kind="stt", provider=f"p{age}", at=START - timedelta(days=age)
        )
    gone = stats.forget(START, at_most=100)

    assert gone == 1
    assert not ProviderMinute.objects.filter(provider=f"p{KEEP_DAYS + 1}").exists()


# --- latencies


def test_percentiles_lie_within_their_bucket():
    counts = Counts()
    for latency_ms in range(1, 1_001):
        counts.took(latency_ms)

    assert counts.percentile_ms(50) == pytest.approx(500, abs=20)
    assert counts.percentile_ms(95) == pytest.approx(950, abs=20)
    assert Counts().percentile_ms(50) is None


def test_beyond_the_last_bound_is_that_bound():
    counts = Counts()
    counts.took(3_600_000)

    assert counts.percentile_ms(50) == BOUNDS_MS[-1]


def test_numbers_come_back_as_they_went():
    counts = Counts(1, 2, 3)
    counts.took(0)

    assert counts_from(counts.numbers()) == counts


# --- answered


def stored(minute: int, provider: str = "soniox", **values: object) -> None:
    counts = Counts()
    for latency_ms in values.pop("took", ()):  # type: ignore[union-attr]
        counts.took(latency_ms)
    ProviderMinute.objects.create(
        kind="stt", provider=provider, at=START + timedelta(minutes=minute),
        latencies=counts.latencies, **values,
    )  # fmt: skip


def asked(query: str):
    catalog.reload()
    return api("reader").get(f"/api/v1/stats?{query}")


def test_an_hour_is_answered_minute_by_minute():
    stored(1, calls=7, failures=2, diverted=1, took=[350, 350])
    body = asked("since=2026-11-22T12:00:00Z&until=2026-11-22T13:00:00Z").json()

    [soniox] = body["providers"]
    assert (body["since"], body["step_s"], len(soniox["calls"])) == (
        "2026-11-22T12:00:00.000Z", 60, 60,
    )  # fmt: skip
    assert soniox["calls"][:3] == [0, 7, 0]
    assert soniox["latency_p50_ms"][:3] == [None, 350, None]
    assert soniox["total"] == {
        "calls": 7, "failures": 2, "diverted": 1, "latency_p50_ms": 350, "latency_p95_ms": 395,
    }  # fmt: skip


def test_a_day_is_answered_in_steps_that_fit(monkeypatch):
    stored(0, calls=1), stored(4, calls=2), stored(5, calls=4)
    body = asked("since=2026-11-22T12:00:00Z&until=2026-11-23T12:00:00Z").json()

    assert (body["step_s"], body["providers"][0]["calls"][:2]) == (300, [3, 4])


def test_one_provider_can_be_asked_for():
    stored(0, calls=1), stored(0, "deepgram", calls=2)
    span = "since=2026-11-22T12:00:00Z&until=2026-11-22T13:00:00Z"

    found = asked(f"{span}&provider=deepgram&kind=stt").json()["providers"]
    assert [one["provider"] for one in found] == ["deepgram"]


@pytest.mark.parametrize(
    "query",
    [
        "last_s=0",
        "last_s=99999999",
        "kind=xyz",
        "nonsense=1",
        "provider=%00",
    ],
)
def test_a_query_that_makes_no_sense_is_a_problem(query):
    assert_problem(asked(query), 400)


@pytest.mark.parametrize(
    "query",
    ["since=2030-01-01T00:00:00Z", "until=0001-01-02T00:00:00Z", "since=9999-12-31T00:00:00Z",
     "until=9999-12-31T00:00:00Z", "since=0001-01-02T00:00:00Z&until=2026-11-21T00:00:00Z"],
)  # fmt: skip
def test_a_span_of_which_nothing_is_known_is_empty(query):
    stored(0, calls=1)

    assert asked(query).json()["providers"] == []


def test_an_agents_key_may_not_read_statistics():
    assert_problem(api("agent").get("/api/v1/stats"), 403)
