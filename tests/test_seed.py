"""The starter configuration is there after one run, and never argues with an operator."""

from io import StringIO

import pytest
from django.core.management import call_command

from fallback import catalog, domain
from fallback.domain import Kind
from fallback.messages.events import AlertEvent
from fallback.models import (
    AlertDestination,
    AlertTemplate,
    Policy,
    Provider,
    Route,
    RouteStep,
)

pytestmark = pytest.mark.django_db


def seed(*options: str) -> str:
    out = StringIO()
    call_command("seed", *options, stdout=out)
    return out.getvalue()


def test_seed_adds_providers_a_policy_and_a_route() -> None:
    seed()
    found = catalog.load()

    assert {slug for _, slug in found.providers} == {
        "soniox",
        "deepgram",
        "sarvam",
        "openai",
        "google",
    }
    assert found.policies[Kind.STT, "soniox"] == domain.Policy()
    assert [step.provider.slug for step in found.routes["breeze-buddy"].steps] == [
        "soniox",
        "deepgram",
    ]


def test_everything_that_seed_adds_passes_its_own_validation() -> None:
    seed()

    for model in (Policy, Provider, Route, RouteStep, AlertTemplate):
        for row in model.objects.all():
            row.full_clean()


def test_seed_twice_changes_nothing_and_says_so() -> None:
    seed()
    said = seed()

    assert "added" not in said
    assert Provider.history.count() == 5


def test_seed_keeps_what_an_operator_changed() -> None:
    seed()
    Provider.objects.filter(slug="soniox").update(settings={"model": "ours"})
    RouteStep.objects.get(provider__slug="deepgram").delete()
    Policy.objects.update(failure_threshold=9)
    seed()

    assert Provider.objects.get(slug="soniox").settings == {"model": "ours"}
    assert RouteStep.objects.count() == 1
    assert Policy.objects.get().failure_threshold == 9


def test_seed_leaves_out_what_an_operator_deleted_unless_told_to_restore_it() -> None:
    seed()
    Provider.objects.get(slug="openai").delete()
    said = seed()
    was_left_out = not Provider.objects.filter(slug="openai").exists()
    seed("--restore")

    assert was_left_out
    assert "provider openai: deleted by an operator" in said
    assert Provider.objects.filter(slug="openai").exists()


def test_seed_adds_a_template_for_every_event() -> None:
    seed()

    assert set(AlertTemplate.objects.values_list("event", flat=True)) == set(AlertEvent)


def test_seed_makes_the_channel_of_the_environment_the_first_destination(settings) -> None:
    settings.SLACK_CHANNEL = "#stt-alerts"
    seed()
    seed()

    assert AlertDestination.objects.get().channel == "#stt-alerts"


def test_a_channel_that_cannot_be_one_is_left_out_and_said(settings) -> None:
    settings.SLACK_CHANNEL = "stt alerts"
    said = seed()

    assert "left out: SLACK_CHANNEL" in said
    assert not AlertDestination.objects.exists()
