"""The admin as an operator uses it: what is refused and why, what is shown, what is ordered."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from fallback import breaker, catalog, keys
from fallback.domain import DEFAULT_WHAT_COUNTS, Kind, Reason, State
from fallback.models import (
    ApiKey,
    Incident,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
    Transition,
)
from tests.configuration import WHY, make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def policy_form(**values: Any) -> dict[str, Any]:
    """Return what the browser posts for a new policy, with the defaults that the page shows."""
    policy = Policy(name="strict")
    fields = [field.name for field in Policy._meta.fields if field.editable and field.name != "id"]
    form: dict[str, Any] = {name: getattr(policy, name) for name in fields}
    form |= {"reasons-TOTAL_FORMS": len(Reason), "reasons-INITIAL_FORMS": 0}
    for number, reason in enumerate(Reason):
        rule = DEFAULT_WHAT_COUNTS[reason]
        form[f"reasons-{number}-weight"] = rule.weight
        form[f"reasons-{number}-open_duration_s"] = rule.open_duration_s or ""
        if rule.trips_at_once:
            form[f"reasons-{number}-trips_at_once"] = "on"
    form |= WHY | values
    return {name: value for name, value in form.items() if value is not None and value is not False}


def route_form(*providers: Provider, **values: Any) -> dict[str, Any]:
    """Return what the browser posts for a new route over this chain."""
    form: dict[str, Any] = {
        "name": "Breeze",
        "slug": "breeze",
        "kind": "stt",
        "fallback_enabled": "on",
        "on_mid_call_failure": "swap",
        "last_resort": "primary",
        "steps-TOTAL_FORMS": len(providers),
        "steps-INITIAL_FORMS": 0,
    } | WHY
    for number, provider in enumerate(providers):
        form[f"steps-{number}-provider"] = provider.pk
        form[f"steps-{number}-settings"] = "{}"
        form[f"steps-{number}-position"] = number + 1
    return form | values


def test_a_new_policy_is_saved_with_a_row_for_every_reason(admin_client: Client) -> None:
    admin_client.post(url("policy", "add"), policy_form())

    assert PolicyReason.objects.count() == len(Reason)
    assert (
        catalog.loading._policies()[0][Policy.objects.get().pk].what_counts == DEFAULT_WHAT_COUNTS
    )


def test_changing_one_reason_keeps_the_others(admin_client: Client) -> None:
    timeout = list(Reason).index(Reason.TIMEOUT)
    admin_client.post(url("policy", "add"), policy_form(**{f"reasons-{timeout}-weight": 5}))

    weights = dict(PolicyReason.objects.values_list("reason", "weight"))

    assert (weights["timeout"], weights["connection"]) == (5, 1)


def test_a_policy_made_elsewhere_shows_defaults_for_the_reasons_it_lacks(
    admin_client: Client,
) -> None:
    policy = make_policy(reasons={"timeout": {"weight": 7}, "auth": {"weight": 3}})

    page = admin_client.get(url("policy", "change", policy.pk)).content.decode()

    assert page.count('class="field-reason"') == len(Reason) + 1  # and the pattern of a new row


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"failure_threshold": 1001}, "less than or equal to 1000"),
        ({"failure_rate_percent": 20, "minimum_calls": 0}, "20 is usual"),
        ({"open_duration_s": 8000}, "set at least 8000"),
        ({"distinct_hosts": 9}, "ask for at most 2 hosts"),
        ({"failure_threshold": "two"}, "Enter a whole number"),
    ],
)
def test_a_policy_that_cannot_work_is_not_saved_and_says_what_would_be_right(
    admin_client: Client, values: dict[str, Any], advice: str
) -> None:
    response = admin_client.post(url("policy", "add"), policy_form(**values))

    assert advice in text_of(response)
    assert not Policy.objects.exists()


def test_a_policy_whose_reasons_all_count_nothing_is_not_saved(admin_client: Client) -> None:
    nothing = {f"reasons-{number}-weight": 0 for number in range(len(Reason))}
    nothing |= {f"reasons-{number}-trips_at_once": None for number in range(len(Reason))}
    response = admin_client.post(url("policy", "add"), policy_form(**nothing))

    assert "can never trip" in text_of(response)
    assert not Policy.objects.exists()


def test_a_policy_that_trips_on_single_reasons_only_is_saved_with_a_warning(
    admin_client: Client,
) -> None:
    form = policy_form(failure_threshold=0)
    response = admin_client.post(url("policy", "add"), form, follow=True)

    assert "only reasons that trip at once" in text_of(response)
    assert Policy.objects.exists()


def test_a_policy_says_which_providers_use_it(admin_client: Client) -> None:
    provider = make_provider("soniox")

    page = admin_client.get(url("policy", "change", provider.policy_id)).content.decode()

    assert url("provider", "change", provider.pk) in page


def test_a_route_is_saved_with_its_chain_in_order(admin_client: Client) -> None:
    deepgram, soniox = make_provider("deepgram"), make_provider("soniox")
    admin_client.post(url("route", "add"), route_form(soniox, deepgram))

    assert [step.provider.slug for step in RouteStep.objects.all()] == ["soniox", "deepgram"]


def test_a_route_without_a_chain_is_not_saved(admin_client: Client) -> None:
    response = admin_client.post(url("route", "add"), route_form())

    assert "The chain is empty" in text_of(response)
    assert not Route.objects.exists()


@pytest.mark.parametrize(
    ("columns", "advice"),
    [({"enabled": False}, "enable it first"), ({"kind": "tts"}, "choose a provider of kind stt")],
)
def test_a_chain_with_a_provider_that_cannot_serve_it_is_not_saved(
    admin_client: Client, columns: dict[str, Any], advice: str
) -> None:
    wrong = make_provider("wrong", **columns)
    form = route_form(make_provider("soniox"), wrong)
    response = admin_client.post(url("route", "add"), form)

    assert text_of(response).count(advice) == 1
    assert not Route.objects.exists()


def test_a_chain_with_the_same_provider_twice_is_not_saved(admin_client: Client) -> None:
    soniox = make_provider("soniox")
    response = admin_client.post(url("route", "add"), route_form(soniox, soniox))

    assert response.status_code == 200
    assert not Route.objects.exists()


def test_a_route_moves_to_another_kind_together_with_its_chain(admin_client: Client) -> None:
    route = make_route("breeze", "soniox")
    voice = make_provider("eleven", kind="tts")
    step = route.steps.get()
    form = route_form(voice, kind="tts")
    form |= {"steps-INITIAL_FORMS": 1, "steps-0-id": step.pk, "steps-0-route": route.pk}
    admin_client.post(url("route", "change", route.pk), form)

    assert Route.objects.get().kind == "tts"


def test_broken_json_is_refused_with_the_place_of_the_error(admin_client: Client) -> None:
    soniox = make_provider("soniox")
    form = route_form(soniox, **{"steps-0-settings": '{"a": 1,\n "b" 2}'})
    response = admin_client.post(url("route", "add"), form)

    assert "line 2, column 6" in text_of(response)


def provider_form(provider: Provider, **values: Any) -> dict[str, Any]:
    form = {
        "name": provider.name,
        "slug": provider.slug,
        "kind": provider.kind,
        "enabled": "on",
        "policy": provider.policy_id,
        "settings": "{}",
        "languages": "",
        "credential_hint": "",
        "notes": "",
    }
    form |= WHY | values
    return {name: value for name, value in form.items() if value is not None}


def test_languages_are_typed_with_commas(admin_client: Client) -> None:
    provider = make_provider("soniox")
    form = provider_form(provider, languages="hi-in, EN")
    admin_client.post(url("provider", "change", provider.pk), form)

    assert Provider.objects.get().languages == ["hi-IN", "en"]


def test_emptied_settings_are_an_empty_object(admin_client: Client) -> None:
    provider = make_provider("soniox", settings={"model": "a"})
    form = provider_form(provider, settings="")
    admin_client.post(url("provider", "change", provider.pk), form)

    assert Provider.objects.get().settings == {}


def test_a_provider_in_a_chain_cannot_be_switched_off_in_the_admin(admin_client: Client) -> None:
    make_route("breeze", "soniox")
    provider = Provider.objects.get()
    form = provider_form(provider, enabled=None)
    response = admin_client.post(url("provider", "change", provider.pk), form)

    assert "in the chain of breeze" in text_of(response)
    assert Provider.objects.get().enabled


def test_deleting_a_provider_in_a_chain_names_the_route(admin_client: Client) -> None:
    make_route("breeze", "soniox")
    target = url("provider", "delete", Provider.objects.get().pk)
    response = admin_client.post(target, {"post": "yes"} | WHY)

    assert "breeze" in text_of(response)
    assert Provider.objects.exists()


def test_a_new_key_is_shown_once_and_works(admin_client: Client) -> None:
    form = {"name": "pods", "role": "agent", "enabled": "on"} | WHY
    response = admin_client.post(url("apikey", "add"), form)
    shown = re.findall(r"stt_[a-z0-9]+\.[\w-]{43}", response.content.decode())
    later = admin_client.get(url("apikey", "change", ApiKey.objects.get().pk)).content.decode()
    catalog.reload()

    assert isinstance(keys.authenticate(f"Bearer {shown[0]}"), catalog.Key)
    assert "no-store" in response["Cache-Control"]
    assert shown[0] not in later
    assert not response.cookies.get("messages")


def test_incidents_say_how_long_and_which_calls(admin_client: Client) -> None:
    incident = Incident.objects.create(
        key="a-1-x",
        provider="soniox",
        cause="failure_threshold",
        opened_at="2026-11-22T12:00:00Z",
        closed_at="2026-11-22T12:31:04Z",
        first_failure_at="2026-11-22T11:59:58.500Z",
        diverted=41,
    )
    page = text_of(admin_client.get(url("incident", "change", incident.pk)))

    assert "31 min 4 s" in page
    assert "1.5 s from its first failure" in page
    assert "41 diverted" in page


@pytest.mark.parametrize("model", ["transition", "incident", "deadletter"])
def test_history_cannot_be_written_by_hand(admin_client: Client, model: str) -> None:
    assert admin_client.get(url(model, "changelist")).status_code == 200
    assert admin_client.get(url(model, "add")).status_code == 403


# --- the live state and the five orders, on a real Redis


@pytest.fixture
def soniox() -> Provider:
    """Save a route over soniox and deepgram, as this process's catalog sees it."""
    make_route("breeze", "soniox", "deepgram")
    catalog.reload()
    return Provider.objects.get(slug="soniox")


def order(client: Client, verb: str, provider: Provider, **values: Any) -> Any:
    target = f"{url('provider', 'order', verb)}?ids={provider.pk}"
    form = {"reason": "fire drill", "end": "1800"} | values
    return client.post(target, form, follow=True)


def breaker_now(provider: Provider) -> Any:
    return breaker.snapshot(Kind.STT, [provider.slug]).views[0].breaker


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("force-open", State.FORCED_OPEN),
        ("force-closed", State.FORCED_CLOSED),
        ("shadow", State.SHADOW),
    ],
)
def test_an_order_reaches_the_breaker_with_its_author_reason_and_end(
    admin_client: Client, soniox: Provider, verb: str, state: State
) -> None:
    response = order(admin_client, verb, soniox)
    found = breaker_now(soniox)

    assert found.state == state
    assert (found.override.by, found.override.reason) == ("admin:admin", "fire drill")
    assert found.override.until_ms - found.override.at_ms == 1_800_000
    assert "done, 30 minutes" in text_of(response)


def test_an_order_may_hold_until_it_is_cleared(admin_client: Client, soniox: Provider) -> None:
    order(admin_client, "force-open", soniox, end="cleared")

    assert breaker_now(soniox).override.until_ms is None


@pytest.mark.parametrize("verb", ["auto", "reset"])
def test_an_override_can_be_ended(admin_client: Client, soniox: Provider, verb: str) -> None:
    order(admin_client, "force-open", soniox)
    order(admin_client, verb, soniox)

    assert breaker_now(soniox).override is None


@pytest.mark.parametrize("reason", ["", "   "])
def test_no_order_is_given_without_a_reason(
    admin_client: Client, soniox: Provider, reason: str
) -> None:
    response = order(admin_client, "force-open", soniox, reason=reason)

    assert "This field is required" in text_of(response)
    assert breaker_now(soniox).state == State.CLOSED


def test_the_list_shows_state_failures_and_who_ordered_what(
    admin_client: Client, soniox: Provider
) -> None:
    order(admin_client, "force-open", soniox)

    page = text_of(admin_client.get(url("provider", "changelist")))

    assert "forced open" in page
    assert "0 of 2 in 240 s" in page
    assert "admin:admin: “fire drill”" in page


def test_the_list_says_that_redis_is_unreachable(
    admin_client: Client, soniox: Provider, redis_client: Any
) -> None:
    redis_client.execute_command("CLIENT", "PAUSE", 3_000, "ALL")

    page = text_of(admin_client.get(url("provider", "changelist")))
    redis_client.ping()  # until it answers again

    assert "unknown (Redis unreachable)" in page


def test_forcing_the_last_provider_open_says_that_nobody_is_left(
    admin_client: Client, soniox: Provider
) -> None:
    ids = ",".join(str(pk) for pk in Provider.objects.values_list("pk", flat=True))

    page = text_of(admin_client.get(f"{url('provider', 'order', 'force-open')}?ids={ids}"))

    assert "breeze: NO provider is left" in page


def test_forcing_one_provider_open_says_where_its_calls_go(
    admin_client: Client, soniox: Provider
) -> None:
    page = text_of(admin_client.get(f"{url('provider', 'order', 'force-open')}?ids={soniox.pk}"))

    assert "breeze: new calls start on deepgram" in page


def test_an_action_of_the_list_asks_before_it_does_anything(
    admin_client: Client, soniox: Provider
) -> None:
    form = {"action": "force_open", "_selected_action": [soniox.pk]}
    response = admin_client.post(url("provider", "changelist"), form, follow=True)

    assert "Reason" in text_of(response)
    assert breaker_now(soniox).state == State.CLOSED


def test_orders_take_the_permission_to_override(
    client: Client, django_user_model: Any, soniox: Provider
) -> None:
    user = django_user_model.objects.create_user("vera", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_provider"))
    client.force_login(user)

    assert order(client, "force-open", soniox).status_code == 403
    assert breaker_now(soniox).state == State.CLOSED
    page = client.get(url("provider", "changelist")).content.decode()
    assert "force_open" not in page


def test_after_an_order_nobody_is_sent_to_another_site(
    admin_client: Client, soniox: Provider
) -> None:
    response = order(admin_client, "reset", soniox, next="https://evil.example/")

    assert response.redirect_chain[-1][0] == url("provider", "changelist")


def test_an_order_is_in_the_admins_own_log(admin_client: Client, soniox: Provider) -> None:
    order(admin_client, "force-open", soniox)

    assert "Force open, 30 minutes: fire drill" in LogEntry.objects.get().change_message


def test_a_provider_shows_its_last_transitions(admin_client: Client, soniox: Provider) -> None:
    Transition.objects.create(
        event_id="a-1-x",
        name="tripped",
        provider="soniox",
        before="closed",
        after="open",
        at="2026-11-22T12:00:00Z",
        cause="failure_threshold",
        reason="2 failures",
    )
    page = text_of(admin_client.get(url("provider", "change", soniox.pk)))

    assert "failure threshold" in page
    assert "2026-11-22 12:00:00 UTC" in page


def test_the_first_page_says_what_is_out(admin_client: Client, soniox: Provider) -> None:
    order(admin_client, "force-open", soniox)

    page = text_of(admin_client.get(reverse("admin:index")))

    assert "Degraded: calls are diverted" in page


@pytest.mark.parametrize("page", ["change", "history", "delete"])
@pytest.mark.parametrize("model", [Provider, Policy, Route])
def test_no_page_holds_anything_inline_that_the_policy_would_block(
    admin_client: Client, soniox: Provider, model: Any, page: str
) -> None:
    row = model.objects.first()
    target = url(model._meta.model_name, page, row.pk)

    assert inline_parts(admin_client.get(target)) == []


def inline_parts(response: Any) -> list[Any]:
    assert response.status_code == 200
    page = response.content.decode()
    return re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*(?:src|json))", page)


@pytest.mark.parametrize(
    "model",
    [
        "provider",
        "policy",
        "route",
        "apikey",
        "transition",
        "incident",
        "deadletter",
        "configchange",
    ],
)
def test_no_list_holds_anything_inline_that_the_policy_would_block(
    admin_client: Client, soniox: Provider, model: str
) -> None:
    assert inline_parts(admin_client.get(url(model, "changelist"))) == []
