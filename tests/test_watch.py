"""Who is believed: looked up while somebody asks, off the path, and not at all otherwise."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from fallback import breaker, catalog, deadline, services
from fallback.breaker import Breakers, watch
from fallback.breaker.watch import NotMaster, Watch
from fallback.domain import Kind, Policy, Question
from tests.configuration import make_route
from tests.processes import eventually
from tests.scenes import CHAIN, asked


class Master:
    """Somebody to look at, and what each look finds."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.name = "one"
        self.error: Exception | None = None
        self.looks = 0
        self.gate = threading.Event()
        self.gate.set()
        self.watch = Watch(lambda: self.name, self.confirm, clock=lambda: self.now_s)

    def confirm(self) -> None:
        self.gate.wait(5)
        self.looks += 1
        if self.error:
            raise self.error


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    monkeypatch.setattr(watch, "SURE_S", 1.0)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.06)
    made = Master()
    yield made
    made.gate.set()
    made.now_s += 100  # nobody asks any more: the thread ends
    assert eventually(lambda: not made.watch.is_looking())


def test_a1_the_first_answer_of_a_process_waits_for_the_look_under_way(master: Master) -> None:
    master.watch.asked()

    assert master.watch.is_sure()
    assert master.looks >= 1


def test_a1_a_look_that_does_not_come_in_time_is_not_waited_for(master: Master) -> None:
    master.gate.clear()
    with deadline.within(0.05):
        is_sure = master.watch.is_sure()

    assert not is_sure


def test_a1_a_server_that_is_no_master_is_doubted_at_once(master: Master) -> None:
    assert master.watch.is_sure()
    master.error = NotMaster("a replica")

    assert eventually(lambda: not master.watch.is_sure())


def test_a1_what_was_confirmed_is_believed_for_a_second_and_no_longer(master: Master) -> None:
    assert master.watch.is_sure()
    master.error = RedisConnectionError("gone")
    looks = master.looks
    assert eventually(lambda: master.looks > looks + 1)
    master.now_s += 0.9
    assert master.watch.is_sure()
    master.now_s += 0.2

    assert not master.watch.is_sure()


def test_a1_an_answer_from_before_the_change_is_no_answer(master: Master) -> None:
    link = breaker.Link(watch=master.watch)
    assert master.watch.is_sure()

    def change() -> str:
        master.name = "two"
        assert eventually(lambda: master.watch.generation == 1)
        return "from the old one"

    with pytest.raises(breaker.BreakerUnavailable, match="master"):
        link.ask(change)


def test_a1_a_new_master_is_asked_at_once_though_the_old_one_was_away(master: Master) -> None:
    link = breaker.Link(clock=lambda: master.now_s, watch=master.watch)

    def miss() -> None:
        raise RedisConnectionError("gone")

    for _ in range(3):
        with pytest.raises(breaker.BreakerUnavailable):
            link.ask(miss)
    with pytest.raises(breaker.BreakerUnavailable):
        link.ask(lambda: "not asked")
    master.name = "two"
    assert eventually(lambda: master.watch.generation == 1)

    assert link.ask(lambda: "from the new one") == "from the new one"


def test_a1_a_flood_of_refusals_is_no_flood_of_looks(master: Master) -> None:
    assert master.watch.is_sure()
    looks, began_s = master.looks, time.monotonic()
    while time.monotonic() - began_s < 0.5:
        master.watch.doubt()

    assert 1 <= master.looks - looks <= 1 + 0.5 / watch.APART_S


def test_a1_nobody_looks_while_nobody_asks(master: Master) -> None:
    assert master.watch.is_sure()
    master.now_s += watch.IDLE_S + 1
    assert eventually(lambda: not master.watch.is_looking())
    looks = master.looks

    assert master.watch.is_sure()  # asked again, it looks again
    assert master.looks > looks


def test_a1_a_child_process_looks_for_itself(master: Master) -> None:
    assert master.watch.is_sure()
    child = os.fork()
    if not child:
        os._exit(0 if master.watch.is_sure() and master.watch.is_looking() else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.django_db
def test_a1_a_single_server_that_became_a_replica_is_not_believed(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written for a healthy call, so that nothing else would ever say so."""
    monkeypatch.setattr(watch, "SURE_S", 1.0)
    make_route()
    catalog.reload()
    question = Question(route="breeze-buddy", call_id="CA1")
    services.publish_configuration()
    assert not services.make_decision(question).degraded
    redis_client.replicaof("127.0.0.1", 1)  # of nobody: it goes on answering who reads
    try:
        assert eventually(lambda: services.make_decision(question).degraded)
    finally:
        redis_client.replicaof("NO", "ONE")

    assert eventually(lambda: not services.make_decision(question).degraded)


def test_a1_a_master_without_its_replicas_is_not_believed(redis_client: redis.Redis) -> None:
    """It would refuse each write: cut off from everybody, it may have been replaced."""
    breakers = Breakers(namespace="alone")
    breakers.configure(Kind.STT, 1, dict.fromkeys(CHAIN, Policy()))
    assert breakers.is_sure()
    redis_client.config_set("min-replicas-to-write", 1)
    try:
        breakers.decide(Kind.STT, asked("one"))
        assert eventually(lambda: not breakers.is_sure())
    finally:
        redis_client.config_set("min-replicas-to-write", 0)

    assert eventually(breakers.is_sure)
