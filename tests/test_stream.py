import threading
import time

import pytest
import redis

from fallback import stream
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from tests.events import STREAM, event, fields, outage, write

STT = Kind.STT


def read(consumer: str = "one", count: int = 100) -> list[stream.Entry]:
    return stream.read(STT, consumer, count=count)


def claim(consumer: str = "one", idle_ms: int = 0) -> list[stream.Entry]:
    return stream.claim_stale(STT, consumer, idle_ms=idle_ms, count=100)


def is_redis_6(client: redis.Redis) -> bool:
    return client.info("server")["redis_version"].startswith("6.")


# --- reading


def test_an_entry_comes_back_as_the_event_that_was_written(redis_client):
    told = event(4, reason="Ünïcödé ☎", evidence={"hurt": 2, "reasons": {"stall": 1}})
    write(redis_client, told)

    assert [entry.event for entry in read()] == [told]


def test_a_group_that_does_not_exist_yet_is_made_and_reads_from_the_beginning(redis_client):
    write(redis_client, *outage())

    assert len(read()) == 5


def test_reading_an_empty_stream_returns_nothing_and_makes_the_group():
    assert read() == []
    assert stream.lag(STT).entries == 0


def test_two_consumers_share_the_entries_and_none_is_given_twice(redis_client):
    write(redis_client, *outage())

    given = [entry.id for consumer in ("one", "two") for entry in read(consumer, count=3)]

    assert len(given) == len(set(given)) == 5


def test_a_flush_loses_the_group_and_reading_goes_on(redis_client):
    write(redis_client, event(1))
    read()
    redis_client.flushdb()
    write(redis_client, event(1, incarnation="bbbbbbbb"))

    assert [entry.event.id[:8] for entry in read()] == ["bbbbbbbb"]


def test_each_kind_has_a_stream_of_its_own(redis_client):
    write(redis_client, event(1), stream=STREAM.replace("stt", "tts"))

    assert read() == []
    assert [entry.event.kind for entry in stream.read(Kind.TTS, "one", count=9)] == [Kind.TTS]


def test_a_blocking_read_returns_as_soon_as_something_is_written(redis_client):
    read()
    writer = threading.Timer(0.1, write, (redis_client, event(1)))
    writer.start()

    assert len(stream.read(STT, "one", count=9, block_ms=5000)) == 1
    writer.join()


# --- acknowledging and taking over


def test_what_was_not_acknowledged_is_owed_until_it_is(redis_client):
    write(redis_client, event(1), event(2))
    first, second = read()
    stream.acknowledge(STT, [first.id])

    assert [entry.id for entry in stream.owed(STT, "one", count=9)] == [second.id]


def test_acknowledging_nothing_asks_redis_nothing(redis_client):
    before = redis_client.info("commandstats")
    stream.acknowledge(STT, [])
    after = redis_client.info("commandstats")

    assert before.get("cmdstat_xack") == after.get("cmdstat_xack")


def test_the_entries_of_a_dead_consumer_are_taken_over(redis_client):
    write(redis_client, *outage())
    read("dead")

    assert len(claim("living")) == 5
    assert stream.owed(STT, "dead", count=9) == []


def test_the_entries_of_a_living_consumer_are_left_to_it(redis_client):
    write(redis_client, event(1))
    read("living")

    assert claim("other", idle_ms=60_000) == []


def test_what_a_consumer_says_it_works_on_is_not_stale(redis_client):
    write(redis_client, *outage())
    entries = read("slow")
    time.sleep(0.3)
    stream.hold(STT, "slow", [entry.id for entry in entries])

    assert claim("other", idle_ms=250) == []
    assert len(stream.owed(STT, "slow", count=9)) == 5


def test_what_a_consumer_says_it_works_on_does_not_come_back_once_acknowledged(redis_client):
    write(redis_client, event(1))
    [entry] = read()
    stream.acknowledge(STT, [entry.id])
    stream.hold(STT, "one", [entry.id])

    assert stream.lag(STT).entries == 0


@pytest.mark.parametrize("taker", ["living", "dead"])
def test_an_entry_trimmed_while_pending_is_named_and_can_be_acknowledged(redis_client, taker):
    write(redis_client, event(1), event(2))
    kept = read("dead")[1]
    redis_client.xtrim(STREAM, minid=kept.id, approximate=False)

    entries = claim(taker)
    stream.acknowledge(STT, [entry.id for entry in entries])

    assert [(entry.problem, entry.event is None) for entry in entries] == [
        (stream.TRIMMED, True),
        ("", False),
    ]
    assert stream.lag(STT).entries == 0


def test_a_dead_letter_put_back_is_read_again(redis_client):
    stream.put_back(STT, fields(event(1)))

    assert [entry.event for entry in read()] == [event(1)]


# --- entries that make no sense


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({b"reason": b"\xff\xfe"}, "utf-8"),
        ({b"surprise": b"1"}, "unknown field surprise"),
        ({b"at_ms": None}, "no field at_ms"),
        ({b"id": b""}, "the id is empty"),
        ({b"evidence": b"{"}, "Expecting"),
        ({b"evidence": b"[]"}, "not a JSON object"),
        ({b"evidence": b'{"a": NaN}'}, "NaN"),
        ({b"evidence": b'{"a": 1e999}'}, "1e999"),
        ({b"evidence": b"[" * 100_000}, "recursion"),
        ({b"at_ms": b"soon"}, "at_ms"),
        ({b"at_ms": b"9" * 18}, "at_ms"),
        ({b"version": b"-1"}, "version"),
        ({b"version": b"9" * 5000}, "version"),
        ({b"name": b"exploded"}, "unknown event 'exploded'"),
        ({b"before": b"ajar"}, "unknown state 'ajar'"),
        ({b"after": b"ajar"}, "unknown state 'ajar'"),
    ],
)
def test_an_entry_that_makes_no_sense_is_returned_with_its_problem(redis_client, changes, problem):
    whole = {name.encode(): value.encode() for name, value in fields(event(1)).items()}
    broken = {name: value for name, value in (whole | changes).items() if value is not None}
    redis_client.xadd(STREAM, broken)
    write(redis_client, event(2))

    bad, good = read()

    assert bad.event is None
    assert problem in bad.problem
    assert bad.fields == broken
    assert good.event == event(2)


def test_characters_that_no_database_stores_are_replaced_at_any_depth(redis_client):
    write(redis_client, event(1, reason="a\x00b", evidence={"k\x00": ["\x00", {"x": "\ud800"}]}))

    found = read()[0].event

    assert found.reason == "a\ufffdb"
    assert found.evidence == {"k\ufffd": ["\ufffd", {"x": "\ufffd"}]}


def test_the_number_of_an_event_is_found_behind_a_slug_with_dashes_and_digits():
    told = event(12, provider="deep-gram-7-eu", request="3-4-5")

    assert stream.number_of(told.id, told.provider) == ("aaaaaaaa", 12)


def test_an_announcement_has_no_number():
    assert stream.number_of("aaaaaaaa--1795-request", "") is None
    assert stream.number_of("aaaaaaaa--1795-request", "soniox") is None


# --- the lag


def test_the_lag_counts_what_nobody_was_given_and_what_nobody_acknowledged(redis_client):
    write(redis_client, *outage())
    entries = read(count=3)
    stream.acknowledge(STT, [entries[0].id])

    assert stream.lag(STT).entries == 4


def test_the_lag_is_as_old_as_the_oldest_unprocessed_entry(redis_client):
    seconds, _ = redis_client.time()
    redis_client.xadd(STREAM, fields(event(1)), id=f"{1000 * (seconds - 60)}-0")
    unread = stream.lag(STT).age_ms
    entry = read()[0]
    unacknowledged = stream.lag(STT).age_ms
    stream.acknowledge(STT, [entry.id])

    assert 59_000 < unread < 65_000
    assert 59_000 < unacknowledged < 65_000
    assert stream.lag(STT).age_ms == 0


def test_the_lag_of_a_stream_that_lost_its_group_is_all_of_it(redis_client):
    write(redis_client, *outage())
    read()
    redis_client.xgroup_destroy(STREAM, stream.GROUP)

    assert stream.lag(STT).entries == 5


def test_looking_at_the_lag_writes_nothing(redis_client):
    stream.lag(STT)

    assert redis_client.keys("*") == []


# --- who is there


def test_a_pump_that_asks_what_it_owes_is_heard_of(redis_client):
    assert stream.silence_ms(STT) is None
    stream.owed(STT, "one", count=9)
    time.sleep(0.1)  # Redis's own clock: nobody can pass it another
    silent = stream.silence_ms(STT)
    stream.owed(STT, "one", count=9)

    assert 100 <= silent < 2000
    assert stream.silence_ms(STT) < silent


def test_a_consumer_that_leaves_is_forgotten_unless_it_owes_something(redis_client):
    write(redis_client, event(1))
    read("owing")
    read("idle")
    for consumer in ("owing", "idle"):
        stream.leave(STT, consumer)

    names = [row["name"] for row in redis_client.xinfo_consumers(STREAM, stream.GROUP)]
    assert names == [b"owing"]


# --- Redis away


@pytest.fixture
def no_redis(settings, tmp_path):
    """Point the stream's client at a socket where nobody listens."""
    nobody = settings.CACHES["stream"] | {"LOCATION": f"unix://{tmp_path}/nobody.sock"}
    settings.CACHES = settings.CACHES | {"stream": nobody}


@pytest.mark.usefixtures("no_redis")
@pytest.mark.parametrize(
    "ask",
    [read, claim, lambda: stream.lag(STT), lambda: stream.silence_ms(STT)],
    ids=["read", "claim", "lag", "silence"],
)
def test_redis_out_of_reach_is_one_kind_of_error(ask):
    with pytest.raises(BreakerUnavailable):
        ask()


def test_a_key_of_another_type_is_an_error_and_not_a_crash(redis_client):
    redis_client.set(STREAM, "not a stream")

    with pytest.raises(BreakerUnavailable, match="Redis refused"):
        read()
