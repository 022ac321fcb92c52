"""Every change of the configuration has an author, a time and a reason, and can be undone."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from fallback import changes, configuration
from fallback.errors import Invalid
from fallback.models import (
    AlertDestination,
    ApiKey,
    ConfigChange,
    ConfigRevision,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
)
from tests.configuration import make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db


def set_threshold(number: int, *, author: str = "admin:ana", reason: str = "too jumpy") -> Any:
    with changes.made_by(author, reason) as making:
        policy = Policy.objects.get(name="default")
        policy.failure_threshold = number
        policy.save()
    return making.change


@pytest.fixture
def route() -> Route:
    """Save a route over soniox and deepgram, and begin the record there."""
    with changes.made_by("test"):
        return make_route("breeze", "soniox", "deepgram")


def test_a_change_has_its_author_reason_and_what_in_a_line(route: Route) -> None:
    change = set_threshold(5)

    assert (change.author, change.reason) == ("admin:ana", "too jumpy")
    assert change.summary == "policy default: failure_threshold: 2 → 5"
    assert [str(one) for one in change.touched.all()] == ["policies.default"]
    assert change.revision == ConfigRevision.current()
    assert change.configuration == configuration.build()


def test_a_reason_is_in_the_history_of_the_row_too(route: Route) -> None:
    set_threshold(5, reason="too jumpy " * 30)

    assert Policy.history.first().history_change_reason.startswith("too jumpy")


def test_what_did_not_change_is_no_change(route: Route) -> None:
    before = ConfigChange.objects.count()
    set_threshold(2)
    with changes.made_by("admin:ana", "look"):
        configuration.apply(configuration.build())

    assert ConfigChange.objects.count() == before


def test_one_transaction_is_one_change(route: Route) -> None:
    with changes.made_by("admin:ana", "two at once") as making:
        set_threshold(7, author="admin:bo")
        make_provider("sarvam")

    assert making.change.author == "admin:ana"
    assert len(making.change.touched.all()) == 2
    assert ConfigChange.objects.newest() == making.change


def test_what_fails_in_the_middle_leaves_no_change(route: Route) -> None:
    before = ConfigChange.objects.count(), ConfigRevision.current(), Policy.history.count()
    with pytest.raises(IntegrityError), changes.made_by("admin:ana", "oops"):
        [set_threshold(number) for number in (7, 2000)]  # the second is refused by the database

    assert before == (
        ConfigChange.objects.count(), ConfigRevision.current(), Policy.history.count()
    )  # fmt: skip


def test_an_api_key_is_told_of_and_is_in_no_document(route: Route) -> None:
    with changes.made_by("command:api_key", "new pods") as making:
        ApiKey.objects.create(name="pods", public="a", secret_hash="b")

    assert making.change.summary == "API key pods: added"
    assert "pods" not in str(making.change.configuration)


def test_what_was_written_past_the_signals_is_told_apart(route: Route) -> None:
    Policy.objects.update(failure_threshold=9)
    change = set_threshold(3)
    unseen = change.previous()

    assert (unseen.author, unseen.summary) == (
        "system", "policy default: failure_threshold: 2 → 9",
    )  # fmt: skip
    assert change.summary == "policy default: failure_threshold: 9 → 3"


def test_who_is_linked_to_a_destination_is_a_change(route: Route) -> None:
    place = AlertDestination.objects.create(name="on-call", channel="C0123ABC")
    before = ConfigRevision.current()
    with changes.made_by("admin:ana", "ours") as making:
        place.routes.add(route)

    assert making.change.summary == "destination on-call: routes: none → breeze"
    assert ConfigRevision.current() >= before


@pytest.mark.django_db(transaction=True)
def test_what_a_shell_saves_is_recorded_with_the_state_before_it() -> None:
    make_policy()
    policy = Policy.objects.get()
    policy.failure_threshold = 4
    policy.save()
    made = list(ConfigChange.objects.order_by("pk"))

    assert [one.summary for one in made] == [
        "The beginning", "policy default: added", "policy default: failure_threshold: 2 → 4",
    ]  # fmt: skip
    assert {one.author for one in made} == {"system"}
    assert made[0].configuration["policies"] == {}


@pytest.mark.django_db(transaction=True)
def test_saving_a_row_as_it_was_is_recorded_as_nothing() -> None:
    make_policy().save()

    assert ConfigChange.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_recorded_as_nothing() -> None:
    make_policy()
    before = ConfigChange.objects.count()
    with transaction.atomic():
        set_threshold(9)
        transaction.set_rollback(True)

    assert ConfigChange.objects.count() == before


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_a_change_each_and_lose_none() -> None:
    make_policy(failure_threshold=10)
    errors: list[Exception] = []

    def raise_by_one() -> None:
        try:
            with changes.made_by("admin:ana", "one more"):
                policy = Policy.objects.get()
                policy.failure_threshold += 1
                policy.save()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    people = [threading.Thread(target=raise_by_one) for _ in range(6)]
    for person in people:
        person.start()
    for person in people:
        person.join()

    assert errors == []
    assert Policy.objects.get().failure_threshold == 16
    assert ConfigChange.objects.count() == 2 + 6


# --- undo


def test_the_very_first_change_can_be_undone() -> None:
    with changes.made_by("admin:ana", "begin") as making:
        make_route("breeze", "soniox")
    changes.undo(making.change, author="admin:ana", reason="not yet")

    assert not Route.objects.exists()
    assert not Policy.objects.exists()


def test_an_undo_is_a_change_itself(route: Route) -> None:
    change = set_threshold(5)
    undone = changes.undo(change, author="admin:bo", reason="worse").change

    assert (undone.author, undone.reason) == ("admin:bo", f"Undo of #{change.pk}: worse")
    assert undone.summary == "policy default: failure_threshold: 5 → 2"


def test_undo_puts_inlines_and_their_order_back(route: Route) -> None:
    PolicyReason.objects.create(policy=Policy.objects.get(), reason="auth", weight=3)
    before = configuration.build()
    with changes.made_by("admin:ana", "new chain") as making:
        RouteStep.objects.get(provider__slug="soniox").delete()
        row = RouteStep.objects.get()
        row.settings = {"model": "nova-4"}
        row.save()
        PolicyReason.objects.get().delete()
    changes.undo(making.change, author="admin:ana", reason="worse")

    assert configuration.build() == before


def test_undo_keeps_what_others_changed_since(route: Route) -> None:
    change = set_threshold(5)
    Policy.objects.update(failure_window_s=300)
    changes.undo(change, author="admin:ana", reason="worse")
    policy = Policy.objects.get()

    assert (policy.failure_threshold, policy.failure_window_s) == (2, 300)


def test_undo_of_what_was_changed_since_is_refused_with_its_path(route: Route) -> None:
    change = set_threshold(5)
    set_threshold(6, author="admin:bo")
    before = configuration.build(), ConfigChange.objects.count()
    with pytest.raises(Invalid) as refused:
        changes.undo(change, author="admin:ana", reason="worse")

    (problem,) = refused.value.problems
    assert problem.field == "policies.default.failure_threshold"
    assert "was set to 5 by this change and is 6 now" in problem.detail
    assert (configuration.build(), ConfigChange.objects.count()) == before


def test_undo_of_an_added_row_that_is_used_by_now_says_by_whom(route: Route) -> None:
    with changes.made_by("admin:ana", "try") as making:
        strict = make_policy("strict")
    with changes.made_by("admin:bo", "use it"):
        provider = Provider.objects.get(slug="soniox")
        provider.policy = strict
        provider.save()
    with pytest.raises(Invalid, match=r"providers.stt/soniox.policy: There is no policy “strict”"):
        changes.undo(making.change, author="admin:ana", reason="worse")


def test_undo_does_not_throw_away_settings_that_a_step_was_given_since(route: Route) -> None:
    with changes.made_by("admin:ana", "longer") as making:
        RouteStep.objects.create(route=route, provider=make_provider("sarvam"), position=3)
    with changes.made_by("admin:bo", "tune"):
        step = RouteStep.objects.get(provider__slug="sarvam")
        step.settings = {"model": "b"}
        step.save()

    told = [str(one) for one in changes.way_without(making.change).problems]

    assert "routes.breeze.steps.sarvam.model" in " ".join(told)


def test_back_to_a_point_is_everything_as_it_was(route: Route) -> None:
    point = set_threshold(5)
    with changes.made_by("admin:bo", "more"):
        set_threshold(6)
        make_route("other", "sarvam")
    changes.back_to(point, author="admin:ana", reason="start over")

    assert configuration.build() == point.configuration
    assert ConfigChange.objects.newest().reason == f"Back to #{point.pk}: start over"


def test_old_changes_are_forgotten_and_the_last_never(route: Route) -> None:
    for number in range(3, 8):
        set_threshold(number)
    last = ConfigChange.objects.newest()
    ConfigChange.objects.update(at=timezone.now() - timedelta(days=400))
    changes.forget(timezone.now() - timedelta(days=180), at_most=2)
    left = ConfigChange.objects.count()
    changes.forget(timezone.now() - timedelta(days=180), at_most=1000)

    assert left == 5  # of the beginning, the route, and five
    assert list(ConfigChange.objects.all()) == [last]
    assert "no longer kept" in changes.way_without(last).problems[0].detail
