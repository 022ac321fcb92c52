import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from controlplane.embedded_redis import EmbeddedRedis
from fallback import breaker, catalog, history, services, stream
from fallback.domain import Asked, Event, Kind, Outcome, OutcomeKind, Reason, State
from fallback.errors import BreakerUnavailable
from fallback.models import ConfigRevision, DeadLetter, Incident, Position, Transition
from fallback.pump import DELIVERIES_MAX, HANDLERS, Pump
from tests.configuration import make_provider
from tests.events import STREAM, event, fields, outage, write
from tests.kill_pumps import EFFECTS, insert_effects
from tests.processes import clean_environment, database_url, eventually
from tests.twins import VIRTUAL_CLOCK, VirtualBreakers

pytestmark = pytest.mark.django_db(transaction=True)

STT = Kind.STT


class Clock:
    """Seconds that pass only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def no_providers() -> None:
    """Begin with a catalog as empty as the database."""
    catalog.reload()


@pytest.fixture
def soniox(redis_client) -> None:
    """Configure soniox, in the catalog and in Redis."""
    make_provider("soniox")
    with transaction.atomic():
        ConfigRevision.bump()
    held = catalog.reload()
    breaker.configure(STT, held.revision, {"soniox": held.policies[STT, "soniox"]})


def turns(pump: Pump, clock: Clock, count: int) -> None:
    """Take turns a second apart, each with its tick."""
    for _ in range(count):
        pump.turn()
        clock.now += 1


def refusing(*providers: str, error: type[BaseException] = ValueError):
    """Return a handler that cannot take the events of some providers."""

    def handler(events: Sequence[Event]) -> Sequence[Event]:
        if any(told.provider in providers for told in events):
            raise error("cannot take this")
        return events

    return handler


def past_breakers(client, *, ago_s: int) -> VirtualBreakers:
    """Return the real script, configured for soniox, at a time in the past."""
    breakers = VirtualBreakers(connect=lambda: client, clock=VIRTUAL_CLOCK)
    breakers.now_ms = int(time.time() * 1000) - 1000 * ago_s
    breakers.configure(STT, 1, {"soniox": catalog.current().policies[STT, "soniox"]})
    return breakers


def outcome(call: str, kind: OutcomeKind = OutcomeKind.INIT_FAILURE, **values) -> Outcome:
    return Outcome(
        id=f"{call}:{kind}",
        call_id=call,
        provider="soniox",
        kind=kind,
        reason=Reason.CONNECTION,
        **values,
    )


def trip(breakers: VirtualBreakers) -> None:
    """Have soniox fail in as many calls as its policy allows."""
    breakers.record(STT, [(outcome("one"), ()), (outcome("two"), ())])


# --- carrying


def test_events_go_to_the_database_and_are_acknowledged(redis_client):
    write(redis_client, *outage())

    assert Pump("one").turn() == 5
    assert Transition.objects.count() == 5
    assert Incident.objects.get().closing_cause == "probe_success"
    assert stream.lag(STT).entries == 0


def test_events_of_every_kind_are_carried(redis_client):
    for kind in Kind:
        told = event(1, incarnation=f"of-{kind}")
        write(redis_client, told, stream=STREAM.replace("stt", kind))

    assert Pump("one").turn() == 3
    assert set(Transition.objects.values_list("kind", flat=True)) == set(Kind)


def test_a_turn_with_nothing_to_do_does_nothing():
    assert Pump("one").turn() == 0


def test_handlers_are_called_in_order_and_each_gets_what_the_one_before_passes_on(redis_client):
    given = []

    def second(events: Sequence[Event]) -> Sequence[Event]:
        given.append([told.id for told in events])
        return events

    write(redis_client, event(1))
    pump = Pump("one", handlers=(*HANDLERS, second))
    pump.turn()
    write(redis_client, event(1), event(2))
    pump.turn()

    assert given == [[event(1).id], [event(2).id]]


def test_a_batch_is_stored_as_a_whole_with_what_its_handlers_did(redis_client):
    def handler(events: Sequence[Event]) -> Sequence[Event]:
        assert connection.in_atomic_block
        assert stream.lag(STT).entries == len(events)
        return events

    write(redis_client, *outage())

    assert Pump("one", handlers=(history.record, handler)).turn() == 5


def test_an_event_that_a_handler_refuses_stops_no_other(redis_client, clock):
    write(redis_client, event(1), event(1, provider="deepgram"), event(2))
    pump = Pump("one", handlers=(history.record, refusing("deepgram")), clock=clock)

    assert pump.turn() == 2
    assert set(Transition.objects.values_list("provider", flat=True)) == {"soniox"}
    assert stream.lag(STT).entries == 1


def test_an_event_that_is_refused_for_a_while_is_carried_in_the_end(redis_client, clock):
    write(redis_client, event(1))
    turns(Pump("one", handlers=(refusing("soniox"),), clock=clock), clock, 2)
    turns(Pump("one", clock=clock), clock, 1)

    assert Transition.objects.count() == 1
    assert DeadLetter.objects.count() == 0


def test_an_event_that_fails_too_often_is_put_aside_with_its_reason(redis_client, clock):
    write(redis_client, event(1, reason="a\x00b\xfe"))
    pump = Pump("one", handlers=(refusing("soniox"),), clock=clock)
    turns(pump, clock, DELIVERIES_MAX)
    early = DeadLetter.objects.count()
    turns(pump, clock, 1)

    letter = DeadLetter.objects.get()
    assert early == 0
    assert (letter.problem, letter.deliveries) == ("ValueError: cannot take this", 6)
    assert letter.fields["id"] == event(1).id
    assert stream.lag(STT).entries == 0


def test_an_entry_that_makes_no_sense_is_put_aside_at_once_and_stops_no_other(redis_client):
    redis_client.xadd(STREAM, {b"id": b"\xff\x00", b"name": b"tripped"})
    write(redis_client, event(1))

    assert Pump("one").turn() == 2
    assert DeadLetter.objects.get().fields == {"id": "\\xff\ufffd", "name": "tripped"}
    assert Transition.objects.count() == 1


def test_a_dead_letter_put_back_is_carried(redis_client, clock):
    write(redis_client, event(1))
    turns(Pump("one", handlers=(refusing("soniox"),), clock=clock), clock, 6)
    stream.put_back(STT, DeadLetter.objects.get().fields)
    Pump("one").turn()

    assert Transition.objects.get().event_id == event(1).id


def test_an_entry_that_was_trimmed_while_it_was_pending_is_put_aside(redis_client, clock):
    write(redis_client, event(1))
    stream.read(STT, "one", count=1)
    redis_client.xtrim(STREAM, maxlen=0, approximate=False)
    Pump("one", clock=clock).turn()

    assert DeadLetter.objects.get().problem == stream.TRIMMED
    assert stream.lag(STT).entries == 0


# --- dying


def test_a_pump_that_dies_before_the_commit_leaves_nothing_done(redis_client):
    write(redis_client, event(1))
    dying = Pump("one", handlers=(history.record, refusing("soniox", error=KeyboardInterrupt)))
    with pytest.raises(KeyboardInterrupt):
        dying.turn()
    left = Transition.objects.count()

    assert left == 0
    assert Pump("one").turn() == 1


def test_a_pump_that_dies_between_commit_and_acknowledgement_doubles_nothing(redis_client):
    write(redis_client, *outage())
    entries = stream.read(STT, "dead", count=9)
    history.record([entry.event for entry in entries])

    assert Pump("living", stale_ms=0).turn() == 5
    assert Transition.objects.count() == 5


def test_a_pump_leaves_the_work_of_others_that_live(redis_client):
    write(redis_client, event(1))
    stream.read(STT, "living", count=9)

    assert Pump("another").turn() == 0


# --- when something is away


@contextmanager
def database_away():
    """Have Django open a database that is not there."""
    connection.close()
    good = dict(connection.settings_dict)
    away = {"NAME": "/nowhere/at/all", "HOST": "", "PORT": "1", "OPTIONS": {}}
    connection.settings_dict.update(away)
    if connection.vendor == "postgresql":
        connection.close_pool()
        connection.settings_dict["HOST"] = "127.0.0.1"
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.clear()
        connection.settings_dict.update(good)


@pytest.mark.parametrize("waiting", [1, 2])
def test_no_event_is_at_fault_while_the_database_is_away(redis_client, clock, waiting):
    pump = Pump("one", clock=clock)
    write(redis_client, *outage()[:waiting])
    with database_away():
        for _ in range(DELIVERIES_MAX + 3):
            with pytest.raises(OperationalError):
                pump.turn()
            clock.now += 1
    turns(pump, clock, 1)

    assert Transition.objects.count() == waiting
    assert DeadLetter.objects.count() == 0


def test_redis_out_of_reach_is_said_and_loses_nothing(redis_client, settings, tmp_path):
    write(redis_client, event(1))
    here = settings.CACHES
    nobody = here["stream"] | {"LOCATION": f"unix://{tmp_path}/nobody.sock"}
    pump = Pump("one")
    settings.CACHES = here | {"stream": nobody}
    with pytest.raises(BreakerUnavailable):
        pump.turn()
    settings.CACHES = here

    assert pump.turn() == 1


def test_a_flush_of_redis_is_survived(redis_client, clock):
    pump = Pump("one", clock=clock)
    write(redis_client, event(1))
    turns(pump, clock, 1)
    redis_client.flushdb()
    write(redis_client, event(1, incarnation="bbbbbbbb"))
    turns(pump, clock, 1)

    assert Transition.objects.count() == 2


# --- the tick


@pytest.mark.usefixtures("soniox")
def test_a_recovery_that_nobody_asks_for_is_found(redis_client, clock):
    redis_client.flushdb()
    trip(past_breakers(redis_client, ago_s=3600))
    turns(Pump("one", clock=clock), clock, 2)

    moves = Transition.objects.order_by("version").values_list("before", "after")
    assert list(moves) == [("closed", "open"), ("open", "half_open")]
    opened, probing = Transition.objects.order_by("version")
    assert (probing.at - opened.at).total_seconds() == 1800


@pytest.mark.usefixtures("soniox")
def test_an_outage_that_the_real_script_tells_is_one_incident(redis_client, clock):
    redis_client.flushdb()
    breakers = past_breakers(redis_client, ago_s=3600)
    trip(breakers)
    breakers.now_ms += 1_800_000
    walk = breakers.decide(STT, Asked(call_id="three", route="r", steps=(("soniox", False),)))
    heard = outcome("three", OutcomeKind.FIRST_TRANSCRIPT, lease=walk.lease)
    breakers.record(STT, [(heard, ())])
    turns(Pump("one", clock=clock), clock, 2)

    incident = Incident.objects.get()
    assert (incident.cause, incident.closing_cause) == ("failure_threshold", "probe_success")
    assert (incident.closed_at - incident.opened_at).total_seconds() == 1800
    assert (incident.trips, incident.hurt) == (1, 2)
    assert Position.objects.get().missing == []
    assert DeadLetter.objects.count() == 0


@pytest.mark.usefixtures("soniox")
def test_an_operators_order_is_back_after_redis_lost_its_data(redis_client, clock):
    pump = Pump("one", clock=clock)
    services.set_override(
        STT, "soniox", state=State.FORCED_OPEN, reason="maintenance", for_s=900, by="admin:ana"
    )
    turns(pump, clock, 1)
    before = breaker.snapshot(STT, ["soniox"]).views[0].breaker.override
    redis_client.flushdb()
    turns(pump, clock, 2)

    assert breaker.snapshot(STT, ["soniox"]).views[0].breaker.override == before
    assert before.until_ms is not None
    assert Transition.objects.filter(name="override_set").count() == 2


@pytest.mark.usefixtures("soniox")
def test_the_configuration_is_published_when_redis_has_an_older_one_or_none(redis_client, clock):
    redis_client.flushdb()
    turns(Pump("one", clock=clock), clock, 1)

    assert breaker.snapshot(STT, ["soniox"]).revision == catalog.current().revision


@pytest.mark.usefixtures("soniox")
def test_an_incident_whose_end_was_trimmed_is_closed_by_what_the_breaker_shows(redis_client, clock):
    write(redis_client, event(1, at_ms=int(time.time() * 1000) - 60_000, version=1))
    turns(Pump("one", clock=clock), clock, 3)

    assert Incident.objects.get().closing_cause == "unknown"


@pytest.mark.usefixtures("soniox")
def test_an_incident_is_not_closed_while_events_wait_to_be_carried(redis_client, clock):
    told = event(1, at_ms=int(time.time() * 1000) - 60_000, version=1)
    redis_client.xadd(STREAM, fields(told), id="1-1")
    redis_client.xadd(STREAM, fields(event(2, provider="deepgram")), id="1-2")
    pump = Pump("one", handlers=(history.record, refusing("deepgram")), clock=clock)
    turns(pump, clock, 4)

    assert Incident.objects.get().closed_at is None


def test_a_lag_is_announced_once(redis_client, clock):
    pump = Pump("one", handlers=(refusing("soniox"),), clock=clock)
    redis_client.xadd(STREAM, fields(event(1)), id="1-1")
    turns(pump, clock, 4)

    names = [entry[b"name"] for _, entry in redis_client.xrange(STREAM)]
    assert names == [b"tripped", b"pump_lagging"]


def test_old_history_is_forgotten_in_time(redis_client, clock):
    history.record([event(1, at_ms=1_000_000_000_000, incident="")])
    Pump("one", clock=clock).turn()

    assert Transition.objects.count() == 0


def test_a_pump_that_waits_for_events_is_heard_of(clock):
    Pump("one", clock=clock).turn()

    assert stream.silence_ms(STT) < 2000


# --- real processes


def environment(redis_url: str, tmp_path) -> dict[str, str]:
    """Return the environment of a process that shares this test's database."""
    return clean_environment(
        tmp_path,
        DATABASE_URL=database_url(),
        REDIS_URL=redis_url,
        SECRET_KEY=settings.SECRET_KEY,
        FALLBACK_NAMESPACE=settings.FALLBACK_NAMESPACE,
        DJANGO_SETTINGS_MODULE="controlplane.settings",
        LOG_LEVEL="error",
    )


@pytest.mark.slow
def test_a_pump_goes_on_after_redis_was_away_and_ends_when_told(tmp_path):
    server = EmbeddedRedis(tmp_path)
    server.start()
    url = f"unix://{server.socket}"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "pump"],
        cwd=settings.BASE_DIR,
        env=environment(url, tmp_path),
    )
    try:
        for number in (1, 2):
            with server._client() as client:
                write(client, event(number))
            assert eventually(lambda n=number: Transition.objects.count() == n, within_s=20)
            server.stop()
            time.sleep(1)
            server.start()
        asked_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - asked_at < 2.5
    finally:
        process.kill()
        server.stop()


@pytest.mark.slow
def test_a_pump_that_hangs_on_a_dead_redis_ends_in_time_when_told(tmp_path):
    server = EmbeddedRedis(tmp_path)
    redis_process = server.start()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "pump"],
        cwd=settings.BASE_DIR,
        env=environment(f"unix://{server.socket}", tmp_path),
    )
    try:
        with server._client() as client:
            write(client, event(1))
        assert eventually(lambda: Transition.objects.count() == 1, within_s=20)
        os.kill(redis_process.pid, signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        os.kill(redis_process.pid, signal.SIGCONT)
        server.stop()


PROVIDERS = [f"provider-{letter}" for letter in "abcde"]
OUTAGES = 40


def told_by(provider: str) -> list[Event]:
    """Return what happens to one provider: outages one after another, with notices between."""
    told: list[Event] = []
    for i in range(OUTAGES):
        told += outage(provider, first=6 * i + 1)
        told += [event(6 * i + 6, provider=provider, name="provider_failure", after="closed")]
    return told


def write_slowly(client, luck: random.Random) -> int:
    """Write the events of all providers, each one's in order, in bursts; return how many."""
    waiting = {provider: told_by(provider) for provider in PROVIDERS}
    total = 0
    while waiting:
        provider = luck.choice(sorted(waiting))
        burst = waiting[provider][: luck.randint(1, 12)]
        waiting[provider] = waiting[provider][len(burst) :]
        write(client, *burst)
        total += len(burst)
        if not waiting[provider]:
            del waiting[provider]
        time.sleep(0.045)
    return total


def effects() -> tuple[int, int]:
    """Return how many effects there are, and on how many different transitions."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(event_id), count(DISTINCT event_id) FROM {EFFECTS} "
            "WHERE event_id IN (SELECT event_id FROM fallback_transition)"
        )
        return cursor.fetchone()


@pytest.fixture
def effects_table():
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {EFFECTS} (event_id text NOT NULL)")
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {EFFECTS}")


@pytest.mark.slow
@pytest.mark.usefixtures("effects_table")
@pytest.mark.parametrize("at_once", [1, 3])
def test_pumps_killed_at_random_lose_and_double_nothing(redis_client, redis_url, tmp_path, at_once):
    luck = random.Random(at_once)
    stop_file = tmp_path / "stop"
    killer = subprocess.Popen(
        [sys.executable, "-m", "tests.kill_pumps", str(at_once), str(stop_file), str(at_once)],
        cwd=settings.BASE_DIR,
        env=environment(redis_url, tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        written = write_slowly(redis_client, luck)
    finally:
        stop_file.touch()
        killed = int(killer.communicate(timeout=30)[0])
    before = Transition.objects.count()
    last = Pump("last", handlers=(*HANDLERS, insert_effects), stale_ms=0)
    assert eventually(lambda: last.turn() == 0 and stream.lag(STT).entries == 0)

    transitions = written * 5 // 6
    print(
        f"{at_once} at once: {killed} pumps killed, which had stored {before} of {transitions} "
        f"transitions; in the end {Transition.objects.count()} rows and {effects()[0]} effects"
    )
    assert Transition.objects.count() == transitions
    assert effects() == (transitions, transitions)
    assert Incident.objects.count() == OUTAGES * len(PROVIDERS)
    assert Incident.objects.filter(closing_cause="probe_success", trips=2).count() == 200
    assert DeadLetter.objects.count() == 0
    assert killed > 10
    assert before > transitions // 2


def test_two_pumps_at_once_store_one_provider_s_history_once(redis_client):
    write(redis_client, *[told for i in range(20) for told in outage(first=5 * i + 1)])
    errors: list[BaseException] = []

    def carry(name: str) -> None:
        try:
            while stream.lag(STT).entries:
                Pump(name, stale_ms=0).turn()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=carry, args=(f"pump-{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert Transition.objects.count() == 100
    assert Incident.objects.filter(trips=2, closing_cause="probe_success").count() == 20


def test_reading_goes_on_inside_a_transaction_that_is_not_ours(redis_client):
    write(redis_client, event(1))
    with transaction.atomic():
        Pump("one").turn()

    assert Transition.objects.count() == 1


@pytest.mark.parametrize("is_sure", [True, False])
def test_a1_history_is_held_only_against_the_master(soniox, clock, monkeypatch, is_sure):
    """What a master that was replaced says of a breaker is older than what history knows."""
    held: list[Kind] = []
    monkeypatch.setattr(history, "reconcile", lambda kind, *_, **__: held.append(kind))
    monkeypatch.setattr(breaker, "is_sure", lambda: is_sure)
    turns(Pump("one", clock=clock), clock, 4)

    assert bool(held) == is_sure
