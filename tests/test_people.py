"""What is done to people is recorded and stays; passwords are no easy guesses; sessions end."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fallback import changes, roles
from fallback.models import ConfigChange, Policy
from fallback.roles import Role
from tests.admin_forms import text_of
from tests.configuration import make_policy
from tests.pages import person
from tests.test_second_person import account, made_second_account

pytestmark = pytest.mark.django_db(transaction=True)

GOOD = "quite-another-42"


@pytest.fixture(autouse=True)
def _roles(transactional_db: None) -> None:
    roles.grant()  # a flush takes the groups along


def page(model: str, what: str, *args: Any) -> str:
    return reverse(f"admin:auth_{model}_{what}", args=args)


def told() -> list[tuple[str, str]]:
    """Return who did what since the beginning, oldest first."""
    rows = ConfigChange.objects.exclude(summary="The beginning").order_by("pk")
    return [(row.author, row.summary) for row in rows]


def test_s14_a_second_account_with_the_role_owner_is_recorded() -> None:
    browser = person("owner")
    ConfigChange.objects.all().delete()
    made_second_account(browser)

    assert told() == [
        ("admin:owner", "user second: added"),
        ("admin:owner", "user second: is_staff: no → yes; user second: groups added: owner"),
    ]
    assert ConfigChange.objects.newest().user.username == "owner"  # type: ignore[union-attr]


def test_s14_what_is_done_to_an_account_is_told_without_its_secrets() -> None:
    row = User.objects.create_user("bo", "bo@example.com", GOOD, is_staff=True)
    roles.give(row, Role.VIEWER)
    browser = person("owner")
    ConfigChange.objects.all().delete()
    account(row, browser, username="bob", email="b@example.com", is_active="", groups=[])
    browser.post(page("user", "password_change", row.pk),
                 {"password1": "other-words-77", "password2": "other-words-77",
                  "usable_password": "true"})  # fmt: skip
    summary = " ".join(what for _, what in told())

    assert "username: bo → bob" in summary
    assert "is_active: yes → no" in summary
    assert "email changed" in summary
    assert "groups taken away: viewer" in summary
    assert "password changed" in summary
    assert not any(secret in summary for secret in ["example.com", "md5$", "other-words"])


def test_s14_a_group_and_what_it_may_is_recorded() -> None:
    browser, may = person("superuser"), Permission.objects.get(codename="view_route")
    ConfigChange.objects.all().delete()
    browser.post(page("group", "add"), {"name": "ours", "permissions": [may.pk]})
    row = Group.objects.get(name="ours")
    browser.post(page("group", "delete", row.pk), {"post": "yes"})

    assert [what.split(";")[0] for _, what in told()] == ["group ours: added",
                                                           "group ours: removed"]  # fmt: skip
    assert "permissions added: " in told()[0][1]


def test_s14_the_command_that_gives_a_role_is_recorded() -> None:
    row = User.objects.create_user("bo")
    ConfigChange.objects.all().delete()
    call_command("role", "bo", "owner")

    assert told()[0][0] == "command:role"
    assert "user bo: groups added: owner" in told()[0][1]
    assert ConfigChange.objects.get(touched__key=str(row.pk)).user is None


def test_s14_what_a_shell_does_is_recorded_too() -> None:
    row = User.objects.create_user("bo")
    row.is_superuser = True
    row.save()

    assert ("system", "user bo: is_superuser: no → yes") in told()


def test_s14_signing_in_and_migrating_are_no_changes_of_people() -> None:
    User.objects.create_user("bo", password=GOOD, is_staff=True)
    before = told()
    Client().post(reverse("admin:login"), {"username": "bo", "password": GOOD})
    call_command("migrate", verbosity=0)

    assert User.objects.get().last_login is not None
    assert told() == before


def test_s14_nobody_is_deleted_and_the_log_stays() -> None:
    make_policy()
    row = User.objects.create_user("bo")
    LogEntry.objects.log_actions(str(row.pk), [Policy.objects.get()], 2, single_object=True)
    browser = person("superuser")
    one = browser.post(page("user", "delete", row.pk), {"post": "yes"})
    many = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    browser.post(page("user", "changelist"), many)

    assert one.status_code == 403
    assert User.objects.filter(pk=row.pk).exists()
    assert LogEntry.objects.filter(user=row).count() == 1


def test_s14_who_changed_anything_cannot_be_deleted_by_a_shell_either() -> None:
    row = User.objects.create_user("bo")
    with changes.made_by("admin:bo", "why", row):
        make_policy("strict")

    with pytest.raises(ProtectedError):
        row.delete()


def test_s14_the_page_of_a_change_leads_to_the_person() -> None:
    browser = person("superuser")
    row = User.objects.create_user("bo")
    change = ConfigChange.objects.newest()
    shown = browser.get(reverse("admin:fallback_configchange_change", args=[change.pk]))  # type: ignore[union-attr]

    assert f'href="{page("user", "change", row.pk)}">bo</a>' in shown.text
    assert "user bo: added" in text_of(
        browser.get(reverse("admin:fallback_configchange_changelist"), {"touched": "users"})
    )


def test_s14_the_session_of_a_deactivated_person_ends_at_once() -> None:
    browser = person("viewer")
    was = browser.get("/").status_code
    User.objects.filter(username="viewer").update(is_active=False)

    assert (was, browser.get("/").status_code) == (200, 302)


# --- passwords


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("12349876120934", "entirely numeric"),
        ("viewerviewer", "too similar to the username"),
        ("short-1", "at least 10 characters"),
        ("password1234", "too common"),
    ],
)
def test_s27_an_easy_password_is_refused(password: str, why: str) -> None:
    form = {"username": "viewerviewe", "password1": password, "password2": password,
            "usable_password": "true"}  # fmt: skip
    answer = person("owner").post(page("user", "add"), form)

    assert why in text_of(answer)
    assert not User.objects.filter(username="viewerviewe").exists()


# --- sessions


def signed_in() -> Client:
    browser = person("viewer")
    assert browser.get("/").status_code == 200
    return browser


def test_s27_a_session_that_nobody_uses_ends(settings: Any) -> None:
    browser = signed_in()
    row = Session.objects.get()

    assert abs(row.expire_date - timezone.now() - timedelta(hours=12)) < timedelta(minutes=1)
    Session.objects.update(expire_date=timezone.now())
    assert browser.get("/").status_code == 302


def shifted(browser: Client, **seconds: float) -> None:
    session = browser.session
    for name, by in seconds.items():
        session[name] -= by
    session.save()


def test_s27_a_session_that_is_used_goes_on_and_is_not_written_each_time() -> None:
    browser = signed_in()
    first = browser.session["seen_s"]
    browser.get("/")
    second = browser.session["seen_s"]
    shifted(browser, seen_s=301)
    Session.objects.update(expire_date=timezone.now() + timedelta(minutes=1))
    browser.get("/")

    assert first == second
    assert time.time() - browser.session["seen_s"] < 60
    assert Session.objects.get().expire_date > timezone.now() + timedelta(hours=11)


def test_s27_a_session_ends_however_much_it_is_used() -> None:
    browser = signed_in()
    shifted(browser, began_s=7 * 86_400 + 1)

    assert browser.get("/").status_code == 302
