"""What operators set is refused when it cannot work, with words that say what would be right."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from fallback import domain
from fallback.models import (
    ConfigRevision,
    Incident,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
    Transition,
    rules_of,
)
from fallback.models.thresholds import RANGES
from tests.configuration import make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db


def errors_of(row: models.Model) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    return caught.value.message_dict


def test_a_new_policy_has_the_defaults_of_the_domain() -> None:
    assert Policy(name="default").as_value({}) == domain.Policy()


def test_what_counts_rows_replace_the_defaults_of_their_reasons_only() -> None:
    policy = make_policy(reasons={"timeout": {"weight": 3}})

    counts = policy.as_value(rules_of(policy.reasons.all())).what_counts

    assert counts["timeout"] == domain.ReasonRule(weight=3)
    assert counts["auth"] == domain.DEFAULT_WHAT_COUNTS["auth"]


@pytest.mark.parametrize("field", [name for name in RANGES if name != "weight"])
def test_a_threshold_outside_its_range_is_refused_by_form_and_database(field: str) -> None:
    policy = make_policy()
    setattr(policy, field, RANGES[field][1] + 1)

    assert field in errors_of(policy)
    with pytest.raises(IntegrityError), transaction.atomic():
        policy.save()


@pytest.mark.parametrize(
    ("values", "field", "advice"),
    [
        ({"failure_rate_percent": 30, "minimum_calls": 0}, "minimum_calls", "20 is usual"),
        ({"slow_rate_percent": 30, "minimum_calls": 0}, "minimum_calls", "20 is usual"),
        ({"open_duration_s": 9000}, "open_duration_max_s", "set at least 9000"),
        ({"distinct_hosts": 3}, "distinct_hosts", "at most 2"),
        ({"failure_threshold": 1001}, "failure_threshold", "1000"),
        ({"failure_threshold": None}, "failure_threshold", "null"),
        ({"recovery": "hope"}, "recovery", "not a valid choice"),
    ],
)
def test_thresholds_that_contradict_each_other_say_what_would_be_right(
    values: dict[str, Any], field: str, advice: str
) -> None:
    assert advice in str(errors_of(Policy(name="odd", **values))[field])


def test_a_policy_with_every_rule_off_is_refused_because_it_never_trips() -> None:
    off = {reason: {"trips_at_once": False} for reason in ("auth", "quota")}
    policy = make_policy(reasons=off)
    policy.failure_threshold = 0

    assert "can never trip" in str(errors_of(policy)["failure_threshold"])


def test_a_policy_may_trip_on_single_reasons_only() -> None:
    Policy(name="at-once", failure_threshold=0).full_clean()


def test_a_policy_in_which_no_reason_counts_is_refused() -> None:
    policy = make_policy(reasons={reason.value: {"weight": 0} for reason in domain.Reason})

    assert "every weight is 0" in str(errors_of(policy))


def test_a_reason_has_one_row_in_a_policy() -> None:
    policy = make_policy(reasons={"timeout": {"weight": 3}})

    wrong = errors_of(PolicyReason(policy=policy, reason="timeout"))

    assert "has a row already" in str(wrong)


def test_a_weight_above_ten_is_refused_by_the_database() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        PolicyReason.objects.create(policy=make_policy(), reason="timeout", weight=11)


@pytest.mark.parametrize(
    "slug", ["Soniox", "-soniox", "so niox", "", "a" * 64, "soniox\n", "sönix"]
)
def test_a_slug_that_would_not_survive_a_key_or_an_url_is_refused(slug: str) -> None:
    assert "slug" in errors_of(Provider(slug=slug, name="x", policy=make_policy()))


def test_a_slug_is_unique_within_its_kind_only() -> None:
    make_provider("google")
    make_provider("google", kind="tts")

    wrong = errors_of(Provider(slug="google", name="x", policy=Policy.objects.get()))

    assert "of this kind with this slug already" in str(wrong)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (["nova-3"], "not a list"),
        ([], "not a list"),
        ("nova-3", "not a text"),
        ({"api_key": "abc"}, "credential hint"),
        ({"auth": {"accessToken": "abc"}}, "auth.accessToken"),
        ({"headers": [{"Authorization": "abc"}]}, "headers[0].Authorization"),
        ({"x": "sk-proj-1234"}, "credential hint"),
        ({"model": "x" * 20_000}, "at most 16384"),
        ({"x": float("nan")}, "NaN"),
        ({"x": "\x00"}, "NUL"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}, "levels deep"),
    ],
)
def test_settings_that_agents_should_not_get_are_refused(settings: Any, advice: str) -> None:
    provider = Provider(slug="soniox", name="x", policy=make_policy(), settings=settings)

    assert advice in str(errors_of(provider)["settings"])


@pytest.mark.parametrize("nothing", [None, ""])
def test_settings_left_empty_become_an_empty_object(nothing: Any) -> None:
    assert make_provider(settings=nothing, languages=nothing).settings == {}


@pytest.mark.parametrize(
    "settings", [{"max_tokens": 100}, {"end_token": True}, {"token": ""}, {"keyterms": ["api key"]}]
)
def test_settings_that_only_sound_like_a_secret_are_accepted(settings: dict[str, Any]) -> None:
    Provider(slug="soniox", name="x", policy=make_policy(), settings=settings).full_clean()


@pytest.mark.parametrize("hint", ["sk-12345", "soniox_api_key", "SONIOX API KEY", "1KEY"])
def test_a_credential_hint_must_be_the_name_of_a_variable(hint: str) -> None:
    provider = Provider(slug="soniox", name="x", policy=make_policy(), credential_hint=hint)

    assert "Never put the secret itself here" in str(errors_of(provider)["credential_hint"])


def test_languages_are_kept_in_their_usual_spelling() -> None:
    provider = make_provider(languages=["HI-in", "zh-hant-tw", "EN", "es-419"])

    assert provider.languages == ["hi-IN", "zh-Hant-TW", "en", "es-419"]


@pytest.mark.parametrize("languages", [["hindi!"], "hi-IN", [1], ["en", "EN"], ["e"]])
def test_languages_that_are_no_list_of_tags_are_refused(languages: Any) -> None:
    provider = Provider(slug="soniox", name="x", policy=make_policy(), languages=languages)

    assert "languages" in errors_of(provider)


def test_a_provider_in_a_chain_cannot_be_switched_off() -> None:
    make_route("breeze-buddy", "soniox", "deepgram")
    provider = Provider.objects.get(slug="soniox")
    provider.enabled = False

    message = str(errors_of(provider)["enabled"])

    assert "breeze-buddy" in message
    assert "force its breaker open" in message


def test_a_provider_in_a_chain_cannot_change_its_kind() -> None:
    make_route("breeze-buddy", "soniox")
    provider = Provider.objects.get(slug="soniox")
    provider.kind = "tts"

    assert "breeze-buddy" in str(errors_of(provider)["kind"])


@pytest.mark.parametrize("delete", [Provider.delete, lambda row: Provider.objects.all().delete()])
def test_a_provider_in_a_chain_cannot_be_deleted(delete: Any) -> None:
    make_route("breeze-buddy", "soniox")

    with pytest.raises(models.ProtectedError):
        delete(Provider.objects.get(slug="soniox"))


def test_refusing_to_delete_a_provider_names_its_routes() -> None:
    make_route("breeze-buddy", "soniox")
    make_route("other", "soniox")

    with pytest.raises(models.ProtectedError, match="breeze-buddy, other"):
        Provider.objects.get(slug="soniox").delete()


def test_a_provider_in_no_chain_can_be_switched_off_and_deleted() -> None:
    provider = make_provider("sarvam")
    provider.enabled = False
    provider.full_clean()

    provider.delete()

    assert not Provider.objects.exists()


def test_a_policy_in_use_cannot_be_deleted() -> None:
    with pytest.raises(models.ProtectedError):
        make_provider().policy.delete()


def test_a_route_with_an_empty_chain_is_refused() -> None:
    route = Route.objects.create(slug="empty", name="Empty")

    assert "The chain is empty" in str(errors_of(route))


def test_a_chain_of_another_kind_is_refused() -> None:
    route = make_route("breeze-buddy", "soniox")
    route.kind = "llm"

    assert "choose a provider of kind llm" in str(errors_of(route))


def test_a_step_with_a_disabled_provider_is_refused() -> None:
    step = RouteStep(route=make_route(), provider=make_provider("sarvam", enabled=False))

    assert "enable it first" in str(errors_of(step)["provider"])


def test_a_step_with_a_provider_of_another_kind_is_refused() -> None:
    step = RouteStep(route=make_route(), provider=make_provider("eleven", kind="tts"))

    assert "of kind tts" in str(errors_of(step)["provider"])


def test_a_step_with_an_unknown_provider_is_refused() -> None:
    assert "provider" in errors_of(RouteStep(route=make_route(), provider_id=9999))


def test_a_provider_is_in_a_chain_once() -> None:
    route = make_route("breeze-buddy", "soniox")
    step = RouteStep(route=route, provider=Provider.objects.get(slug="soniox"), position=5)

    assert "in the chain already" in str(errors_of(step))
    with pytest.raises(IntegrityError), transaction.atomic():
        step.save()


def test_changing_a_configured_row_leaves_its_history() -> None:
    provider = make_provider(settings={"model": "a"})
    provider.settings = {"model": "b"}
    provider.save()

    assert [row.settings["model"] for row in provider.history.all()] == ["b", "a"]


def test_the_revision_rises_even_when_the_clock_stands_still(time_machine: Any) -> None:
    time_machine.move_to("2026-11-22T12:00:00Z", tick=False)

    first, second = ConfigRevision.bump(), ConfigRevision.bump()

    assert first == 1795348800000
    assert second == first + 1
    assert ConfigRevision.current() == second


def test_an_event_is_stored_once() -> None:
    event = {"event_id": "a-1-x", "name": "tripped", "provider": "soniox", "before": "closed"}
    values = {**event, "after": "open", "at": "2026-11-22T12:00:00Z"}
    Transition.objects.create(**values)

    with pytest.raises(IntegrityError), transaction.atomic():
        Transition.objects.create(**values)


def test_transitions_outlive_their_incident() -> None:
    incident = Incident.objects.create(
        key="a-1-x", provider="soniox", cause="failure_threshold", opened_at="2026-11-22T12:00Z"
    )
    Transition.objects.create(
        event_id="a-1-x", name="tripped", at="2026-11-22T12:00Z", incident=incident
    )
    incident.delete()

    assert Transition.objects.get().incident is None
