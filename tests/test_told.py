"""What breaks is told to people, once: data that Redis lost, events that never came, forks."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fallback import breaker, catalog, health, history, services, stream
from fallback.alerts.sender import Sender
from fallback.domain import EventName, Kind
from fallback.errors import BreakerUnavailable
from fallback.models import Alert, ConfigRevision, Position
from fallback.pump import HANDLERS, Pump
from fallback.stream import Waiting
from tests.configuration import make_provider
from tests.events import STREAM, event, write
from tests.fake_slack import TOKEN, FakeSlack, shown
from tests.test_pump import Clock, turns

pytestmark = pytest.mark.django_db(transaction=True)

STT = Kind.STT


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slack(settings) -> Iterator[FakeSlack]:
    fake = FakeSlack()
    settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = fake.url, TOKEN
    settings.SLACK_CHANNEL = "C0ALERTS"
    call_command("seed", stdout=open(os.devnull, "w"))  # noqa: SIM115 - a sink
    publish()
    yield fake
    fake.close()


def publish() -> None:
    """Have the breakers judge by what the database says, as after a save."""
    with transaction.atomic():
        ConfigRevision.bump()
    catalog.reload()
    services.publish_configuration()


def deliver() -> None:
    """Have everything sent, also what waits a moment for more of its kind."""
    sender = Sender(now=lambda: timezone.now() + timedelta(seconds=5))
    for _ in range(20):
        if not sender.turn():
            break


def told(slack: FakeSlack, words: str) -> list[str]:
    return [shown(one) for one in slack.messages["C0ALERTS"] if words in shown(one)]


# --- data that was lost


def lose_everything(redis_client, pump: Pump, clock: Clock) -> None:
    redis_client.flushdb()
    services.publish_configuration()
    turns(pump, clock, 2)
    deliver()


def test_a8_one_loss_of_redis_s_data_is_one_message(redis_client, slack, clock):
    make_provider("voice", kind=Kind.TTS)
    publish()
    pump = Pump("one", clock=clock)
    history.record([event(1)])
    lose_everything(redis_client, pump, clock)

    messages = told(slack, "Redis lost its data")
    assert len(messages) == 1
    assert "the stt, tts breakers began anew" in messages[0]
    assert len(slack.roots()) == 1


def test_a8_a_loss_is_told_of_the_kinds_that_have_providers_alone(redis_client, slack, clock):
    history.record([event(1)])
    redis_client.flushdb()
    services.publish_configuration()
    names = {
        kind: [entry[b"name"] for _, entry in
               redis_client.xrange(STREAM.replace("stt", kind))]
        for kind in Kind
    }  # fmt: skip

    assert names == {Kind.STT: [b"state_lost"], Kind.TTS: [], Kind.LLM: []}


def test_a8_a_second_loss_is_told_too(redis_client, slack, clock):
    make_provider("voice", kind=Kind.TTS)
    publish()
    pump = Pump("one", clock=clock)
    history.record([event(1)])
    for _ in range(2):
        lose_everything(redis_client, pump, clock)

    assert len(told(slack, "Redis lost its data")) == 2
    assert len(slack.roots()) == 1  # the second is in the thread of the first
    assert Alert.objects.filter(event="state_lost", status="sent").count() == 2


def test_a8_a_loss_that_is_carried_again_is_told_once(redis_client, slack, clock):
    losses = [
        replace(event(1), id=f"x--0-{kind}", name="state_lost", kind=kind, provider="", before="",
                after="", incident="", evidence={}, at_ms=int(time.time() * 1000))
        for kind in (Kind.STT, Kind.TTS)
    ]  # fmt: skip
    for handler in HANDLERS * 3:
        handler(losses)
    deliver()

    assert len(told(slack, "Redis lost its data")) == 1
    assert Alert.objects.count() == 2


def test_a_first_start_loses_nothing(redis_client, slack):
    assert redis_client.xlen(STREAM) == 0


# --- holes and forks


def announced(redis_client) -> list[tuple[bytes, bytes]]:
    rows = [entry for _, entry in redis_client.xrange(STREAM)]
    wanted = {b"events_missing", b"event_fork"}
    return [(row[b"name"], row[b"evidence"]) for row in rows if row[b"name"] in wanted]


@pytest.mark.parametrize("spells", [1, 2])
def test_a8_events_that_never_came_are_told_to_people_once_a_spell(
    redis_client, slack, clock, spells
):
    pump = Pump("one", clock=clock)
    turns(pump, clock, 1)
    now = int(time.time() * 1000)
    for number in (1, 5, 9)[: spells + 1]:
        write(
            redis_client, event(number, at_ms=now, version=1000 * now, after="closed", incident="")
        )
        time.sleep(0.6)
        turns(pump, clock, 3)
    turns(pump, clock, 3)
    deliver()

    messages = told(slack, "History has holes")
    assert len(messages) == 1
    assert "3 events never came, of soniox" in messages[0]


def test_events_that_come_late_are_not_told(redis_client, slack, clock):
    pump = Pump("one", clock=clock)
    now = int(time.time() * 1000)
    late = [event(n, at_ms=now, version=1000 * now, incident="") for n in (1, 3, 2)]
    write(redis_client, *late)
    time.sleep(0.6)
    turns(pump, clock, 4)

    assert announced(redis_client) == []


def test_many_events_that_come_late_are_neither_missing_nor_a_fork(redis_client, slack, clock):
    """As after a database that took notices and refused transitions for a minute."""
    pump = Pump("one", clock=clock)
    now = int(time.time() * 1000)
    seen = {"at_ms": now, "version": 1000 * now, "incident": ""}
    notices = [event(2 * n, name="provider_failure", after="closed", **seen) for n in range(1, 99)]
    moves = [event(2 * n + 1, **seen) for n in range(98)]
    history.record(notices)
    history.record(moves)
    time.sleep(0.6)
    turns(pump, clock, 4)

    assert announced(redis_client) == []
    assert Position.objects.get().forks == 0


def test_a8_what_a_failover_forgot_is_told_to_people_once(redis_client, slack, clock):
    pump = Pump("one", clock=clock)
    write(redis_client, event(1, incident=""), event(1, incident="", request="another"))
    turns(pump, clock, 4)
    deliver()

    messages = told(slack, "Redis forgot")
    assert len(messages) == 1
    assert "Redis forgot 1 changes that history has, of soniox" in messages[0]


def test_what_could_not_be_told_is_told_later(redis_client, slack, clock, monkeypatch):
    pump = Pump("one", clock=clock)
    write(redis_client, event(1, incident=""), event(1, incident="", request="another"))
    with monkeypatch.context() as patch:

        def away(*_: object, **__: object) -> None:
            raise BreakerUnavailable("away")

        patch.setattr(breaker, "announce", away)
        for _ in range(3):
            with suppress(BreakerUnavailable):
                pump.turn()
            clock.now += 1
    untold = Position.objects.get().forks_told
    turns(pump, clock, 3)

    assert untold == 0
    assert [name for name, _ in announced(redis_client)] == [EventName.EVENT_FORK.encode()]


def test_a8_holes_and_forks_stand_on_the_admin_s_first_page(admin_client: Client, redis_client):
    now_ms = int(time.time() * 1000)
    Position.objects.create(
        kind="stt", provider="soniox", incarnation="a", highest=9,
        missing=[[2, 4, now_ms, True], [6, 6, now_ms - 90_000_000, True]],
        forks=1, forked_at=timezone.now(),
    )  # fmt: skip
    page = admin_client.get(reverse("admin:index")).content.decode()

    assert "3 events of soniox never came in the last 24 h" in page
    assert "A failover of Redis forgot changes of soniox" in page


# --- readiness


def test_a5_readiness_of_the_pump_names_the_database(client: Client, redis_client):
    stream.owed(STT, "pump-1", count=1)
    since_ms = int(time.time() * 1000) - 10_000
    stream.say_waiting(Waiting("pump-1", "database", "DiskFull 53100", since_ms))
    health.EVENTS.forget(2)
    answer = client.get("/readyz", {"role": "pump"})

    assert answer.status_code == 503
    detail = answer.json()["checks"]["events"]["detail"]
    assert detail == "pump pump-1 waits for the database: DiskFull 53100"


def test_a_hiccup_of_the_database_does_not_make_the_pump_unready(client: Client, redis_client):
    stream.owed(STT, "pump-1", count=1)
    stream.say_waiting(Waiting("pump-1", "database", "DeadlockDetected", int(time.time() * 1000)))
    health.EVENTS.forget(2)

    assert client.get("/readyz", {"role": "pump"}).json()["checks"]["events"]["status"] == "ok"
