"""The history of the configuration in the admin: reasons, differences, undo."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from fallback import catalog, configuration
from fallback.domain import Kind
from fallback.models import (
    ApiKey,
    ConfigChange,
    ConfigRevision,
    Policy,
    Route,
)
from tests.admin_forms import edit, recorded_route, signed_in_as, text_of, url
from tests.configuration import WHY

pytestmark = pytest.mark.django_db


@pytest.fixture
def bo(django_user_model: Any) -> Client:
    return signed_in_as("bo", django_user_model)


@pytest.fixture
def route() -> Route:
    return recorded_route()


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
