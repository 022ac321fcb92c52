"""The second person is another person: by account and not by name, whatever is renamed or made;
and what agents are told of a provider in a chain takes one too."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fallback import changes, proposals
from fallback.models import AlertDestination, ConfigChange, Policy, Proposal, Provider, Route
from fallback.roles import Role
from tests.admin_forms import edit, text_of
from tests.test_proposals import (
    ana,
    change_policy,
    decide,
    needed,
    person,
    route,
    threshold,
    user,
)

__all__ = ["ana", "needed", "route"]  # fixtures

pytestmark = pytest.mark.django_db


def account(row: User, browser: Client, **values: Any) -> Any:
    """Save an account's page with these values, as a browser would."""
    page = reverse("admin:auth_user_change", args=[row.pk])
    form = browser.get(page).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields if form[name].value()}
    joined = timezone.localtime(row.date_joined)
    shown |= {"date_joined_0": f"{joined:%Y-%m-%d}", "date_joined_1": f"{joined:%H:%M:%S}"}
    for name in ("password", "last_login", "date_joined"):
        shown.pop(name, None)
    return browser.post(page, {**shown, **values})


def owner(name: str = "owner") -> Client:
    return person(name, Role.OWNER)


def test_s4_a_new_name_makes_nobody_a_second_person(route: Route) -> None:
    browser = owner()
    change_policy(browser, failure_threshold=8)
    row = Proposal.objects.get()
    renamed = account(user("owner"), browser, username="ow-ner")
    page = decide(browser, row, "approve")

    assert (renamed.status_code, User.objects.filter(username="ow-ner").count()) == (302, 1)
    assert "Nobody approves their own" in text_of(page)
    assert (Policy.objects.get().failure_threshold, Proposal.objects.get().state) == (
        2,
        "proposed",
    )


def test_s4_whoever_gets_the_name_of_the_author_is_another_person(route: Route) -> None:
    row = threshold(by="ana")
    User.objects.filter(username="ana").update(username="ana-of-old")
    decide(owner("ana"), row, "withdraw")
    was_kept = Proposal.objects.get().state
    decide(owner("ana"), row, "approve")

    assert (was_kept, Proposal.objects.get().state) == ("proposed", "approved")


def made_second_account(browser: Client, name: str = "second") -> Client:
    """Have an owner make another account with the role owner; return its holder's browser."""
    page = reverse("admin:auth_user_add")
    secret = "quite-another-42"
    browser.post(page, {"username": name, "password1": secret, "password2": secret,
                        "usable_password": "true"})  # fmt: skip
    groups = [Group.objects.get(name="owner").pk]
    account(User.objects.get(username=name), browser, is_staff="on", is_active="on", groups=groups)
    second = Client()
    assert second.login(username=name, password=secret)
    return second


def test_s4_an_account_that_the_author_made_just_now_is_no_second_person(route: Route) -> None:
    browser = owner()
    second = made_second_account(browser)
    change_policy(browser, failure_threshold=8)
    row = Proposal.objects.get()
    account(user("owner"), browser, username="somebody")  # and hides
    page = decide(second, row, "approve")

    assert "made or changed your account less than 24 h ago" in text_of(page)
    assert Policy.objects.get().failure_threshold == 2


def test_s4_that_account_approves_what_others_propose_and_its_makers_a_day_later(
    route: Route,
) -> None:
    browser = owner()
    second = made_second_account(browser)
    of_another = threshold(by="cy")
    decide(second, of_another, "approve")
    ConfigChange.objects.filter(touched__section="users").update(
        at=timezone.now() - timedelta(hours=25)
    )
    change_policy(browser, failure_threshold=8)
    decide(second, Proposal.objects.exclude(pk=of_another.pk).get(), "approve")

    assert set(Proposal.objects.values_list("state", flat=True)) == {"approved"}
    assert Policy.objects.get().failure_threshold == 8


def test_s4_who_changed_their_own_password_today_still_approves(route: Route) -> None:
    second = owner("bo")
    row = threshold(by="ana")
    bo = user("bo")
    bo.set_password("another-one-of-mine-7")
    with changes.made_by("admin:bo", "", bo):
        bo.save()
    second.force_login(bo)
    decide(second, row, "approve")

    assert Proposal.objects.get().state == "approved"


TOLD = {
    "settings": '{"base_url": "https://evil.example"}',
    "languages": "fr",
    "credential_hint": "OTHER_KEY",
}


@pytest.mark.parametrize("name", TOLD)
def test_s5_what_agents_are_told_of_a_provider_in_a_chain_waits(route: Route, name: str) -> None:
    row = Provider.objects.get(slug="soniox")
    before = Provider.objects.values(name).get(pk=row.pk)
    edit(ana(), row, **{name: TOLD[name]})

    assert f"provider stt/soniox: {name}" in Proposal.objects.get().summary
    assert Provider.objects.values(name).get(pk=row.pk) == before


@pytest.mark.parametrize("name", TOLD)
def test_s5_of_a_provider_in_no_chain_it_is_done_at_once(route: Route, name: str) -> None:
    row = Provider.objects.get(slug="deepgram")
    route.steps.get(provider=row).delete()
    edit(ana(), row, **{name: TOLD[name]})

    assert not Proposal.objects.exists()
    assert getattr(Provider.objects.get(pk=row.pk), name) != getattr(row, name)


def test_s5_approved_it_is_done(route: Route) -> None:
    row = Provider.objects.get(slug="soniox")
    edit(ana(), row, settings=TOLD["settings"])
    proposals.approve(Proposal.objects.get(), by=user("bo"), reason="")

    assert Provider.objects.get(pk=row.pk).settings == {"base_url": "https://evil.example"}


def test_s5_destinations_are_not_guarded_as_the_readme_says(route: Route) -> None:
    row = AlertDestination.objects.create(name="on-call", channel="C0123ABC")
    edit(ana(), row, channel="C0999ABC")

    assert AlertDestination.objects.get().channel == "C0999ABC"
