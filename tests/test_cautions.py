"""What is said before a change is kept: each rule, and each way of asking."""

import re
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse

from fallback import cautions, checks
from fallback.models import (
    AlertDestination,
    AlertTemplate,
    ConfigRevision,
    Policy,
    Provider,
    Route,
    RouteStep,
)
from tests.admin_forms import box
from tests.configuration import make_policy, make_provider, make_route
from tests.test_admin import policy_form, provider_form, route_form, text_of

pytestmark = pytest.mark.django_db


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def codes() -> set[str]:
    return {caution.code for caution in cautions.present(cautions.read())}


def brings(change: Any) -> dict[str, str]:
    """Return what a change brings, by code."""
    before = cautions.read()
    change()
    return {one.code: one.text for one in cautions.brought(before, cautions.read())}


def pair(**values: Any) -> Route:
    return make_route("breeze", "soniox", "deepgram", **values)


def step_form(route: Route, *, gone: tuple[int, ...] = (), **values: Any) -> dict[str, Any]:
    """Return what the browser posts for a route as it is, with some of its steps deleted."""
    steps = list(route.steps.all())
    form = route_form(*(step.provider for step in steps), slug=route.slug, name=route.name)
    form["steps-INITIAL_FORMS"] = len(steps)
    for number, step in enumerate(steps):
        form |= {f"steps-{number}-id": step.pk, f"steps-{number}-route": route.pk}
        if number in gone:
            form[f"steps-{number}-DELETE"] = "on"
    return {name: value for name, value in (form | values).items() if value is not None}


# --- the rules


def test_a_sound_configuration_needs_no_words() -> None:
    pair()

    assert codes() == set()


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"enabled": False}, "one_left"),
        ({"kind": "tts"}, "one_left"),
        ({"languages": ["hi-IN"]}, "alone:soniox:any other language"),
    ],
)
def test_a_chain_that_comes_to_hang_on_one_provider(columns: dict[str, Any], code: str) -> None:
    pair()
    found = brings(lambda: Provider.objects.filter(slug="deepgram").update(**columns))

    assert set(found) - {"renamed"} == {code}
    assert "have nowhere to go" in found[code]


def test_a_language_that_one_provider_alone_can_hear() -> None:
    pair()
    Provider.objects.filter(slug="deepgram").update(languages=["en", "hi-IN"])
    Provider.objects.filter(slug="soniox").update(languages=["hi-IN", "ta-IN"])

    assert codes() == {"alone:deepgram:en", "alone:soniox:ta-IN"}


def test_a_chain_without_anybody() -> None:
    pair()
    Provider.objects.update(enabled=False)

    assert codes() == {"none_left"}


def test_a_switched_off_fallback_says_who_gets_the_calls() -> None:
    route = pair()
    found = brings(lambda: Route.objects.filter(pk=route.pk).update(fallback_enabled=False))

    assert "every call starts on soniox even while that is out" in found["fallback_off"]


def test_a_chain_of_which_every_provider_is_in_shadow() -> None:
    pair()
    found = brings(lambda: Policy.objects.update(shadow=True))

    assert set(found) == {"all_shadow", "shadow"}
    assert "no outage of deepgram, soniox moves a call" in found["shadow"]


def test_a_shadow_on_part_of_a_chain_is_told_of_the_policy_alone() -> None:
    pair()
    trial = make_policy("trial", shadow=True)
    Provider.objects.filter(slug="soniox").update(policy=trial)

    assert codes() == {"shadow"}


def test_a_provider_that_no_route_uses() -> None:
    pair()

    assert set(brings(lambda: make_provider("sarvam"))) == {"unused"}


@pytest.mark.parametrize("event", ["tripped", "probing"])
def test_a_template_that_is_switched_off(event: str) -> None:
    row = AlertTemplate.objects.create(event=event, name="T", title="t")
    before = cautions.read()
    AlertTemplate.objects.filter(pk=row.pk).update(enabled=False)
    found = cautions.brought(before, cautions.read())

    assert [(one.code, one.is_grave) for one in found] == [("template_off", event == "tripped")]


def test_the_last_destination_switched_off_or_deleted() -> None:
    AlertDestination.objects.create(name="on-call", channel="C0123ABC")

    assert set(brings(lambda: AlertDestination.objects.update(enabled=False))) == {"no_destination"}
    AlertDestination.objects.update(enabled=True)
    assert set(brings(lambda: AlertDestination.objects.all().delete())) == {"no_destination"}


@pytest.mark.parametrize(
    ("model", "advice"),
    [(Route, "agents that ask for breeze get 404"), (Provider, "are invalid from now on")],
)
def test_a_renamed_slug_says_what_breaks(model: Any, advice: str) -> None:
    pair()
    row = model.objects.get(pk=model.objects.first().pk)
    found = brings(lambda: model.objects.filter(pk=row.pk).update(slug="other"))

    assert advice in found["renamed"]


def test_a_deleted_route_says_what_breaks() -> None:
    pair()
    found = brings(lambda: Route.objects.all().delete())

    assert "agents that ask for it get 404" in found["gone"]


def test_what_held_before_is_not_said_again() -> None:
    make_route("breeze", "soniox")

    assert brings(lambda: Route.objects.update(name="Other")) == {}


def test_the_rules_take_as_many_queries_for_many_rows_as_for_few(
    django_assert_num_queries: Any,
) -> None:
    for number in range(12):
        make_route(f"route-{number}", f"a{number}", f"b{number}")
    with django_assert_num_queries(7):
        cautions.present(cautions.read())


# --- refused outright, whoever asks


def test_the_last_step_of_a_chain_stays_until_its_route_goes() -> None:
    route = pair()
    first, last = route.steps.all()
    first.delete()
    with pytest.raises(ProtectedError, match="the last usable provider of breeze"):
        last.delete()

    route.delete()
    assert not RouteStep.objects.exists()


def test_a_step_stays_if_the_others_cannot_serve() -> None:
    route = pair()
    Provider.objects.filter(slug="deepgram").update(enabled=False)

    with pytest.raises(ProtectedError):
        route.steps.get(provider__slug="soniox").delete()


def test_a_policy_in_use_says_who_obeys_it() -> None:
    pair()

    with pytest.raises(ProtectedError, match="while deepgram, soniox obey it"):
        Policy.objects.get().delete()


# --- asked before it is saved


def test_nothing_is_saved_until_what_it_brings_was_read(admin_client: Client) -> None:
    route = pair()
    revision = ConfigRevision.current()
    form = step_form(route, gone=(1,), name="Other")
    asked = admin_client.post(url("route", "change", route.pk), form)

    assert "Route breeze has one usable provider, soniox" in text_of(asked)
    assert "Nothing is saved yet" in text_of(asked)
    assert (Route.objects.get().name, RouteStep.objects.count()) == ("Breeze", 2)
    assert ConfigRevision.current() == revision


def test_what_was_read_is_saved(admin_client: Client) -> None:
    route = pair()
    target = url("route", "change", route.pk)
    form = step_form(route, gone=(1,))
    asked = admin_client.post(target, form)
    done = admin_client.post(target, form | {"confirmed": box(asked)})

    assert done.status_code == 302
    assert RouteStep.objects.get().provider.slug == "soniox"


def test_having_read_one_thing_confirms_no_other(admin_client: Client) -> None:
    route = pair()
    target = url("route", "change", route.pk)
    read = box(admin_client.post(target, step_form(route, gone=(1,))))
    worse = step_form(route, gone=(1,), fallback_enabled=None, confirmed=read)
    asked = admin_client.post(target, worse)

    assert "its fallback is switched off" in text_of(asked)
    assert "checked" not in str(re.search(r"<input[^>]*confirmed[^>]*>", asked.text))
    assert RouteStep.objects.count() == 2


def test_a_new_route_over_one_provider_is_asked_about(admin_client: Client) -> None:
    form = route_form(make_provider("soniox"))
    asked = admin_client.post(url("route", "add"), form)

    assert not Route.objects.exists()
    admin_client.post(url("route", "add"), form | {"confirmed": box(asked)})
    assert Route.objects.exists()


def test_a_replaced_sole_step_is_no_empty_chain(admin_client: Client) -> None:
    route = make_route("breeze", "soniox")
    deepgram = make_provider("deepgram")
    form = step_form(route, gone=(0,))
    form |= {"steps-TOTAL_FORMS": 2, "steps-1-provider": deepgram.pk, "steps-1-position": 2}
    form |= {"steps-1-settings": "{}"}
    done = admin_client.post(url("route", "change", route.pk), form)

    assert done.status_code == 302
    assert RouteStep.objects.get().provider == deepgram


def test_an_untroubled_save_asks_nothing(admin_client: Client) -> None:
    route = pair()
    done = admin_client.post(url("route", "change", route.pk), step_form(route, name="Other"))

    assert done.status_code == 302
    assert Route.objects.get().name == "Other"


def test_narrowed_languages_are_asked_about_on_the_providers_page(admin_client: Client) -> None:
    pair()
    row = Provider.objects.get(slug="deepgram")
    asked = admin_client.post(url("provider", "change", row.pk), provider_form(row, languages="en"))

    assert "soniox is the only one of its chain for any other language" in text_of(asked)
    assert Provider.objects.get(slug="deepgram").languages == []


def test_what_is_not_grave_is_told_after_the_save(admin_client: Client) -> None:
    policy = make_policy()
    form = provider_form(Provider(name="N", slug="n", kind="stt", policy=policy))
    done = admin_client.post(url("provider", "add"), form)

    assert Provider.objects.exists()
    assert any("in the chain of no route" in str(one) for one in get_messages(done.wsgi_request))


def test_hostile_names_stay_text_in_what_is_asked(admin_client: Client) -> None:
    pair()
    policy = Policy.objects.get()
    form = policy_form(name="<script>alert(1)</script>", shadow="on", confirmed="<b>")
    asked = admin_client.post(url("policy", "change", policy.pk), form)

    assert "every provider of its chain is in shadow" in asked.text
    assert "<script>alert(1)" not in asked.text
    assert 'value="<b>"' not in asked.text


# --- deleting


def test_the_page_that_deletes_says_what_that_brings(admin_client: Client) -> None:
    route = pair()
    page = admin_client.get(url("route", "delete", route.pk))

    assert "agents that ask for it get 404" in text_of(page)
    assert Route.objects.exists()


@pytest.mark.parametrize("model", [Provider, Policy])
def test_the_page_that_deletes_says_why_it_cannot_and_what_to_do(
    admin_client: Client, model: Any
) -> None:
    pair()
    name = model._meta.model_name
    one = admin_client.get(url(name, "delete", model.objects.first().pk))
    form = {"action": "delete_selected", "_selected_action": [model.objects.first().pk]}
    many = admin_client.post(url(name, "changelist"), form)

    for page in (one, many):
        assert "cannot be deleted while" in text_of(page)
        assert "Yes, I" not in text_of(page)


def test_deleting_several_says_what_all_of_it_brings(admin_client: Client) -> None:
    pair()
    make_route("other", "sarvam", "openai")
    form = {
        "action": "delete_selected",
        "_selected_action": [row.pk for row in Route.objects.all()],
    }
    page = text_of(admin_client.post(url("route", "changelist"), form))

    assert "Route breeze: agents" in page
    assert "Route other: agents" in page
    assert Route.objects.count() == 2


# --- the system check


def test_the_system_check_tells_what_is_grave() -> None:
    make_route("breeze", "soniox")
    make_provider("sarvam")
    found = checks.check_configuration(databases=["default"])

    assert [message.id for message in found] == ["fallback.W005"]
    assert "has one usable provider" in found[0].msg
