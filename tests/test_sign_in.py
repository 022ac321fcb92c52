"""Signing in: guesses are slowed down before a hash is computed; nobody keeps others out."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import Client
from django.urls import reverse

from fallback import roles
from fallback.roles import Role
from fallback.sign_in import guard
from tests.admin_forms import text_of

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
PASSWORD = "as-you-like-it-42"
HERE, THERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture(autouse=True)
def ana() -> User:
    user = User.objects.create_user("ana", password=PASSWORD)
    roles.give(user, Role.OWNER)
    return user


@pytest.fixture
def hashes(monkeypatch: Any) -> Iterator[list[str]]:
    """Return the passwords whose hashes were computed."""
    found: list[str] = []
    real = User.check_password
    monkeypatch.setattr(
        User, "check_password", lambda self, raw: (found.append(raw), real(self, raw))[1]
    )
    return found


def tried(
    browser: Client, password: str = "wrong", name: str = "ana", address: str = HERE, **more: str
) -> Any:
    form = {"username": name, "password": password, **more}
    return browser.post(LOGIN, form, REMOTE_ADDR=address)


def test_s8_guesses_are_refused_before_the_hash_is_computed(hashes: list[str]) -> None:
    answers = [tried(Client()) for _ in range(25)]
    refused = [answer for answer in answers if answer.status_code == 429]

    assert len(hashes) == 5
    assert len(refused) == 20
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 6
    assert "Too many attempts. Try again in" in text_of(refused[0])


def test_s8_the_right_password_is_not_tried_within_a_pause(hashes: list[str]) -> None:
    for _ in range(5):
        tried(Client())
    answer = tried(Client(), PASSWORD)

    assert (answer.status_code, len(hashes)) == (429, 5)


def test_s8_pauses_grow_and_end() -> None:
    now = [0.0]
    memory = guard.Memory(clock=lambda: now[0])
    subject = guard.Subject("x", 5)
    waits = []
    for _ in range(16):
        assert memory.charge(subject) == 0.0
        waits.append(memory.charge(subject))  # at once again
        now[0] += waits[-1]
    now[0] += guard.FORGOTTEN_AFTER_S + 1
    waits_later = [memory.charge(subject) for _ in range(5)]

    assert waits[8:] == [300.0] * 8
    assert [wait for wait in waits if wait][:7] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0]
    assert waits_later == [0.0] * 5


def test_s8_a_person_gets_in_while_others_guess_her_name() -> None:
    for number in range(12):
        tried(Client(), address=f"203.0.113.{number}")
    for _ in range(30):
        tried(Client())

    assert tried(Client(), PASSWORD, address=THERE).status_code == 302


def test_s8_a_browser_that_was_here_before_gets_in_from_the_very_address_of_the_guesses() -> None:
    hers = Client()
    assert tried(hers, PASSWORD).status_code == 302
    hers.post(reverse("admin:logout"))
    for number in range(60):
        tried(Client(), name=f"name{number % 7}")
    for _ in range(10):
        tried(Client())

    assert tried(Client(), PASSWORD).status_code == 429
    assert tried(hers, PASSWORD).status_code == 302


def test_s8_the_cookie_of_a_browser_is_of_no_use_for_another_name(hashes: list[str]) -> None:
    User.objects.create_user("bo", password=PASSWORD, is_staff=True)
    bos = Client()
    tried(bos, PASSWORD, name="bo")
    hashes.clear()
    for _ in range(20):
        tried(bos)

    assert len(hashes) == 5


def test_s8_many_names_from_one_address_are_slowed_down_too(hashes: list[str]) -> None:
    answers = [tried(Client(), name=f"name{number}").status_code for number in range(60)]

    assert answers.count(429) == 30


def test_s8_an_attempt_counts_for_all_processes() -> None:
    for _ in range(5):
        tried(Client())
    guard.memory.forget()  # another process
    tried(Client())
    guard.memory.forget()

    assert tried(Client(), PASSWORD).status_code == 429


def test_s8_without_redis_guesses_are_still_slowed_down_and_people_get_in(
    monkeypatch: Any, hashes: list[str]
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("Redis is away")

    for name in ("add", "incr", "get", "set", "decr", "delete_many"):
        monkeypatch.setattr(caches["breaker"], name, away)
    codes = [tried(Client()).status_code for _ in range(10)]

    assert (codes.count(429), len(hashes)) == (5, 5)
    assert tried(Client(), PASSWORD, address=THERE).status_code == 302


def test_s8_each_failure_is_a_line_of_the_log_made_harmless(caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, logger="fallback.sign_in.guard"):
        tried(Client(), name="ev\x1b[2Jil\u202e")
    line = next(record.msg for record in caplog.records if "sign_in_failed" in str(record.msg))

    assert (line["name"], line["address"]) == ("ev[2Jil", HERE)
    assert "wrong" in line["why"]
    assert "password" not in str({key: line[key] for key in ("name", "address")})


def test_s8_an_owner_sees_on_the_first_page_that_somebody_guesses() -> None:
    for _ in range(12):
        tried(Client())
    browser, viewer = Client(), User.objects.create_user("vi")
    tried(browser, PASSWORD, address=THERE)
    page = text_of(browser.get(reverse("admin:index")))
    roles.give(viewer, Role.VIEWER)
    browser.force_login(viewer)

    assert f"12 sign-ins failed within an hour of each other, the last as “ana” from {HERE}" in page
    assert "sign-ins failed" not in text_of(browser.get(reverse("admin:index")))


def test_a_person_who_mistypes_four_times_is_not_slowed_down() -> None:
    codes = [tried(Client()).status_code for _ in range(4)]

    assert codes == [200] * 4
    assert tried(Client(), PASSWORD).status_code == 302


def test_no_more_strangers_than_a_few_have_hashes_computed_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(guard, "HASH_PATIENCE_S", 0.05)
    taken = [guard._hashing.acquire() for _ in range(guard.HASHES_AT_ONCE)]
    try:
        busy = tried(Client(), PASSWORD)
    finally:
        for _ in taken:
            guard._hashing.release()

    assert busy.status_code == 429
    assert tried(Client(), PASSWORD).status_code == 302


def test_what_is_counted_is_bounded() -> None:
    memory = guard.Memory()
    for number in range(guard.MOST + 50):
        memory.charge(guard.Subject(str(number), 5))

    assert len(memory._counts) == guard.MOST


def test_s29_a_bad_next_leads_to_a_page_that_is_there() -> None:
    answer = Client().post(
        LOGIN, {"username": "ana", "password": PASSWORD, "next": "https://evil.example"}
    )

    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
