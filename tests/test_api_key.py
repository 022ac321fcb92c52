"""The command that makes API keys prints the key and nothing else."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from fallback import catalog, keys
from fallback.models import ApiKey
from tests.configuration import make_route

pytestmark = pytest.mark.django_db


def make(*arguments: str) -> str:
    out = StringIO()
    call_command("api_key", *arguments, stdout=out)
    return out.getvalue()


def test_standard_output_is_a_key_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    printed = make("drill", "--role", "agent")
    catalog.reload()

    found = keys.authenticate(f"Bearer {printed.removesuffix(chr(10))}")

    assert isinstance(found, catalog.Key)
    assert (found.name, found.role) == ("drill", "agent")


def test_a_key_can_be_given_an_end() -> None:
    make("drill", "--role", "reader", "--expires-days", "3")

    left = ApiKey.objects.get().expires_at - timezone.now()

    assert timedelta(days=2, hours=23) < left <= timedelta(days=3)


@pytest.mark.parametrize("arguments", [["x"], ["x", "--role", "root"], ["--role", "agent"]])
def test_a_name_and_a_known_role_are_required(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        make(*arguments)


def test_a_name_is_given_once() -> None:
    make("drill", "--role", "agent")

    with pytest.raises(CommandError, match="already exists"):
        make("drill", "--role", "agent")


@pytest.mark.parametrize("days", ["0", "-1", "40000", "soon"])
def test_an_end_that_makes_no_sense_is_refused(days: str) -> None:
    with pytest.raises(CommandError):
        make("drill", "--role", "agent", "--expires-days", days)


def test_a_key_can_be_bound_to_routes() -> None:
    make_route("acme")
    make("drill", "--role", "agent", "--route", "acme")
    catalog.reload()

    assert ApiKey.objects.get().routes == ["acme"]
    [key] = catalog.current().keys.values()
    assert key.routes == {"acme"}


def test_a_route_that_a_key_is_bound_to_exists() -> None:
    with pytest.raises(CommandError, match="There is no route nowhere"):
        make("drill", "--role", "agent", "--route", "nowhere")
