"""The catalog holds configuration as plain values, and keeps what it holds whatever happens."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext

from fallback import catalog, domain
from fallback.catalog import Cache, Catalog
from fallback.domain import Kind
from fallback.models import ApiKey, ConfigRevision, Provider, Route, RouteStep
from tests.configuration import make_policy, make_provider, make_route
from tests.rest import make_key

ANSWERS_WITHIN_S = 5.0
WAIT_S = 1.0


class Clock:
    """Seconds that pass only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """Hold a loader back until the test sets this; let it go at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


def revisions(*numbers: int) -> Any:
    """Return a loader that finds these revisions one after the other, then the last for ever."""
    left = list(numbers)
    return lambda held: Catalog(revision=left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.django_db
def test_a_route_carries_its_chain_in_order_with_merged_settings() -> None:
    soniox = make_provider("soniox", settings={"model": "a", "vad": True}, languages=["hi-IN"])
    route = make_route("breeze-buddy", make_provider("deepgram"), soniox, last_resort="soonest")
    RouteStep.objects.filter(provider=soniox).update(settings={"model": "b"})

    found = catalog.load().routes["breeze-buddy"]

    assert [step.provider.slug for step in found.steps] == ["deepgram", "soniox"]
    assert found.steps[1].settings == {"model": "b", "vad": True}
    assert found.steps[1].provider.languages == ("hi-IN",)
    assert (found.name, found.last_resort) == (route.name, domain.LastResort.SOONEST)


@pytest.mark.django_db
def test_policies_are_found_by_provider_with_what_their_reasons_count() -> None:
    strict = make_policy("strict", failure_threshold=7, reasons={"auth": {"weight": 4}})
    make_provider("soniox", policy=strict)

    policy = catalog.load().policies[Kind.STT, "soniox"]

    assert policy.failure_threshold == 7
    assert policy.rule("auth") == domain.ReasonRule(weight=4)
    assert policy.rule("quota").trips_at_once


@pytest.mark.django_db
def test_the_number_of_queries_does_not_depend_on_the_number_of_routes() -> None:
    make_route("first", "soniox", "deepgram")
    with CaptureQueriesContext(connection) as few:
        catalog.load()
    for number in range(20):
        make_route(f"route-{number}", "soniox", "deepgram", "sarvam")
    with CaptureQueriesContext(connection) as many:
        catalog.load()

    assert len(many) == len(few) <= 7


@pytest.mark.django_db
def test_an_unchanged_revision_costs_one_query_and_loads_nothing() -> None:
    make_route()
    ConfigRevision.bump()
    held = catalog.load()
    with CaptureQueriesContext(connection) as queries:
        again = catalog.load(held)

    assert again is held
    assert len(queries) == 1


@pytest.mark.django_db
def test_a_disabled_provider_stays_in_the_catalog_and_says_so() -> None:
    make_route("breeze-buddy", "soniox")
    Provider.objects.update(enabled=False)

    assert catalog.load().routes["breeze-buddy"].steps[0].provider.enabled is False


@pytest.mark.django_db
def test_the_text_of_a_key_value_hides_its_hash() -> None:
    ApiKey.objects.create(name="pods", public="abc", secret_hash="0123456789")

    assert "0123456789" not in repr(catalog.load().keys["abc"])


def test_a_database_that_was_never_reached_leaves_an_empty_catalog(clock: Clock) -> None:
    def away(held: Catalog | None) -> Catalog:
        raise OperationalError("no route to host")

    cache = Cache(away, clock)

    assert cache.refresh(ANSWERS_WITHIN_S) == Catalog()
    assert cache.current() == Catalog()
    assert cache.age_s() == float("inf")
    assert cache.failures == 1


def test_a_database_that_goes_away_leaves_the_last_catalog(clock: Clock) -> None:
    answers: list[Any] = [Catalog(revision=1), OperationalError("gone"), OperationalError("gone")]

    def load(held: Catalog | None) -> Catalog:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cache = Cache(load, clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += 10

    assert cache.refresh(ANSWERS_WITHIN_S).revision == 1
    assert cache.refresh(ANSWERS_WITHIN_S).revision == 1
    assert (cache.failures, cache.age_s()) == (2, 10)


def test_a_slow_database_keeps_nobody_waiting(clock: Clock, blocked: threading.Event) -> None:
    def load(held: Catalog | None) -> Catalog:
        blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=1)

    cache = Cache(load, clock)
    started = time.monotonic()
    first, second = cache.current(), cache.refresh(0.05)

    assert first == second == Catalog()
    assert time.monotonic() - started < 0.5


def test_reading_what_is_held_starts_a_look_only_when_one_is_due(clock: Clock) -> None:
    cache = Cache(revisions(1, 2), clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += catalog.LOOK_EVERY_S - 0.1
    before = cache.current().revision
    clock.now += 0.2
    cache.current()
    eventually(lambda: cache.current().revision == 2)

    assert before == 1


def test_what_an_idle_process_holds_is_confirmed_before_it_is_shown(clock: Clock) -> None:
    cache = Cache(revisions(1, 2), clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += 3600

    assert cache.confirmed(WAIT_S).revision == 2


def test_what_was_confirmed_a_moment_ago_is_shown_without_another_look(clock: Clock) -> None:
    cache = Cache(revisions(1, 2), clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += catalog.CONFIRMED_S
    cache._looked_at = clock.now  # somebody has just asked
    before = cache.confirmed(ANSWERS_WITHIN_S).revision
    clock.now += 0.2

    assert (before, cache.confirmed(WAIT_S).revision) == (1, 2)


def test_whoever_waits_for_a_confirmation_shares_the_look_under_way(
    clock: Clock, blocked: threading.Event
) -> None:
    numbers = iter([1, 2, 3])

    def load(held: Catalog | None) -> Catalog:
        number = next(numbers)
        if number > 1:
            blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=number)

    cache = Cache(load, clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += 3600
    held = cache.current()  # a decision: it goes on with what is held, and has asked for a look
    threading.Timer(0.05, blocked.set).start()

    assert (held.revision, cache.confirmed(WAIT_S).revision) == (1, 2)
    assert next(numbers) == 3  # nobody asked for a look of their own


def test_a_database_that_hangs_keeps_one_waiting_and_then_nobody(
    clock: Clock, blocked: threading.Event
) -> None:
    numbers = iter([1, 2])

    def load(held: Catalog | None) -> Catalog:
        number = next(numbers)
        if number > 1:
            blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=number)

    def took_s() -> float:
        began = time.monotonic()
        assert cache.confirmed(0.2).revision == 1
        return time.monotonic() - began

    cache = Cache(load, clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += 3600
    first, second = took_s(), took_s()
    blocked.set()
    eventually(lambda: cache.current().revision == 2)

    assert 0.2 <= first < 1
    assert second < 0.1


def test_a_database_that_fails_is_waited_for_by_nobody_until_it_answers(clock: Clock) -> None:
    answers: list[Any] = [Catalog(revision=1), OperationalError("gone"), Catalog(revision=2)]
    looks = []

    def load(held: Catalog | None) -> Catalog:
        looks.append(threading.current_thread())
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cache = Cache(load, clock)
    cache.refresh(ANSWERS_WITHIN_S)
    clock.now += 3600
    seen = [cache.confirmed(WAIT_S).revision for _ in range(3)]
    clock.now += catalog.LOOK_EVERY_S + 0.1
    cache.confirmed(WAIT_S)
    eventually(lambda: cache.current().revision == 2)

    assert seen == [1, 1, 1]
    assert len(looks) == 3


def test_a_change_during_a_look_is_found_by_another_look(
    clock: Clock, blocked: threading.Event
) -> None:
    numbers = iter([1, 2])
    begun = threading.Event()

    def load(held: Catalog | None) -> Catalog:
        number = next(numbers)
        begun.set()
        blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=number)

    cache = Cache(load, clock)
    cache.refresh(0)
    begun.wait(ANSWERS_WITHIN_S)
    threading.Timer(0.05, blocked.set).start()

    assert cache.refresh(ANSWERS_WITHIN_S).revision == 2


def test_a_look_that_hangs_is_left_and_its_late_answer_ignored(clock: Clock) -> None:
    hung, looks = threading.Event(), iter([1, 2])
    finished = threading.Event()

    def load(held: Catalog | None) -> Catalog:
        number = next(looks)
        if number == 1:
            hung.wait(ANSWERS_WITHIN_S)
            finished.set()
        return Catalog(revision=number)

    cache = Cache(load, clock)
    cache.refresh(0.05)
    clock.now += catalog.STUCK_AFTER_S + 1
    taken = cache.refresh(ANSWERS_WITHIN_S).revision
    hung.set()
    finished.wait(ANSWERS_WITHIN_S)

    assert taken == 2
    assert cache.refresh(0).revision == 2


def test_many_readers_share_one_look(clock: Clock, blocked: threading.Event) -> None:
    loads = []

    def load(held: Catalog | None) -> Catalog:
        loads.append(threading.current_thread().name)
        blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=1)

    cache = Cache(load, clock)
    cache.refresh(0)
    readers = [threading.Thread(target=cache.current) for _ in range(20)]
    for reader in readers:
        reader.start()
    blocked.set()
    for reader in readers:
        reader.join()

    assert loads == ["catalog"]


# --- a database that answers, and does not hold the configuration


@pytest.mark.django_db(transaction=True)
def test_a3_a_database_without_a_configuration_never_replaces_the_one_that_is_held() -> None:
    cache = Cache()
    make_route()
    held = cache.refresh(ANSWERS_WITHIN_S)
    call_command("flush", interactive=False, verbosity=0)

    assert held.revision > 0
    assert cache.refresh(ANSWERS_WITHIN_S) is held
    assert cache.looked_at_now(ANSWERS_WITHIN_S) is None
    assert "manage.py seed" in cache.trouble
    assert cache.failures == 2


@pytest.mark.django_db(transaction=True)
def test_a3_at_first_contact_it_is_not_taken_for_one_either() -> None:
    cache = Cache()
    cache.refresh(ANSWERS_WITHIN_S)

    assert cache.age_s() == float("inf")
    assert "manage.py seed" in cache.trouble


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("missing", [RouteStep, ApiKey])
def test_a3_a_part_of_a_configuration_is_not_taken_for_it(missing: Any) -> None:
    make_route()
    make_key()
    held = catalog.load()
    connection.cursor().execute(f"DELETE FROM {missing._meta.db_table}")  # not there yet

    with pytest.raises(catalog.NotWhole, match=f"0 of . {missing.__name__}"):
        catalog.load()
    assert catalog.load(held) is held


@pytest.mark.django_db(transaction=True)
def test_what_is_deleted_by_our_own_ways_leaves_a_whole_configuration() -> None:
    make_route("one")
    make_route("two")
    make_key()
    Route.objects.get(slug="one").delete()
    ApiKey.objects.all().delete()

    assert (list(catalog.load().routes), catalog.load().keys) == (["two"], {})


@pytest.mark.django_db(transaction=True)
def test_a_row_deleted_by_hand_is_taken_with_the_next_change() -> None:
    make_route("one")
    make_route("two")
    connection.cursor().execute("DELETE FROM fallback_routestep")
    with pytest.raises(catalog.NotWhole, match="save any setting in the admin"):
        catalog.load()
    make_provider("sarvam")

    assert [len(route.steps) for route in catalog.load().routes.values()] == [0, 0]


@pytest.mark.django_db(transaction=True)
def test_a_row_added_by_hand_makes_a_configuration_no_less_whole() -> None:
    make_route("one")
    RouteStep.objects.bulk_create(
        [RouteStep(route=Route.objects.get(), provider=make_provider("sarvam"), position=9)]
    )

    assert len(catalog.load().routes["one"].steps) == 3


@pytest.mark.django_db(transaction=True)
def test_a_deletion_in_the_middle_of_a_load_is_no_missing_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_route("one")
    make_route("two")
    read = catalog.loading._read

    def meanwhile(revision: int) -> Any:
        """Have somebody delete a route once the revision is read."""
        Route.objects.filter(slug="one").delete()
        return read(revision)

    monkeypatch.setattr(catalog.loading, "_read", meanwhile)

    assert list(catalog.load().routes) == ["two"]


@pytest.mark.django_db(transaction=True)
def test_a_revision_whose_rows_nobody_counted_is_taken_as_it_is() -> None:
    make_route()
    ConfigRevision.bump()  # a process was killed right after its commit
    connection.cursor().execute("DELETE FROM fallback_routestep")
    taken = catalog.load()
    catalog.seal()

    assert list(taken.routes) == ["breeze-buddy"]
    assert ConfigRevision.with_rows()[1]["RouteStep"] == 0


# --- what is not known here


def test_s10_all_who_name_what_is_new_wait_for_one_look(
    clock: Clock, blocked: threading.Event
) -> None:
    looks = []

    def load(held: Catalog | None) -> Catalog:
        looks.append(1)
        if len(looks) > 1:
            blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=len(looks))

    cache = Cache(load, clock)
    cache.refresh(ANSWERS_WITHIN_S)
    found = []

    def ask() -> None:
        found.append(cache.chased(lambda it: it.revision > 1, "new", ANSWERS_WITHIN_S))

    callers = [threading.Thread(target=ask) for _ in range(64)]
    for caller in callers:
        caller.start()
    blocked.set()
    for caller in callers:
        caller.join()

    assert {(config.revision > 1, is_certain) for config, is_certain in found} == {(True, True)}
    assert len(looks) <= 3


def test_what_looks_did_not_find_again_and_again_is_not_waited_for(clock: Clock) -> None:
    looks = []
    cache = Cache(lambda held: looks.append(1) or Catalog(revision=1), clock)
    cache.refresh(ANSWERS_WITHIN_S)

    def ask(times: int) -> int:
        """Return how many looks were made for it."""
        before = len(looks)
        for _ in range(times):
            assert cache.chased(lambda it: False, "nonsense", ANSWERS_WITHIN_S)[1]
        return len(looks) - before

    first, again = ask(catalog.MISSES_MAX), ask(20)
    clock.now += catalog.MISSES_S

    assert (first, again, ask(1)) == (catalog.MISSES_MAX, 0, 1)


def test_who_cannot_be_looked_for_may_exist(clock: Clock, blocked: threading.Event) -> None:
    def load(held: Catalog | None) -> Catalog:
        if held is not None and held.revision:
            blocked.wait(ANSWERS_WITHIN_S)
        return Catalog(revision=1)

    cache = Cache(load, clock)
    cache.refresh(ANSWERS_WITHIN_S)
    began = time.monotonic()
    found = [cache.chased(lambda it: False, "new", 0.1)[1] for _ in range(20)]

    assert found == [False] * 20
    assert time.monotonic() - began < 1  # one waited, and then nobody


def test_a_change_is_looked_for_at_once_whatever_strangers_ask_for(clock: Clock) -> None:
    cache = Cache(revisions(1, 1, 2), clock)
    cache.refresh(ANSWERS_WITHIN_S)
    stranger = threading.Thread(
        target=lambda: cache.chased(lambda it: False, "nonsense", ANSWERS_WITHIN_S)
    )
    stranger.start()
    began = time.monotonic()
    for _ in range(20):
        cache.refresh(ANSWERS_WITHIN_S)
    stranger.join()

    assert time.monotonic() - began < 20 * catalog.CHASE_PACE_S


@pytest.mark.django_db(transaction=True)
def test_the_background_thread_closes_the_connection_that_it_opened() -> None:
    make_route()
    opened = []

    def load(held: Catalog | None) -> Catalog:
        found = catalog.load(held)
        opened.append(connections["default"])
        return found

    cache = Cache(load)
    found = cache.refresh(ANSWERS_WITHIN_S)

    assert list(found.routes) == ["breeze-buddy"]
    eventually(lambda: opened[0].connection is None)


@pytest.mark.django_db(transaction=True)
def test_a_row_changed_past_the_signals_is_found_after_a_while(clock: Clock) -> None:
    make_route("breeze-buddy", "soniox")
    ConfigRevision.bump()
    cache = Cache(clock=clock)
    cache.refresh(ANSWERS_WITHIN_S)
    Route.objects.update(name="Changed")
    before = cache.refresh(ANSWERS_WITHIN_S).routes["breeze-buddy"].name
    clock.now += catalog.LOAD_ANYWAY_S + 1

    assert before == "Breeze-Buddy"
    assert cache.refresh(ANSWERS_WITHIN_S).routes["breeze-buddy"].name == "Changed"


def eventually(claim: Any) -> None:
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while not claim():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
