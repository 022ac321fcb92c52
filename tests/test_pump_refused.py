"""A database that refuses: that is never the entry's fault, and nothing is lost.

DATABASE_REFUSES_S sets for how long the real one refuses; the suite keeps it small.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import (
    DatabaseError,
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
)
from structlog.testing import capture_logs

from fallback import history, spells, stats, stream
from fallback.domain import Event, Kind
from fallback.holding import HOLD_MAX_S
from fallback.models import Alert, AlertDestination, DeadLetter, Transition
from fallback.pump import DELIVERIES_MAX, HANDLERS, Pump
from fallback.pump.heart import SLOW_S, PumpHeart
from tests.events import event, outage, write
from tests.processes import eventually
from tests.test_pump import Clock, turns

pytestmark = pytest.mark.django_db(transaction=True)

STT = Kind.STT
REFUSES_S = float(os.environ.get("DATABASE_REFUSES_S", "2"))
ON_POSTGRESQL = pytest.mark.skipif(
    "postgres" not in os.environ.get("TEST_DATABASE_URL", ""), reason="a trigger with an SQLSTATE"
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Refusing:
    """A handler that cannot take the events of some providers, each with an error of its own."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors

    def __call__(self, events: Sequence[Event]) -> Sequence[Event]:
        for told in events:
            if told.provider in self.errors:
                raise self.errors[told.provider]
        return events


def some_turns(pump: Pump, clock: Clock, count: int) -> list[Exception]:
    """Take turns a second apart; return what the pump would have waited for."""
    raised = []
    for _ in range(count):
        try:
            pump.turn()
        except DatabaseError as error:
            raised.append(error)
        except InterfaceError as error:
            raised.append(error)
        clock.now += 1
    return raised


# --- whose fault it is


@pytest.mark.parametrize("waiting", [1, 3])
@pytest.mark.parametrize(
    "error", [OperationalError, InterfaceError, InternalError, ProgrammingError]
)
def test_a5_no_entry_is_at_fault_for_what_the_database_refuses(redis_client, clock, error, waiting):
    refusing = Refusing(soniox=error("no space left on device"))
    pump = Pump("one", handlers=(*HANDLERS, refusing), clock=clock)
    write(redis_client, *outage()[:waiting])
    raised = some_turns(pump, clock, DELIVERIES_MAX + 5)
    before = (Transition.objects.count(), DeadLetter.objects.count())
    refusing.errors.clear()
    turns(pump, clock, 1)

    assert {type(one) for one in raised} == {error}
    assert before == (0, 0)
    assert Transition.objects.count() == waiting
    assert DeadLetter.objects.count() == 0
    assert stream.lag(STT).entries == 0


@pytest.mark.parametrize("error", [DataError("value too long"), ValueError("ours")], ids=type)
def test_a5_a_poison_entry_among_good_ones_is_put_aside_while_the_database_is_well(
    redis_client, clock, error
):
    refusing = Refusing(poison=error)
    pump = Pump("one", handlers=(history.record, refusing), clock=clock)
    write(redis_client, event(1), event(1, provider="poison"), event(1, provider="deepgram"))
    turns(pump, clock, 1)
    stored = set(Transition.objects.values_list("provider", flat=True))
    turns(pump, clock, DELIVERIES_MAX)

    assert stored == {"soniox", "deepgram"}
    assert DeadLetter.objects.get().fields["provider"] == "poison"
    assert stream.lag(STT).entries == 0


def test_a5_what_the_database_refuses_of_one_entry_holds_up_no_other(redis_client, clock):
    refusing = Refusing(soniox=OperationalError("lock timeout"), poison=ValueError("ours"))
    pump = Pump("one", handlers=(history.record, refusing), clock=clock)
    for number in range(1, 9):
        write(redis_client, event(number), event(number, provider="deepgram"))
        write(redis_client, event(number, provider="poison"))
        some_turns(pump, clock, 1)
    some_turns(pump, clock, DELIVERIES_MAX + 5)
    during = list(Transition.objects.values_list("provider", flat=True))
    buried = list(DeadLetter.objects.values_list("fields__provider", flat=True))
    del refusing.errors["soniox"]
    turns(pump, clock, 2)

    assert during == ["deepgram"] * 8
    assert buried == ["poison"] * 8
    assert Transition.objects.filter(provider="soniox").count() == 8
    assert DeadLetter.objects.count() == 8


def test_a5_a_spell_of_the_database_does_not_count_against_an_entry(redis_client, clock):
    refusing = Refusing(soniox=OperationalError("read only"))
    pump = Pump("one", handlers=(history.record, refusing), clock=clock)
    write(redis_client, event(1))
    some_turns(pump, clock, DELIVERIES_MAX + 5)
    refusing.errors["soniox"] = ValueError("once")
    turns(pump, clock, 1)
    refusing.errors.clear()
    turns(pump, clock, 1)

    assert Transition.objects.count() == 1
    assert DeadLetter.objects.count() == 0


def test_a5_a_database_that_takes_no_dead_letter_is_waited_for(redis_client, clock, monkeypatch):
    poison = Refusing(soniox=ValueError("ours"))
    pump = Pump("one", handlers=(poison,), clock=clock)
    write(redis_client, event(1))
    full = lambda *_, **__: (_ for _ in ()).throw(OperationalError("full"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(DeadLetter.objects, "bulk_create", full)
        some_turns(pump, clock, DELIVERIES_MAX + 5)
    waiting = stream.lag(STT).entries
    turns(pump, clock, 1)

    assert waiting == 1
    assert DeadLetter.objects.count() == 1
    assert stream.lag(STT).entries == 0


# --- a spell


@contextmanager
def running(pump: Pump) -> Iterator[None]:
    """Have a pump run in a thread."""
    stop = threading.Event()

    def run() -> None:
        try:
            pump.run(stop)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a5_a_spell_is_said_once_and_readiness_can_name_the_database(redis_client):
    refusing = Refusing(soniox=OperationalError("disk full"))
    write(redis_client, event(1))
    with capture_logs() as logs, running(Pump("one", handlers=(history.record, refusing))):
        assert eventually(lambda: stream.waiting() is not None)
        told = stream.waiting()
        time.sleep(1.5)
        refusing.errors.clear()
        assert eventually(lambda: Transition.objects.count() == 1)
        assert eventually(lambda: stream.waiting() is None)
    said = [one["event"] for one in logs if one.get("worker") == "pump"]

    assert (told.consumer, told.what, told.why) == ("one", "database", "OperationalError")
    assert abs(told.since_ms - time.time() * 1000) < 30_000
    assert said == ["worker_waits", "worker_goes_on"]


def test_pauses_grow_and_are_bounded():
    spell = spells.Spell("test")
    waits = [spell.after(OperationalError("away")) for _ in range(2000)]

    assert 0.1 <= waits[0] <= 0.2
    assert all(2.5 <= wait <= 5.0 for wait in waits[6:])


def test_a_batch_that_hangs_in_the_database_is_said_and_given_up_in_the_end(redis_client, clock):
    write(redis_client, event(1))
    entries = stream.read(STT, "slow", count=9)
    heart = PumpHeart("slow", clock=clock)
    with heart.holding((STT, [entry.id for entry in entries])):
        time.sleep(0.3)
        heart.beat()
        held = stream.claim_stale(STT, "other", idle_ms=250, count=9)
        silent = stream.waiting()
        clock.now += SLOW_S + 1
        heart.beat()
        told = stream.waiting()
        clock.now += HOLD_MAX_S
        time.sleep(0.3)
        heart.beat()
        given_up = stream.claim_stale(STT, "other", idle_ms=250, count=9)

    assert (held, silent) == ([], None)
    assert (told.what, told.why) == ("database", "no answer for 6 s")
    assert len(given_up) == 1


@pytest.mark.slow
def test_a8_a_killed_pump_s_batch_is_taken_over_within_five_seconds(redis_client):
    write(redis_client, *outage())
    stream.read(STT, "killed", count=9)
    began = time.monotonic()
    with running(Pump("living")):
        assert eventually(lambda: Transition.objects.count() == 5, within_s=10)
    took_s = time.monotonic() - began

    print(f"\ntaken over after {took_s:.1f} s")
    assert took_s > 3  # a living one had been left in peace


# --- the family: what is done beside the events


def test_a5_what_fails_beside_the_events_holds_up_neither_them_nor_the_rest(
    redis_client, clock, monkeypatch
):
    done = []
    failing: Callable[..., Any] = lambda *_: (_ for _ in ()).throw(OperationalError("full"))  # noqa: E731
    monkeypatch.setattr(stats.RollUp, "run", failing)
    monkeypatch.setattr("fallback.past.Keeper.run", lambda *_: done.append(1))
    pump = Pump("one", clock=clock)
    write(redis_client, *outage())

    assert pump.turn() == 5
    assert done == [1]


def test_a5_a_row_that_nothing_can_store_holds_up_no_other_row():
    stored: list[str] = []

    def store(rows: Sequence[str]) -> None:
        if "poison" in rows:
            raise DataError("out of range")
        stored.extend(rows)

    spells.store_all(["a", "poison", "b"], store)

    assert stored == ["a", "b"]


# --- the real thing


@contextmanager
def no_space_for(table: str) -> Iterator[None]:
    """Have PostgreSQL refuse every INSERT into a table as it does where its disk is full."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION"
            " 'could not extend file: No space left on device' USING ERRCODE = '53100';"
            " END $$ LANGUAGE plpgsql"
        )
        cursor.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER refuse ON {table}")
            cursor.execute("DROP FUNCTION refuse")


@ON_POSTGRESQL
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("table", ["fallback_transition", "fallback_alert"])
def test_a5_a_full_disk_loses_no_transition_and_no_alert(redis_client, settings, table):
    settings.SLACK_BOT_TOKEN = "xoxb-none"
    call_command("seed", stdout=open(os.devnull, "w"))  # noqa: SIM115 - a sink
    AlertDestination.objects.create(name="slack", channel="C0ALERTS")
    written, number = [], 0
    with running(Pump("one")), running(Pump("two")):
        until = time.monotonic() + REFUSES_S
        with no_space_for(table):
            while time.monotonic() < until:
                told = [
                    event(2 * number + 1),
                    event(2 * number + 2, name="provider_failure", after="closed", incident=""),
                ]
                write(redis_client, *told)
                written += told
                number += 1
                time.sleep(0.25)
            during = DeadLetter.objects.count()
            why = stream.waiting()
        ended = time.monotonic()
        moves = sum(one.is_transition for one in written)
        assert eventually(lambda: Transition.objects.count() == moves, within_s=40)
        assert eventually(lambda: stream.lag(STT).entries == 0, within_s=40)
        took_s = time.monotonic() - ended
    print(f"\n{REFUSES_S:g} s: {moves} transitions of {moves}, {DeadLetter.objects.count()} dead"
          f" letters, complete {took_s:.1f} s after")  # fmt: skip
    assert (why.what, why.why) == ("database", "DiskFull 53100")
    told = Alert.objects.exclude(event="pump_lagging").values_list("event_id", flat=True)
    assert sorted(told) == sorted(one.id for one in written)
    assert (during, DeadLetter.objects.count()) == (0, 0)
