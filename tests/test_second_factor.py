"""The second factor: set up by each for themselves, asked for at each sign-in, each code once."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from fallback import roles
from fallback.live import door
from fallback.models import ConfigChange
from fallback.roles import Role
from fallback.sign_in import guard
from tests.admin_forms import text_of
from tests.test_sign_in import PASSWORD, tried

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/admin/second-factor/"


@pytest.fixture(autouse=True)
def _roles(transactional_db: None) -> None:
    roles.grant()


@pytest.fixture(autouse=True)
def _begin_of_a_code() -> Iterator[None]:
    """A code of the app is good for 30 s: begin with a new one, so that none ends in a test."""
    with time_machine.travel(int(time.time()) // 30 * 30 + 1, tick=True):
        yield


def account(name: str = "ana", role: Role = Role.OWNER) -> User:
    user = User.objects.create_user(name, password=PASSWORD)
    roles.give(user, role)
    return user


def code_of(key: str, later: int = 0) -> str:
    """Return what the app shows now, or some steps later."""
    totp = TOTP(bytes.fromhex(key))
    totp.time = time.time() + 30 * later
    return f"{totp.token():06d}"


def set_up(browser: Client) -> tuple[str, list[str]]:
    """Set up a second factor as a person does; return its key and the recovery codes."""
    browser.get(PAGE)
    key = browser.session["second_factor_key"]
    form = {"do": "set_up", "code": code_of(key, -1), "password": PASSWORD}
    page = browser.post(PAGE, form)
    codes = re.findall(r"<code>([a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4})</code>", page.text)
    return key, codes


def signed_in(name: str = "ana") -> Client:
    browser = Client()
    assert tried(browser, PASSWORD, name=name).status_code == 302
    return browser


def test_it_is_set_up_with_a_code_and_the_password_and_shown_without_a_stranger() -> None:
    account()
    browser = signed_in()
    page = browser.get(PAGE)
    _key, codes = set_up(browser)

    assert 'src="data:image/svg+xml' in page.text
    assert "no-store" in page.headers["Cache-Control"]
    assert len(set(codes)) == 8
    assert TOTPDevice.objects.get().confirmed
    assert browser.get("/").status_code == 200  # this session has proved it
    assert ConfigChange.objects.newest().summary == "user ana: second factor set up"  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [{"code": "000000"}, {"password": "wrong"}, {"code": "x" * 6}])
def test_a_wrong_code_or_password_sets_nothing_up(wrong: dict[str, str]) -> None:
    account()
    browser = signed_in()
    browser.get(PAGE)
    key = browser.session["second_factor_key"]
    right = {"do": "set_up", "code": code_of(key), "password": PASSWORD}
    page = browser.post(PAGE, right | wrong)

    assert "That is not" in text_of(page)
    assert not TOTPDevice.objects.exists()


def test_signing_in_asks_for_the_code_and_takes_each_once() -> None:
    account()
    key, _ = set_up(signed_in())
    without = tried(Client(), PASSWORD)
    wrong = tried(Client(), PASSWORD, code="000000")
    TOTPDevice.objects.update(throttling_failure_count=0)  # the pause after a wrong one
    right = tried(Client(), PASSWORD, code=code_of(key))
    again = tried(Client(), PASSWORD, code=code_of(key))

    assert "Give the code of your authenticator app too" in text_of(without)
    assert "That code is wrong" in text_of(wrong)
    assert (right.status_code, again.status_code) == (302, 200)
    assert "was used already" in text_of(again)


def test_a_code_without_the_password_is_no_use() -> None:
    account()
    key, _ = set_up(signed_in())

    assert tried(Client(), "wrong", code=code_of(key)).status_code == 200


def test_a_recovery_code_lets_in_once() -> None:
    account()
    _, codes = set_up(signed_in())
    first = tried(Client(), PASSWORD, code=codes[0].upper())
    second = tried(Client(), PASSWORD, code=codes[0])

    assert (first.status_code, second.status_code) == (302, 200)


def test_wrong_codes_are_slowed_down() -> None:
    account()
    key, _ = set_up(signed_in())
    for _ in range(4):
        tried(Client(), PASSWORD, code="000000")

    assert tried(Client(), PASSWORD, code=code_of(key)).status_code != 302
    assert guard.recent_failures()["last"][0]["why"] in {"wrong code", "too many attempts"}


def test_a_session_of_before_it_was_set_up_has_to_sign_in_again() -> None:
    account()
    old, new = signed_in(), signed_in()
    set_up(new)

    assert old.get("/").status_code == 302
    assert new.get("/").status_code == 200


def test_it_is_taken_off_with_a_code() -> None:
    account()
    browser = signed_in()
    key, codes = set_up(browser)
    browser.post(PAGE, {"do": "remove", "code": "zzzz-zzzz-zzzz"})
    was_kept = TOTPDevice.objects.exists()
    browser.post(PAGE, {"do": "remove", "code": codes[1]})
    browser.post(PAGE, {"do": "remove", "code": code_of(key)})

    assert was_kept
    assert not TOTPDevice.objects.exists()
    assert browser.get("/").status_code == 200


def test_new_recovery_codes_replace_the_old() -> None:
    account()
    browser = signed_in()
    key, old = set_up(browser)
    page = browser.post(PAGE, {"do": "codes", "code": code_of(key)})

    assert "Keep these recovery codes now" in text_of(page)
    assert not any(code in page.text for code in old)
    assert tried(Client(), PASSWORD, code=old[0]).status_code == 200


def test_an_owner_takes_off_anothers_and_it_is_recorded() -> None:
    account()
    bo = account("bo", Role.VIEWER)
    set_up(signed_in("bo"))
    root = User.objects.create_superuser("root", password=PASSWORD)
    set_up(signed_in("root"))
    form = {"action": "remove_second_factor", "_selected_action": [bo.pk, root.pk]}
    page = signed_in().post(reverse("admin:auth_user_changelist"), form, follow=True)

    assert "Second factor of bo: taken off" in text_of(page)
    assert "Second factor of root: not done" in text_of(page)
    assert [row.user.username for row in TOTPDevice.objects.all()] == ["root"]
    change = ConfigChange.objects.newest()
    assert (change.author, change.summary) == ("admin:ana", "user bo: second factor removed")  # type: ignore[union-attr]
    assert change.touched.get().section == "users"  # type: ignore[union-attr]


WHO = {
    "off": set(), "optional": set(), "owners": {"owner"}, "required": {"owner", "viewer"},
}  # fmt: skip


@pytest.mark.parametrize("mode", WHO)
@pytest.mark.parametrize("role", [Role.OWNER, Role.VIEWER])
def test_who_has_to_have_one_sees_nothing_else_first(mode: str, role: Role, settings: Any) -> None:
    settings.SECOND_FACTOR = mode
    account("ana", role)
    browser = signed_in()
    page, api = browser.get("/"), browser.get("/api/v1/status")
    is_held = role.value in WHO[mode]

    assert (page.status_code, api.status_code) == ((302, 401) if is_held else (200, 200))
    if is_held:
        assert page.headers["Location"] == PAGE
        assert browser.post("/orders", {}).status_code in {302, 403}
        set_up(browser)
        assert browser.get("/").status_code == 200


def test_switched_off_nobody_is_asked(settings: Any) -> None:
    account()
    set_up(signed_in())
    settings.SECOND_FACTOR = "off"

    assert tried(Client(), PASSWORD).status_code == 302
    assert 'name="code"' not in Client().get("/admin/login/").text


@pytest.mark.parametrize(("has_it", "may"), [(False, False), (True, True)])
def test_the_feed_asks_for_it_too(has_it: bool, may: bool, settings: Any) -> None:
    account()
    browser = signed_in()
    if has_it:
        set_up(browser)
    settings.SECOND_FACTOR = "required"
    cookies = (
        f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
    )

    assert bool(door._staff(cookies)) is may


def test_no_page_of_the_admin_shows_the_secrets_of_others() -> None:
    assert not [model for model in admin.site._registry if model._meta.app_label.startswith("otp")]
