"""A database restored to an older copy: the breakers judge by it again within seconds, and it is
told; and nobody's old configuration undoes a newer one on the way."""

import json
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from fallback import breaker, catalog, services
from fallback.domain import Kind
from fallback.models import ConfigRevision, Policy
from fallback.pump import Pump
from tests.configuration import make_route
from tests.rest import api, outcome
from tests.test_pump import Clock

pytestmark = pytest.mark.django_db(transaction=True)

STT = Kind.STT


@pytest.fixture
def pump() -> Pump:
    """Configure breeze-buddy; return a pump that ticks at every turn."""
    make_route()
    clock = Clock()
    worker = Pump("one", clock=clock)
    turn = worker.turn

    def next_second(**options: Any) -> int:
        clock.now += 1
        return turn(**options)

    worker.turn = next_second  # type: ignore[method-assign]
    return worker


def set_threshold(value: int) -> None:
    """Save the policy with another threshold, as its form does."""
    policy = Policy.objects.get()
    policy.failure_threshold = value
    policy.save()


def restore(revision: int, threshold: int) -> None:
    """Put the rows back as they were, past everything that would be told of a change."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE fallback_policy SET failure_threshold = %s", [threshold])
        cursor.execute(
            "UPDATE fallback_configrevision SET number = %s, sealed = %s", [revision, revision]
        )


def judged_by(redis_client: Any) -> int:
    """Return the threshold that soniox's breaker has in Redis."""
    policies = redis_client.hgetall(breaker.key(STT, "policies"))
    return int(json.loads(policies[b"soniox"])["failure_threshold"])


def told(redis_client: Any) -> list[str]:
    """Return the details of what was announced as misconfigured."""
    events = [fields for _, fields in redis_client.xrange(breaker.key(STT, "events"))]
    return [
        json.loads(fields[b"evidence"])["detail"]
        for fields in events
        if fields[b"name"] == b"misconfigured"
    ]


def test_a8_after_a_restore_the_breakers_judge_by_the_database_again(
    pump: Pump, redis_client: Any, client: Client
) -> None:
    set_threshold(3)
    old = ConfigRevision.current()
    set_threshold(5)
    had = breaker.snapshot(STT, ["soniox"]).revision
    pump.turn()
    before = judged_by(redis_client)
    restore(old, 3)
    catalog.refresh(5)  # the pump's process looks once a second
    pump.turn()

    assert (before, judged_by(redis_client)) == (5, 3)
    assert ConfigRevision.current() > had > old
    assert breaker.snapshot(STT, ["soniox"]).revision == ConfigRevision.current()
    [detail] = told(redis_client)
    assert "it was restored, and the breakers judge by it again" in detail
    agent = api()
    effects = [
        agent.report(outcome(call_id=f"CA{n}", reason="timeout")).json()["results"][0]["effect"]
        for n in range(3)
    ]
    assert effects == ["counted", "counted", "tripped"]
    assert ConfigRevision.with_rows()[1]["Route"] == 1  # and it is whole as it was


def test_a8_a_process_that_slept_through_the_restore_undoes_nothing(
    pump: Pump, redis_client: Any
) -> None:
    set_threshold(3)
    old = ConfigRevision.current()
    set_threshold(5)
    asleep = catalog.reload()
    restore(old, 3)
    catalog.refresh(5)  # the pump's process looks once a second
    pump.turn()
    catalog._cache._held = asleep  # what another process still holds
    services.publish_configuration()
    late = breaker.configure(STT, asleep.revision, services.configuration.policies_of(STT, asleep))

    assert (judged_by(redis_client), late) == (3, "stale")


def test_a8_a_policy_that_a_delayed_process_publishes_undoes_no_newer_one(
    pump: Pump, redis_client: Any
) -> None:
    set_threshold(3)
    delayed = catalog.reload()
    set_threshold(5)
    pump.turn()
    status = breaker.configure(
        STT, delayed.revision, services.configuration.policies_of(STT, delayed)
    )
    pump.turn()

    assert (status, judged_by(redis_client), told(redis_client)) == ("stale", 5, [])


def test_a_change_that_the_pump_has_not_heard_of_is_no_restore(
    pump: Pump, redis_client: Any
) -> None:
    pump.turn()
    held = catalog.current()
    set_threshold(4)
    revision = ConfigRevision.current()
    catalog._cache._held = held  # the pump's process looks a moment later
    pump.turn()

    assert ConfigRevision.current() == revision
    assert (judged_by(redis_client), told(redis_client)) == (4, [])


def test_a_database_that_is_away_is_no_restore(
    pump: Pump, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_threshold(4)
    revision = ConfigRevision.current()
    ahead = revision + 1_000_000
    breaker.configure(STT, ahead, services.configuration.policies_of(STT, catalog.current()))

    def away(held: Any) -> Any:
        raise OperationalError("no route to host")

    monkeypatch.setattr(catalog._cache, "_load", away)
    services.follow_restored(STT, ahead)

    assert (ConfigRevision.current(), told(redis_client)) == (revision, [])


def test_two_databases_on_one_redis_do_not_take_turns_without_a_pause(
    pump: Pump, redis_client: Any
) -> None:
    numbers = []
    for _ in range(4):
        ahead = ConfigRevision.current() + 1_000_000
        policies = services.configuration.policies_of(STT, catalog.current())
        breaker.configure(STT, ahead, {slug: replace(one) for slug, one in policies.items()})
        pump.turn()
        numbers.append(ConfigRevision.current() > ahead)

    assert numbers == [True, False, False, False]
    assert len(told(redis_client)) == 1


def test_a_revision_that_makes_no_sense_is_left_alone(pump: Pump, redis_client: Any) -> None:
    pump.turn()
    revision = ConfigRevision.current()
    redis_client.hset(breaker.key(STT, "breakers"), "#revision", "9" * 17)
    pump.turn()

    assert ConfigRevision.current() == revision
