"""What `manage.py check` says of a deployment that could not do its work."""

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection

from fallback import checks, roles
from fallback.models import Policy, Provider, RouteStep
from tests.configuration import make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db


def said(found: list[Any]) -> str:
    return "\n".join(f"{message.id} {message.msg}" for message in found)


def configuration() -> str:
    return said(checks.check_configuration(databases=["default"]))


def test_a_sound_configuration_is_passed_in_silence() -> None:
    make_route("breeze", "soniox", "deepgram")

    assert configuration() == ""


def test_a_route_without_a_usable_provider_is_named() -> None:
    make_route("breeze", "soniox")
    RouteStep.objects.all().delete()

    assert "Route breeze: The chain is empty" in configuration()


def test_a_disabled_provider_in_a_chain_is_named() -> None:
    make_route("breeze", "soniox")
    Provider.objects.update(enabled=False)

    assert "Route breeze: soniox is disabled" in configuration()


def test_a_policy_that_was_broken_past_its_validation_is_named() -> None:
    make_policy("odd")
    Policy.objects.update(failure_threshold=1, distinct_hosts=2)

    assert "The policy odd: A failure_threshold of 1" in configuration()


def test_a_provider_that_was_broken_past_its_validation_is_named() -> None:
    make_route("breeze", "soniox")
    Provider.objects.update(kind="tts")

    assert "choose a provider of kind stt" in configuration()


@pytest.mark.parametrize("databases", [None, [], ["other"]])
def test_the_database_is_read_only_when_it_is_named(databases: Any) -> None:
    make_route("breeze", "soniox")
    RouteStep.objects.all().delete()

    assert checks.check_configuration(databases=databases) == []


def test_nothing_is_read_before_migrations_are_applied() -> None:
    make_provider("soniox")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'fallback'")
    RouteStep.objects.all().delete()
    Policy.objects.update(failure_threshold=1, distinct_hosts=2)

    assert checks.check_configuration(databases=["default"]) == []


@pytest.mark.parametrize("key", ["short", "a" * 60, "django-insecure-" + "abcdefghij" * 4])
def test_a_secret_key_that_can_be_guessed_is_an_error(settings: Any, key: str) -> None:
    settings.SECRET_KEY = key

    assert "fallback.E001" in said(checks.check_secret_key())


def test_a_random_secret_key_is_accepted() -> None:
    assert checks.check_secret_key() == []


def test_redis_being_away_is_a_warning_and_no_error(redis_client: Any) -> None:
    redis_client.execute_command("CLIENT", "PAUSE", 3_000, "ALL")
    found = checks.check_redis(databases=["default"])
    redis_client.ping()  # until it answers again

    assert [message.id for message in found] == ["fallback.W001"]
    assert not found[0].is_serious()


def test_redis_that_answers_is_passed_in_silence() -> None:
    assert checks.check_redis(databases=["default"]) == []


def test_all_checks_pass_on_the_seeds() -> None:
    call_command("seed", stdout=StringIO())
    call_command("check", databases=["default"], fail_level="WARNING")


@pytest.mark.parametrize(
    ("given", "said_of"),
    [
        ({"SLACK_BOT_TOKEN": "x"}, "neither SLACK_SIGNING_SECRET nor SLACK_APP_TOKEN"),
        ({"SLACK_SIGNING_SECRET": "x"}, "SLACK_SIGNING_SECRET is set, and SLACK_BOT_TOKEN is not"),
        ({"SLACK_APP_TOKEN": "x"}, "SLACK_APP_TOKEN is set"),
        ({"SLACK_CHANNEL": "#x"}, "SLACK_CHANNEL is set"),
        ({"SLACK_BOT_TOKEN": "x", "SLACK_CHANNEL": "#x"}, "neither"),
    ],
)
def test_slack_set_up_by_halves_is_a_warning(settings: Any, given: Any, said_of: str) -> None:
    for name, value in given.items():
        setattr(settings, name, value)

    assert said_of in said(checks.check_slack())


@pytest.mark.parametrize(
    "given",
    [[], ["SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET"], ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"]],
)
def test_slack_that_is_off_or_whole_is_passed_in_silence(settings: Any, given: Any) -> None:
    for name in given:
        setattr(settings, name, "x")

    assert checks.check_slack() == []


@pytest.mark.parametrize(
    ("owners", "found"), [(0, ["fallback.W007"]), (1, ["fallback.W007"]), (2, [])]
)
def test_a_second_person_that_is_asked_for_has_to_be_there(
    settings: Any, owners: int, found: list[str]
) -> None:
    settings.CHANGES_NEED_APPROVAL = True
    roles.give(User.objects.create_user("editor"), roles.Role.EDITOR)
    for number in range(owners):
        roles.give(User.objects.create_user(f"owner-{number}"), roles.Role.OWNER)
    told = checks.check_configuration(databases=["default"])

    assert [message.id for message in told] == found


def test_b_migrations_that_wait_are_told_with_deploy() -> None:
    assert checks.check_migrations(databases=["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")

    assert "run manage.py migrate" in said(checks.check_migrations(databases=["default"]))
    assert checks.check_migrations(databases=None) == []
