"""The whole configuration as one document: what it holds, and what applying one does."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fallback import configuration
from fallback.errors import Invalid
from fallback.models import (
    AlertDestination,
    AlertTemplate,
    ApiKey,
    ConfigRevision,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
    SlackOperator,
)
from tests.configuration import make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db


@pytest.fixture
def seeded() -> dict[str, Any]:
    """Return the document of the starter configuration, with one of everything besides."""
    call_command("seed", verbosity=0, stdout=open("/dev/null", "w"))  # noqa: SIM115 - a sink
    place = AlertDestination.objects.create(name="on-call", channel="C0123ABC", mentions=["here"])
    place.routes.set(Route.objects.all())
    place.providers.set(Provider.objects.filter(slug="soniox"))
    AlertTemplate.objects.filter(event="tripped").update(destination=place)
    SlackOperator.objects.create(slack_user="U0123ABC", name="ana")
    ApiKey.objects.create(name="pods", public="p", secret_hash="not for the document")
    return configuration.build()


def rows_and_history() -> list[int]:
    models = [AlertDestination, AlertTemplate, Policy, PolicyReason, Provider, Route, RouteStep]
    return [model.history.count() for model in models] + [ConfigRevision.current()]


def problems_of(document: Any, *, prune: bool = False) -> dict[str, str]:
    """Apply a document that is refused; return what is told, by path."""
    before = configuration.build(), rows_and_history()
    with pytest.raises(Invalid) as refused:
        configuration.apply(document, prune=prune)

    assert (configuration.build(), rows_and_history()) == before
    return {problem.field: problem.detail for problem in refused.value.problems}


def test_a_document_has_natural_keys_and_no_secrets(seeded: dict[str, Any]) -> None:
    assert seeded["providers"]["stt/soniox"]["policy"] == "default"
    assert [step["provider"] for step in seeded["routes"]["breeze-buddy"]["steps"]] == [
        "soniox",
        "deepgram",
    ]
    assert seeded["policies"]["default"]["what_counts"]["auth"]["trips_at_once"] is True
    assert seeded["alert_destinations"]["on-call"]["providers"] == ["stt/soniox"]
    assert "not for the document" not in configuration.to_yaml(seeded)
    assert "pods" not in configuration.to_yaml(seeded)


def test_the_queries_do_not_depend_on_the_number_of_rows(seeded: dict[str, Any]) -> None:
    with CaptureQueriesContext(connection) as few:
        configuration.build()
    for number in range(10):
        make_route(f"route-{number}", "soniox", "deepgram", "sarvam")
    with CaptureQueriesContext(connection) as many:
        configuration.build()

    assert len(many) == len(few) <= 10


@pytest.mark.parametrize("prune", [False, True])
def test_applying_what_is_there_writes_nothing(seeded: dict[str, Any], prune: bool) -> None:
    before = rows_and_history()
    text = configuration.to_yaml(seeded)
    configuration.apply(configuration.from_yaml(text).document, prune=prune)

    assert rows_and_history() == before
    assert configuration.to_yaml(configuration.build()) == text


def test_a_whole_configuration_is_made_from_its_document(seeded: dict[str, Any]) -> None:
    for model in (Route, AlertTemplate, AlertDestination, Provider, Policy, SlackOperator):
        for row in model.objects.all():
            row.delete()
    configuration.apply(seeded)

    assert configuration.build() == seeded


def test_what_a_document_does_not_mention_stays(seeded: dict[str, Any]) -> None:
    configuration.apply({"policies": {"default": {"failure_threshold": 5}}}, prune=True)

    seeded["policies"]["default"]["failure_threshold"] = 5
    assert configuration.build() == seeded


def test_pruning_deletes_what_a_section_lacks(seeded: dict[str, Any]) -> None:
    for slug in ("sarvam", "openai"):
        del seeded["providers"][f"stt/{slug}"]
    configuration.apply(seeded)
    stayed = Provider.objects.count()
    configuration.apply(seeded, prune=True)

    assert (stayed, Provider.objects.count()) == (5, 3)


def test_only_rows_that_differ_are_written(seeded: dict[str, Any]) -> None:
    seeded["routes"]["breeze-buddy"]["steps"].reverse()
    configuration.apply(seeded)

    assert [step.provider.slug for step in RouteStep.objects.all()] == ["deepgram", "soniox"]
    assert (Route.history.count(), RouteStep.history.count()) == (1, 4)


def test_a_language_in_another_spelling_is_no_change(seeded: dict[str, Any]) -> None:
    make_provider("gladia", languages=["hi-IN"])
    before = Provider.history.count()
    configuration.apply({"providers": {"stt/gladia": {"languages": ["HI-in"]}}})

    assert Provider.history.count() == before


def test_a_provider_is_switched_off_and_taken_out_of_its_chain_at_once(
    seeded: dict[str, Any],
) -> None:
    seeded["providers"]["stt/soniox"]["enabled"] = False
    seeded["routes"]["breeze-buddy"]["steps"].pop(0)
    configuration.apply(seeded)

    assert configuration.build() == seeded


def test_two_rows_swap_what_is_unique(seeded: dict[str, Any]) -> None:
    SlackOperator.objects.create(slack_user="U9999ZZZ", name="bo")
    document = configuration.build()
    people = document["slack_operators"]
    people["U0123ABC"]["name"], people["U9999ZZZ"]["name"] = "bo", "ana"
    configuration.apply(document)

    assert configuration.build() == document


def test_a_route_moves_to_another_kind_with_its_chain(seeded: dict[str, Any]) -> None:
    seeded["providers"]["tts/soniox"] = {"name": "Soniox", "policy": "default"}
    seeded["routes"]["breeze-buddy"] |= {"kind": "tts", "steps": [{"provider": "soniox"}]}
    configuration.apply(seeded)

    assert [str(step.provider) for step in RouteStep.objects.all()] == ["soniox (tts)"]


def test_every_problem_is_told_with_its_path_and_nothing_is_changed(seeded: dict[str, Any]) -> None:
    seeded["routes"]["breeze-buddy"]["steps"][1]["provider"] = "sonoix"
    seeded["providers"]["stt/openai"]["policy"] = "defualt"
    told = problems_of(seeded)

    assert (
        "no provider “sonoix” of kind stt; did you mean “soniox”?"
        in (told["routes.breeze-buddy.steps[1].provider"])
    )
    assert "did you mean “default”?" in told["providers.stt/openai.policy"]


@pytest.mark.parametrize(
    ("document", "path", "advice"),
    [
        ([], "", "a configuration is a mapping"),
        ({"polices": {}}, "polices", "did you mean “policies”?"),
        ({"routes": None}, "routes", "write {} for none"),
        ({"format": 2}, "format", "format: 1"),
        ({"policies": {"default": {"treshold": 1}}}, "policies.default.treshold", "There is no"),
        ({"policies": {"default": {"shadow": 1}}}, "policies.default.shadow", "true or false"),
        (
            {"policies": {"default": {"failure_threshold": "2"}}},
            "policies.default.failure_threshold",
            "This is text; expected a whole number.",
        ),
        (
            {"policies": {"default": {"failure_threshold": 0, "open_backoff": float("nan")}}},
            "policies.default.open_backoff",
            "finite",
        ),
        ({"policies": {"default": {"notes": "\x00"}}}, "policies.default.notes", "NUL"),
        ({"policies": {"default": {"notes": False}}}, "policies.default.notes", "quotes"),
        (
            {"policies": {"default": {"failure_threshold": 9**40}}},
            "policies.default.failure_threshold",
            "less than or equal to 1000",
        ),
        (
            {"policies": {"default": {"open_duration_s": 9000}}},
            "policies.default.open_duration_max_s",
            "set at least 9000",
        ),
        (
            {"policies": {"x": {"what_counts": {"auth": {"weight": 99}}}}},
            "policies.x.what_counts.auth.weight",
            "less than or equal to 10",
        ),
        ({"providers": {"soniox": {}}}, "providers.soniox", "such as stt/soniox"),
        ({"providers": {"stt/new": {"policy": "default"}}}, "providers.stt/new", "name is missing"),
        (
            {"providers": {"stt/soniox": {"enabled": False}}},
            "providers.stt/soniox.enabled",
            "in the chain of breeze-buddy",
        ),
        (
            {"providers": {"stt/soniox": {"settings": {"api_key": "sk-123"}}}},
            "providers.stt/soniox.settings",
            "looks like a secret",
        ),
        ({"routes": {"x": {"name": "X"}}}, "routes.x", "steps is missing"),
        ({"routes": {"x": {"name": "X", "steps": []}}}, "routes.x.steps", "The chain is empty"),
        (
            {"routes": {"breeze-buddy": {"steps": [{"provider": "soniox"}] * 2}}},
            "routes.breeze-buddy.steps",
            "more than once",
        ),
        (
            {"alert_templates": {"tripped": {"title": "{nobody}"}}},
            "alert_templates.tripped.title",
            "nobody",
        ),
        (
            {"slack_operators": {"U9999ZZZ": {"name": "ana"}}},
            "slack_operators.U9999ZZZ.name",
            "already exists",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_path(
    seeded: dict[str, Any], document: Any, path: str, advice: str
) -> None:
    told = problems_of(document)

    assert list(told) == [path]
    assert advice in told[path]


def test_what_is_still_used_is_not_pruned(seeded: dict[str, Any]) -> None:
    del seeded["providers"]["stt/soniox"]
    told = problems_of(seeded, prune=True)

    assert "There is no provider “soniox”" in told["routes.breeze-buddy.steps[0].provider"]
    assert "providers[0]" in " ".join(told)


def test_a_policy_that_could_never_trip_is_refused(seeded: dict[str, Any]) -> None:
    rules = {reason: {"weight": 0, "trips_at_once": False} for reason in
             seeded["policies"]["default"]["what_counts"]}  # fmt: skip
    told = problems_of({"policies": {"default": {"what_counts": rules}}})

    assert "can never trip" in told["policies.default.what_counts"]


def test_a_difference_is_told_in_words(seeded: dict[str, Any]) -> None:
    make_policy("strict")
    configuration.apply({
        "policies": {"default": {"failure_threshold": 5}},
        "routes": {"breeze-buddy": {"steps": [
            {"provider": "deepgram", "settings": {"model": "x"}}, {"provider": "soniox"},
        ]}},
    })  # fmt: skip

    assert [str(one) for one in configuration.diff(seeded, configuration.build())] == [
        "policy default: failure_threshold: 2 → 5",
        "policy strict: added",
        "route breeze-buddy: steps: soniox, deepgram → deepgram, soniox",
        'route breeze-buddy: steps.deepgram.model: nothing → "x"',
    ]
