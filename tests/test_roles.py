"""Who may do what: the table in code against every permission there is, and every page by role."""

from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import URLResolver, reverse

from fallback import breaker, roles
from fallback.domain import Kind, State
from fallback.models import AlertThread
from fallback.roles import TABLE, Role
from tests.pages import PEOPLE, one_of_each, person

pytestmark = pytest.mark.django_db

SETTINGS = ["provider", "policy", "route", "alerttemplate", "alertdestination"]
SECRETS = ["apikey", "slackoperator"]
HISTORY = ["transition", "incident", "deadletter", "alert", "proposal", "configchange"]
PAGES = ["changelist", "add", "change", "delete", "history", "simple_history"]
NEVER = "nobody"

# The least who may open a page; what is not here is a page that nobody told this test about.
LEAST: dict[str, str] = {
    **{f"fallback_{model}_{page}": "editor" for model in SETTINGS for page in ["add", "delete"]},
    **{f"fallback_{model}_{page}": "owner" for model in SECRETS for page in ["add", "delete"]},
    **{
        f"fallback_{model}_{page}": "viewer"
        for model in SETTINGS + SECRETS
        for page in ["changelist", "change", "history"]
    },
    **{f"fallback_{model}_{page}": "viewer" for model in HISTORY
       for page in ["changelist", "change", "history"]},
    **{f"fallback_{model}_{page}": NEVER for model in HISTORY for page in ["add", "delete"]},
    **{f"auth_{model}_{page}": "owner" for model in ["user", "group"] for page in PAGES[:-1]},
    "auth_user_delete": NEVER,  # deactivated, so that what they did stays in the log
    "auth_user_password_change": "owner",
    "fallback_provider_order": "operator",
    "fallback_provider_failures": "viewer",
    "fallback_configchange_way": "viewer",  # to look at; doing it takes what it changes
    "fallback_proposal_decide": "owner",
    "fallback_alerttemplate_preview": "viewer",
    **{f"fallback_policy_{page}": "editor" for page in ["now", "rehearse", "rehearsal", "stop"]},
}  # fmt: skip
FOR_ALL_STAFF = {
    "second_factor",
    "index",
    "app_list",
    "jsi18n",
    "password_change",
    "password_change_done",
}
LEADS_ON = {f"fallback_{model}_simple_history" for model in SETTINGS + SECRETS}
FOR_ALL_STAFF |= {"autocomplete", "view_on_site", "login", "logout"}  # these ask by themselves


@pytest.fixture
def rows() -> dict[str, Any]:
    return one_of_each()


def named_pages() -> list[str]:
    """Return the name of every page of the admin."""
    found = []
    todo = list(admin.site.get_urls())
    while todo:
        one = todo.pop()
        if isinstance(one, URLResolver):
            todo += one.url_patterns
        elif one.name:
            found.append(one.name)
    return sorted(found)


def address(page: str, rows: dict[str, Any]) -> str:
    if page == "fallback_provider_order":
        return f"{reverse('admin:' + page, args=['reset'])}?ids={rows['provider'].pk}"
    model = page.split("_")[1]
    if page == "fallback_configchange_way":
        return reverse(f"admin:{page}", args=[rows[model].pk, "undo"])
    if page == "fallback_proposal_decide":
        return reverse(f"admin:{page}", args=[rows[model].pk, "reject"])
    if page.endswith(("changelist", "add", "preview")):
        return reverse(f"admin:{page}")
    args = [rows[model].pk]
    if page in {"fallback_policy_rehearsal", "fallback_policy_stop"}:
        args.append(0)  # there is none of this number, which only who may is told
    if page.endswith("simple_history"):
        args.append(rows[model].history.earliest().pk)
    return reverse(f"admin:{page}", args=args)


def is_let_in(browser: Client, page: str, rows: dict[str, Any]) -> bool:
    target = address(page, rows)
    if page == "fallback_proposal_decide":
        return (
            browser.post(target, {}).status_code == 302 and "login" not in browser.post(target).url
        )
    if page == "fallback_alerttemplate_preview":
        return browser.post(target, {"event": "tripped"}).status_code == 200
    if page in {f"fallback_policy_{name}" for name in ["now", "rehearse", "rehearsal", "stop"]}:
        return browser.post(target, {}).status_code not in {302, 403}
    return browser.get(target).status_code == 200


def least_to(name: str, least: str) -> bool:
    return least != NEVER and PEOPLE.index(name) >= PEOPLE.index(least)


# --- the table


def test_every_model_of_the_app_has_a_line_in_the_table() -> None:
    labels = {model._meta.label_lower for model in apps.get_app_config("fallback").get_models()}
    forgotten = {label for label in labels if not roles.rule_of(*label.split("."))}

    assert not forgotten, "say in fallback/roles.py who may see and write these"


def test_every_permission_of_its_own_is_given_to_a_role() -> None:
    own = Permission.objects.filter(content_type__app_label="fallback")
    usual = ("add_", "change_", "delete_", "view_")
    orders = {row.codename for row in own if not row.codename.startswith(usual)}
    given = {codename for rule in TABLE.values() for codename in rule.orders}

    assert orders <= given


def test_the_groups_have_exactly_what_the_table_says() -> None:
    for role in Role:
        has = {row.codename for row in Group.objects.get(name=role).permissions.all()}
        wanted = {
            row.codename
            for row in Permission.objects.select_related("content_type")
            if roles.may(role, row.content_type.app_label, row.content_type.model, row.codename)
        }

        assert has == wanted


def test_each_role_may_all_that_the_one_before_it_may() -> None:
    held = [set(Group.objects.get(name=role).permissions.all()) for role in Role]

    assert all(less < more for less, more in pairwise(held))


def test_what_was_changed_by_hand_is_put_back_by_the_next_migrate() -> None:
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.add(Permission.objects.get(codename="delete_provider"))
    Group.objects.get(name="editor").delete()
    call_command("migrate", verbosity=0)

    assert not viewer.permissions.filter(codename="delete_provider").exists()
    assert Group.objects.get(name="editor").permissions.filter(codename="add_route").exists()


# --- every page


def test_this_test_knows_every_page() -> None:
    pages = set(named_pages())

    assert pages - LEAST.keys() - FOR_ALL_STAFF - LEADS_ON == set(), "add them to LEAST"
    assert LEAST.keys() - pages == set(), "these are gone"


@pytest.mark.parametrize("name", PEOPLE)
def test_every_page_lets_in_who_may_and_nobody_else(name: str, rows: dict[str, Any]) -> None:
    browser = person(name)
    let_in = {page for page in LEAST if is_let_in(browser, page, rows)}
    wanted = {page for page, least in LEAST.items() if least_to(name, least)}

    assert let_in ^ wanted == set()


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize("model", SETTINGS + SECRETS)
def test_a_row_is_changed_by_who_may_and_nobody_else(
    name: str, model: str, rows: dict[str, Any]
) -> None:
    browser = person(name)
    answer = browser.post(address(f"fallback_{model}_change", rows), {})
    least = "owner" if model in SECRETS else "editor"

    # An empty form is no valid one: 200 is its errors, for who may send it at all.
    assert (answer.status_code == 200) == least_to(name, least)


@pytest.mark.parametrize("name", PEOPLE)
def test_simple_history_brings_no_earlier_version_back(name: str, rows: dict[str, Any]) -> None:
    """Left to itself it lets whoever may view a row write it."""
    route = rows["route"]
    form = {"name": "Renamed", "slug": "breeze", "kind": "stt", "on_mid_call_failure": "swap",
            "last_resort": "primary", "_change_history": "1"}  # fmt: skip
    person(name).post(address("fallback_route_simple_history", rows), form)
    route.refresh_from_db()

    assert route.name != "Renamed"


ACTIONS = {
    ("provider", "force_open"): "operator",
    ("provider", "force_closed"): "operator",
    ("provider", "shadow"): "operator",
    ("provider", "auto"): "operator",
    ("provider", "reset"): "operator",
    ("incident", "acknowledge"): "operator",
    ("alert", "send_again"): "operator",
    ("user", "remove_second_factor"): "owner",
    ("deadletter", "replay"): "operator",
    **{(model, "delete_selected"): "editor" for model in SETTINGS},
    **{(model, "delete_selected"): "owner" for model in [*SECRETS, "group"]},
}


@pytest.mark.parametrize("name", [name for name in PEOPLE if name != "stranger"])
def test_every_action_of_a_list_is_offered_to_who_may_and_nobody_else(name: str) -> None:
    user = person(name)
    request: Any = type("Request", (), {"user": User.objects.get(), "GET": {}})()
    offered = {
        (model._meta.model_name, action)
        for model, page in admin.site._registry.items()
        for action in page.get_actions(request)
    }

    assert user
    assert offered == {key for key, least in ACTIONS.items() if least_to(name, least)}


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize("surface", ["admin", "dashboard"])
def test_an_order_is_carried_out_for_who_may_and_nobody_else(
    name: str, surface: str, rows: dict[str, Any]
) -> None:
    form = {"reason": "drill", "end": "900", "verb": "force-open", "kind": "stt"}
    target = reverse("give_order")
    if surface == "admin":
        page = reverse("admin:fallback_provider_order", args=["force-open"])
        target = f"{page}?ids={rows['provider'].pk}"
    person(name).post(target, form | {"provider": "soniox"})
    is_out = breaker.snapshot(Kind.STT, ["soniox"]).views[0].breaker.state is State.FORCED_OPEN

    assert is_out == least_to(name, "operator")


@pytest.mark.parametrize("name", PEOPLE)
def test_the_dashboard_is_for_viewers(name: str, rows: dict[str, Any]) -> None:
    assert (person(name).get("/").status_code == 200) == least_to(name, "viewer")


@pytest.mark.parametrize("name", PEOPLE)
def test_an_incident_is_acknowledged_by_who_may(name: str, rows: dict[str, Any]) -> None:
    form = {"action": "acknowledge", "_selected_action": [rows["incident"].pk]}
    person(name).post(reverse("admin:fallback_incident_changelist"), form)
    by = AlertThread.objects.get().acknowledged_by

    assert by == (f"admin:{name}" if least_to(name, "operator") else "")


# --- people


def test_an_owner_makes_nobody_a_superuser(rows: dict[str, Any]) -> None:
    someone = rows["user"]
    browser = person("owner")
    form = {"username": "someone", "is_superuser": "on", "is_active": "on", "is_staff": "on"}
    form |= {"date_joined_0": "2026-11-22", "date_joined_1": "12:00:00"}
    answer = browser.post(reverse("admin:auth_user_change", args=[someone.pk]), form)
    someone.refresh_from_db()

    assert (answer.status_code, someone.is_staff, someone.is_superuser) == (302, True, False)


@pytest.mark.parametrize("page", ["change", "delete", "password_change"])
def test_an_owner_takes_over_no_superuser(page: str) -> None:
    root = User.objects.create_superuser("root", password="as-it-was")
    form = {"password1": "mine-now-42", "password2": "mine-now-42", "post": "yes"}
    target = reverse(f"admin:auth_user_{page}", args=[root.pk])
    answer = person("owner").post(target, form)
    root.refresh_from_db()

    assert answer.status_code == 403
    assert root.check_password("as-it-was")


def test_the_four_roles_are_not_changed_in_the_admin() -> None:
    viewer = Group.objects.get(name="viewer")
    answer = person("owner").post(reverse("admin:auth_group_change", args=[viewer.pk]), {})

    assert answer.status_code == 403


def test_the_command_gives_changes_and_takes_a_role() -> None:
    user = User.objects.create_user("ana")
    told = StringIO()
    call_command("role", "ana", "viewer", stdout=told)
    call_command("role", "ana", "editor", stdout=told)

    user = User.objects.get()
    assert ([row.name for row in user.groups.all()], user.is_staff) == (["editor"], True)
    call_command("role", "ana", "none", stdout=told)
    assert roles.of(User.objects.get()) is None
    assert "ana: editor: also changes providers" in told.getvalue()


def test_the_command_says_what_to_do_about_an_unknown_name() -> None:
    with pytest.raises(CommandError, match="make one in the admin under Users"):
        call_command("role", "nobody", "viewer")
