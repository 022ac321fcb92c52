"""The history of the configuration in the admin: reasons, undo, and two people at one form."""

import re
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.urls import reverse

from fallback import breaker, catalog, changes, configuration
from fallback.domain import Kind
from fallback.models import (
    ApiKey,
    ConfigChange,
    ConfigRevision,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
)
from tests.configuration import WHY, make_policy, make_provider, make_route
from tests.test_cautions import box

pytestmark = pytest.mark.django_db


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def posted(page: Any) -> dict[str, Any]:
    """Return what a browser would post of the form on a page, nothing touched."""
    context = page.context
    forms = [context["adminform"].form]
    values: dict[str, Any] = {}
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    for form in forms:
        for bound in form:
            value = bound.value()
            if bound.field.disabled or value is None or value is False:
                continue
            values[bound.html_name] = "on" if value is True else value
            if bound.field.show_hidden_initial:
                values[bound.html_initial_name] = value
    return values | WHY


def edit(client: Client, row: Any, **values: Any) -> Any:
    """Open a row's form, type these values over it, and save."""
    page = url(row._meta.model_name, "change", row.pk)
    form = posted(client.get(page)) | values
    done = client.post(page, form)
    token = box(done)  # what it brings has to be read first
    return client.post(page, form | {"confirmed": token}) if token else done


@pytest.fixture
def bo(django_user_model: Any) -> Client:
    """Sign in somebody else."""
    client = Client()
    client.force_login(django_user_model.objects.create_superuser("bo"))
    return client


@pytest.fixture
def route() -> Route:
    """Save a route, and begin the record there."""
    with changes.made_by("test"):
        route = make_route("breeze", "soniox", "deepgram")
        for reason in ("auth", "timeout"):
            PolicyReason.objects.create(policy=Policy.objects.get(), reason=reason)
        return route


# --- the reason


@pytest.mark.parametrize("reason", ["", "   "])
def test_nothing_is_saved_without_a_reason(admin_client: Client, route: Route, reason: str) -> None:
    page = edit(admin_client, route, name="Other", change_reason=reason)

    assert "This field is required" in text_of(page)
    assert Route.objects.get().name == "Breeze"


def test_a_reason_is_kept_with_the_change_and_with_the_row(
    admin_client: Client, route: Route
) -> None:
    edit(admin_client, route, name="Other", change_reason="a better name")
    change = ConfigChange.objects.newest()

    assert (change.author, change.reason) == ("admin:admin", "a better name")
    assert change.summary == 'route breeze: name: "Breeze" → "Other"'
    assert Route.history.first().history_change_reason == "a better name"


def test_saving_a_form_that_nobody_touched_changes_nothing(
    admin_client: Client, route: Route
) -> None:
    policy = Policy.objects.get()
    edit(admin_client, policy)  # gives every reason its row
    before = ConfigChange.objects.count(), ConfigRevision.current(), Policy.history.count()
    edit(admin_client, route)
    page = edit(admin_client, policy)

    assert page.status_code == 302
    assert before == (
        ConfigChange.objects.count(), ConfigRevision.current(), Policy.history.count()
    )  # fmt: skip


def test_deleting_asks_for_a_reason(admin_client: Client, route: Route) -> None:
    target = url("route", "delete", route.pk)
    refused = admin_client.post(target, {"post": "yes"})
    was_kept = Route.objects.exists()
    admin_client.post(target, {"post": "yes"} | WHY)

    assert "Not deleted: give a reason." in text_of(refused)
    assert was_kept
    assert not Route.objects.exists()
    assert ConfigChange.objects.newest().summary == "route breeze: removed"


def test_deleting_many_asks_for_a_reason(admin_client: Client, route: Route) -> None:
    chosen = {"action": "delete_selected", "_selected_action": [route.pk], "post": "yes"}
    refused = admin_client.post(url("route", "changelist"), chosen)
    was_kept = Route.objects.exists()
    admin_client.post(url("route", "changelist"), chosen | WHY)

    assert "Not deleted: give a reason." in text_of(refused)
    assert was_kept
    assert not Route.objects.exists()
    assert ConfigChange.objects.newest().author == "admin:admin"


def test_a_new_key_is_a_change_that_says_nothing_of_the_key(admin_client: Client) -> None:
    form = {"name": "pods", "role": "agent", "enabled": "on"} | WHY
    admin_client.post(url("apikey", "add"), form)
    change = ConfigChange.objects.newest()
    page = admin_client.get(url("configchange", "change", change.pk))

    assert change.summary == "API key pods: added"
    assert ApiKey.objects.get().secret_hash not in page.content.decode()


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


# --- the pages of changes


@pytest.fixture
def change(admin_client: Client, route: Route) -> ConfigChange:
    """Change a threshold through the form."""
    edit(admin_client, Policy.objects.get())
    edit(admin_client, Policy.objects.get(), failure_threshold=5, change_reason="too jumpy")
    found = ConfigChange.objects.newest()
    assert found is not None
    return found


def test_the_list_says_who_what_and_why(admin_client: Client, change: ConfigChange) -> None:
    page = text_of(admin_client.get(url("configchange", "changelist")))

    assert "policy default: failure_threshold: 2 → 5" in page
    assert "admin, in the admin" in page
    assert "too jumpy" in page


def test_the_list_is_filtered_by_what_was_touched_and_by_whom(
    admin_client: Client, change: ConfigChange
) -> None:
    target = url("configchange", "changelist")
    routes = admin_client.get(target, {"touched": "routes.breeze"}).context["cl"].result_list
    by = {"touched": "policies.default", "author": "admin:admin"}
    policies = admin_client.get(target, by).context["cl"].result_list

    assert change not in routes
    assert len(routes) == 1
    assert policies[0] == change


def test_a_change_shows_its_difference_and_links_what_it_touched(
    admin_client: Client, change: ConfigChange
) -> None:
    page = admin_client.get(url("configchange", "change", change.pk)).content.decode()

    assert '<span class="line line-removed">-    failure_threshold: 2' in page
    assert '<span class="line line-added">+    failure_threshold: 5' in page
    assert url("policy", "change", Policy.objects.get().pk) in page


def test_a_rows_own_history_leads_to_its_changes(
    admin_client: Client, change: ConfigChange
) -> None:
    policy = Policy.objects.get()
    page = admin_client.get(url("policy", "history", policy.pk)).content.decode()
    earlier = url("policy", "simple_history", policy.pk, policy.history.first().pk)
    moved = admin_client.post(earlier, {"_change_history": "1"})

    assert url("configchange", "change", change.pk) in page
    assert moved["Location"] == url("configchange", "changelist") + "?touched=policies.default"


def go(client: Client, change: ConfigChange, way: str, **values: Any) -> Any:
    """Look at what a way back would do, and go it."""
    target = url("configchange", "way", change.pk, way)
    shown = client.get(target)
    form = {"change_reason": "worse", "shown": shown.context["form"]["shown"].value()}
    return client.post(target, form | values, follow=True)


def test_undo_shows_what_it_would_do_and_does_it(
    admin_client: Client, change: ConfigChange
) -> None:
    preview = text_of(admin_client.get(url("configchange", "way", change.pk, "undo")))
    page = go(admin_client, change, "undo")

    assert "policy default: failure_threshold: 5 → 2" in preview
    assert "Undo this change" in text_of(page)
    assert Policy.objects.get().failure_threshold == 2
    assert ConfigChange.objects.newest().reason == f"Undo of {change}: worse"


def test_undo_takes_a_reason(admin_client: Client, change: ConfigChange) -> None:
    page = go(admin_client, change, "undo", change_reason=" ")

    assert "This field is required" in text_of(page)
    assert Policy.objects.get().failure_threshold == 5


def test_undo_of_what_was_changed_since_says_what_to_do(
    admin_client: Client, change: ConfigChange
) -> None:
    edit(admin_client, Policy.objects.get(), failure_threshold=6)
    page = text_of(admin_client.get(url("configchange", "way", change.pk, "undo")))

    assert "was set to 5 by this change and is 6 now: undo the later change first" in page
    assert 'name="change_reason"' not in page


def test_back_to_here_takes_everything_since_back(
    admin_client: Client, change: ConfigChange
) -> None:
    edit(admin_client, Policy.objects.get(), failure_threshold=6)
    edit(admin_client, Route.objects.get(), name="Other")
    go(admin_client, change, "back")

    assert configuration.build() == change.configuration


def test_what_is_done_is_what_was_shown(admin_client: Client, change: ConfigChange) -> None:
    target = url("configchange", "way", change.pk, "undo")
    form = {
        "change_reason": "worse",
        "shown": admin_client.get(target).context["form"]["shown"].value(),
    }
    edit(admin_client, Route.objects.get(), name="Other")
    page = admin_client.post(target, form)

    assert "has been changed since this page was shown" in text_of(page)
    assert Policy.objects.get().failure_threshold == 5


def test_undo_takes_the_permission_to_change_what_it_touches(
    client: Client, django_user_model: Any, change: ConfigChange
) -> None:
    user = django_user_model.objects.create_user("vera", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_configchange"))
    client.force_login(user)
    target = url("configchange", "way", change.pk, "undo")
    page = client.get(target)
    refused = client.post(target, {"shown": page.context["form"]["shown"].value()} | WHY)

    assert "it takes the permission to change policy" in text_of(page)
    assert refused.status_code == 403
    assert Policy.objects.get().failure_threshold == 5


def test_the_pages_of_changes_hold_nothing_inline(
    admin_client: Client, change: ConfigChange
) -> None:
    targets = [
        url("configchange", "change", change.pk),
        url("configchange", "way", change.pk, "undo"),
        url("configchange", "way", change.pk, "back"),
        url("policy", "delete", Policy.objects.get().pk),
        url("policy", "history", Policy.objects.get().pk),
    ]
    inline = r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*(?:src|json))"
    found = {target: re.findall(inline, admin_client.get(target).content.decode())
             for target in targets}  # fmt: skip

    assert found == {target: [] for target in targets}


def test_hostile_texts_are_shown_as_they_are(admin_client: Client, route: Route) -> None:
    edit(admin_client, route, name="<b>{x}</b> %s", change_reason="<script>alert(1)</script>")
    change = ConfigChange.objects.newest()
    assert change is not None
    pages = [
        admin_client.get(url("configchange", "changelist")).content.decode(),
        admin_client.get(url("configchange", "change", change.pk)).content.decode(),
        admin_client.get(url("route", "history", route.pk)).content.decode(),
    ]

    assert not any("<script>alert" in page or "<b>{x}" in page for page in pages)


def test_a_change_is_live_at_once_and_so_is_its_undo(
    admin_client: Client, change: ConfigChange
) -> None:
    go(admin_client, change, "undo")
    catalog.reload()

    assert catalog.current().policies[Kind.STT, "soniox"].failure_threshold == 2
