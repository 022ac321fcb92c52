"""Two people at one form of the admin, and a save that fails in the middle: nothing is lost."""

import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from fallback import breaker, configuration
from fallback.domain import Kind
from fallback.models import (
    ConfigChange,
    ConfigRevision,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
)
from tests.admin_forms import edit, posted, recorded_route, signed_in_as, text_of, url
from tests.configuration import WHY, make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db


@pytest.fixture
def bo(django_user_model: Any) -> Client:
    return signed_in_as("bo", django_user_model)


@pytest.fixture
def route() -> Route:
    return recorded_route()


# --- two people at one form


def test_the_second_is_told_who_changed_what_and_her_input_stays(
    admin_client: Client, bo: Client, route: Route
) -> None:
    policy = Policy.objects.get()
    page = url("policy", "change", policy.pk)
    hers = posted(admin_client.get(page)) | {"failure_threshold": 7, "notes": "hers"}
    edit(bo, policy, failure_window_s=600, change_reason="patience")
    told = admin_client.post(page, hers)
    saved = Policy.objects.get()
    shown = posted(told)

    assert "Not saved: this was changed while you were editing it" in text_of(told)
    assert ": bo, " in text_of(told)
    assert "failure_window_s: 240 → 600" in text_of(told)
    assert "patience" in text_of(told)
    assert (saved.failure_threshold, saved.failure_window_s, saved.notes) == (2, 600, "")
    assert (shown["failure_threshold"], shown["notes"]) == ("7", "hers")
    assert shown["failure_window_s"] == "600"


def test_saving_again_on_purpose_keeps_both(admin_client: Client, bo: Client, route: Route) -> None:
    policy = Policy.objects.get()
    page = url("policy", "change", policy.pk)
    hers = posted(admin_client.get(page)) | {"failure_threshold": 7}
    edit(bo, policy, failure_window_s=600)
    again = admin_client.post(page, posted(admin_client.post(page, hers)))
    saved = Policy.objects.get()

    assert again.status_code == 302
    assert (saved.failure_threshold, saved.failure_window_s) == (7, 600)


def test_rows_within_are_watched_and_merged_too(
    admin_client: Client, bo: Client, route: Route
) -> None:
    policy = Policy.objects.get()
    edit(admin_client, policy)  # gives every reason its row
    page = url("policy", "change", policy.pk)
    hers = posted(admin_client.get(page))
    index = {name: hers[name] for name in hers if name.endswith("-id")}
    timeout = str(PolicyReason.objects.get(reason="timeout").pk)
    auth = str(PolicyReason.objects.get(reason="auth").pk)
    field = {str(pk): name.removesuffix("id") + "weight" for name, pk in index.items()}
    edit(bo, policy, **{field[auth]: 5})
    told = admin_client.post(page, hers | {field[timeout]: 9})
    refused = "what_counts.auth.weight: 1 → 5" in text_of(told)
    admin_client.post(page, posted(told))
    weights = dict(PolicyReason.objects.values_list("reason", "weight"))

    assert refused
    assert (weights["auth"], weights["timeout"]) == (5, 9)


def test_a_step_that_the_other_added_is_not_lost(
    admin_client: Client, bo: Client, route: Route
) -> None:
    sarvam = make_provider("sarvam")
    page = url("route", "change", route.pk)
    hers = posted(admin_client.get(page)) | {"steps-0-settings": '{"model": "hers"}'}
    more = {"steps-TOTAL_FORMS": 3, "steps-2-provider": sarvam.pk, "steps-2-position": 3}
    edit(bo, route, **more, **{"steps-2-settings": "{}"})
    told = admin_client.post(page, hers)
    admin_client.post(page, posted(told))
    chain = RouteStep.objects.values_list("provider__slug", "settings")

    assert "steps: soniox, deepgram → soniox, deepgram, sarvam" in text_of(told)
    assert list(chain) == [("soniox", {"model": "hers"}), ("deepgram", {}), ("sarvam", {})]


def test_a_step_that_the_other_removed_stays_removed_unless_it_was_touched(
    admin_client: Client, bo: Client, route: Route
) -> None:
    page = url("route", "change", route.pk)
    hers = posted(admin_client.get(page)) | {"name": "Hers"}
    edit(bo, route, **{"steps-1-DELETE": "on"})
    told = admin_client.post(page, hers)
    done = admin_client.post(page, posted(told))

    assert done.status_code == 302
    assert Route.objects.get().name == "Hers"
    assert [step.provider.slug for step in RouteStep.objects.all()] == ["soniox"]


def test_a_step_that_was_undone_and_made_again_can_still_be_saved(
    admin_client: Client, bo: Client, route: Route
) -> None:
    page = url("route", "change", route.pk)
    hers = posted(admin_client.get(page)) | {"steps-1-settings": '{"model": "hers"}'}
    edit(bo, route, **{"steps-1-DELETE": "on"})
    told = admin_client.post(page, hers)
    done = admin_client.post(page, posted(told))

    assert done.status_code == 302
    assert dict(RouteStep.objects.values_list("provider__slug", "settings")) == {
        "soniox": {}, "deepgram": {"model": "hers"},
    }  # fmt: skip


def test_who_deletes_what_was_changed_meanwhile_is_told(
    admin_client: Client, bo: Client, route: Route
) -> None:
    page = url("route", "delete", route.pk)
    seen = str(admin_client.get(page).context["seen"])
    edit(bo, route, name="Ours")
    told = admin_client.post(page, {"post": "yes", "seen_as": seen} | WHY)
    again = str(told.context["seen"])
    was_kept = Route.objects.exists()
    admin_client.post(page, {"post": "yes", "seen_as": again} | WHY)

    assert ": bo, " in text_of(told)
    assert was_kept
    assert not Route.objects.exists()


def test_who_saves_what_was_deleted_meanwhile_is_told_by_whom(
    admin_client: Client, bo: Client, route: Route
) -> None:
    page = url("route", "change", route.pk)
    hers = posted(admin_client.get(page))
    bo.post(url("route", "delete", route.pk), {"post": "yes"} | WHY)
    told = admin_client.post(page, hers, follow=True)

    assert "Not saved. bo has deleted it" in text_of(told)


@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_at_once_one_is_told_and_nothing_is_lost(
    django_user_model: Any,
) -> None:
    policy = make_policy()
    people = [Client(), Client()]
    for number, person in enumerate(people):
        person.force_login(django_user_model.objects.create_superuser(f"p{number}"))
    page = url("policy", "change", policy.pk)
    forms = [
        posted(people[0].get(page)) | {"failure_threshold": 7},
        posted(people[1].get(page)) | {"failure_window_s": 600},
    ]
    start, answers = threading.Barrier(2), {}

    def save(number: int) -> None:
        start.wait(10)
        answers[number] = people[number].post(page, forms[number])
        connection.close()

    threads = [threading.Thread(target=save, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second = next(number for number in range(2) if answers[number].status_code == 200)
    people[second].post(page, posted(answers[second]))
    saved = Policy.objects.get()

    assert sorted(answer.status_code for answer in answers.values()) == [200, 302]
    assert "Not saved" in text_of(answers[second])
    assert (saved.failure_threshold, saved.failure_window_s) == (7, 600)


# --- a save that fails in the middle


def stored_and_live(redis_client: Any) -> list[Any]:
    """Return all that a change of the configuration writes, in the database and in Redis."""
    histories = [model.history.count() for model in (Policy, PolicyReason, Provider, Route)]
    counts = [ConfigRevision.current(), ConfigChange.objects.count()]
    keys = sorted(redis_client.keys("*config*") + redis_client.keys("*polic*"))
    live = [redis_client.dump(key) for key in keys]
    told = breaker.snapshot(Kind.STT, ["soniox"]).revision
    return [configuration.build(), histories, counts, keys, live, told]


LATE_FAILURE = {
    "sqlite": (
        "CREATE TRIGGER late BEFORE UPDATE ON fallback_policyreason WHEN NEW.weight = 9"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END",
        "DROP TRIGGER late",
    ),
    "postgresql": (
        "ALTER TABLE fallback_policyreason ADD CONSTRAINT late CHECK (weight <> 9)",
        "ALTER TABLE fallback_policyreason DROP CONSTRAINT late",
    ),
}


@pytest.mark.django_db(transaction=True)
def test_a_save_that_fails_in_the_middle_changes_nothing_stored_or_live(
    admin_client: Client, redis_client: Any
) -> None:
    make_route("breeze", "soniox")
    policy = Policy.objects.get()
    edit(admin_client, policy)  # gives every reason its row
    before = stored_and_live(redis_client)
    forbid, allow = LATE_FAILURE[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(forbid)
    try:
        page = edit(admin_client, policy, failure_threshold=7, **{"reasons-3-weight": 9})
    finally:
        with connection.cursor() as cursor:
            cursor.execute(allow)

    assert before[5] == ConfigRevision.current()
    assert "The database refused this, and nothing was changed" in text_of(page)
    assert posted(page)["failure_threshold"] == "7"
    assert stored_and_live(redis_client) == before
