"""The second person: what waits, who decides, and what became of the configuration meanwhile."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fallback import breaker, catalog, changes, configuration, proposals, roles, services
from fallback.domain import Kind, State
from fallback.errors import Conflict, Invalid
from fallback.models import (
    ConfigChange,
    ConfigRevision,
    Policy,
    Proposal,
    Provider,
    Route,
    RouteStep,
)
from fallback.roles import Role
from tests.admin_forms import box
from tests.configuration import make_policy, make_provider, make_route
from tests.test_admin import policy_form, provider_form, text_of
from tests.test_cautions import step_form

pytestmark = pytest.mark.django_db

WHY = {"change_reason": "too jumpy"}


@pytest.fixture(autouse=True)
def needed(settings: Any) -> None:
    settings.CHANGES_NEED_APPROVAL = True


@pytest.fixture
def route() -> Route:
    made = make_route("breeze", "soniox", "deepgram")
    catalog.reload()
    return made


def user(name: str) -> User:
    return User.objects.get_or_create(username=name)[0]


def person(name: str, role: Role) -> Client:
    row = user(name)
    roles.give(row, role)
    browser = Client()
    browser.force_login(row)
    return browser


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def ana() -> Client:
    return person("ana", Role.EDITOR)


def bo() -> Client:
    return person("bo", Role.OWNER)


def change_policy(browser: Client, **values: Any) -> Any:
    policy = Policy.objects.get()
    form = policy_form(name=policy.name, **values) | WHY
    return browser.post(url("policy", "change", policy.pk), form, follow=True)


def threshold(number: int = 5, by: str = "ana") -> Proposal:
    """Propose another failure threshold."""
    before = configuration.build()
    after = configuration.build()
    after["policies"]["default"]["failure_threshold"] = number
    return proposals.propose(user(by), "too jumpy", before, after)


def decide(browser: Client, row: Proposal, what: str, **values: Any) -> Any:
    page = browser.get(url("proposal", "change", row.pk))
    shown = page.context.get("digest", "") if page.context else ""
    target = url("proposal", "decide", row.pk, what)
    return browser.post(target, {"shown": shown, "reason": "fine", **values}, follow=True)


# --- what waits


def test_a_changed_policy_waits_and_changes_nothing(route: Route) -> None:
    revision = ConfigRevision.current()
    page = change_policy(ana(), failure_threshold=5)

    row = Proposal.objects.get()
    assert "waits for somebody else to approve it" in text_of(page)
    assert "policy default: failure_threshold: 2 → 5" in row.summary
    assert (row.author, row.state) == ("ana", "proposed")
    assert Policy.objects.get().failure_threshold == 2
    assert ConfigRevision.current() == revision


def test_where_no_second_person_is_asked_for_it_is_done_at_once(
    route: Route, settings: Any
) -> None:
    settings.CHANGES_NEED_APPROVAL = False
    change_policy(ana(), failure_threshold=5)

    assert Policy.objects.get().failure_threshold == 5
    assert not Proposal.objects.exists()


def test_what_counts_within_a_policy_waits_too(route: Route) -> None:
    change_policy(ana(), **{"reasons-0-weight": 7})

    assert "what_counts" in Proposal.objects.get().summary
    assert not Policy.objects.get().reasons.filter(weight=7).exists()


def test_a_changed_chain_is_asked_about_first_and_then_waits(route: Route) -> None:
    browser = ana()
    target = url("route", "change", route.pk)
    asked = browser.post(target, step_form(route, gone=(1,)) | WHY)
    assert not Proposal.objects.exists()

    browser.post(target, step_form(route, gone=(1,), confirmed=box(asked)) | WHY)

    assert "route breeze: steps" in Proposal.objects.get().summary
    assert RouteStep.objects.count() == 2


def test_a_deletion_waits(route: Route) -> None:
    form = {"post": "yes", "seen_as": "", **WHY}
    browser = ana()
    page = browser.get(url("route", "delete", route.pk))
    form["seen_as"] = str(page.context.get("seen", ""))
    browser.post(url("route", "delete", route.pk), form)

    assert Proposal.objects.get().summary == "route breeze: removed"
    assert Route.objects.exists()


def test_a_deletion_from_the_list_waits(route: Route) -> None:
    form = {"action": "delete_selected", "_selected_action": [route.pk], "post": "yes", **WHY}
    ana().post(url("route", "changelist"), form)

    assert Proposal.objects.get().summary == "route breeze: removed"
    assert Route.objects.exists()


@pytest.mark.parametrize("way", ["undo", "back"])
def test_an_undo_waits(route: Route, way: str) -> None:
    with changes.made_by("test"):
        Policy.objects.get().save()
    made = []
    for number in (3, 4):
        with changes.made_by("admin:ana", "tuning") as making:
            policy = Policy.objects.get()
            policy.failure_threshold = number
            policy.save()
        made.append(making.change)
    change = made[0 if way == "back" else 1]
    assert change is not None
    target = url("configchange", "way", change.pk, way)
    browser = ana()
    page = browser.get(target)
    form = {"shown": page.context["form"].initial["shown"], **WHY}
    browser.post(target, form)

    assert "failure_threshold: 4 → 3" in Proposal.objects.get().summary
    assert Policy.objects.get().failure_threshold == 4


def test_another_policy_for_a_provider_waits(route: Route) -> None:
    strict = make_policy("strict")
    row = Provider.objects.get(slug="soniox")
    form = provider_form(row, policy=strict.pk) | WHY
    ana().post(url("provider", "change", row.pk), form)

    assert "provider stt/soniox: policy" in Proposal.objects.get().summary
    assert Provider.objects.get(slug="soniox").policy.name == "default"


def test_what_touches_no_policy_and_no_route_is_done_at_once(route: Route) -> None:
    row = Provider.objects.get(slug="soniox")
    form = provider_form(row, notes="call them") | WHY
    ana().post(url("provider", "change", row.pk), form)

    assert Provider.objects.get(slug="soniox").notes == "call them"
    assert not Proposal.objects.exists()


def test_an_order_needs_no_second_person(route: Route) -> None:
    services.publish_configuration()
    soniox = Provider.objects.get(slug="soniox")
    target = f"{url('provider', 'order', 'force-open')}?ids={soniox.pk}"
    person("op", Role.OPERATOR).post(target, {"reason": "outage", "end": "900"})

    assert breaker.snapshot(Kind.STT, ["soniox"]).views[0].breaker.state is State.FORCED_OPEN


def test_a_save_that_is_wrong_is_refused_and_not_proposed(route: Route) -> None:
    page = change_policy(ana(), failure_threshold=1001)

    assert "less than or equal to 1000" in text_of(page)
    assert not Proposal.objects.exists()


# --- who decides


def test_approved_it_is_done_with_the_names_of_both(route: Route) -> None:
    row = threshold()
    page = decide(bo(), row, "approve")

    change = ConfigChange.objects.newest()
    row.refresh_from_db()
    assert "is approved, and done" in text_of(page)
    assert Policy.objects.get().failure_threshold == 5
    assert change is not None
    assert (change.author, row.change) == ("admin:ana", change)
    assert change.reason == f"Proposal #{row.pk}, approved by bo: too jumpy"
    assert (row.state, row.decided_by, row.decision_reason) == ("approved", "bo", "fine")


def test_nobody_approves_their_own_not_even_an_owner(route: Route) -> None:
    row = threshold(by="bo")
    page = decide(bo(), row, "approve")

    assert "Nobody approves their own" in text_of(page)
    assert Policy.objects.get().failure_threshold == 2


@pytest.mark.parametrize("by", ["ana", "", "bo"])
def test_s4_the_database_too_refuses_an_approval_without_a_second_person(
    route: Route, by: str
) -> None:
    row = threshold()
    found = {"state": "approved", "decided_by": by}
    if by:
        found["decided_by_user"] = row.author_user

    with pytest.raises(IntegrityError), transaction.atomic():
        Proposal.objects.filter(pk=row.pk).update(**found)


@pytest.mark.parametrize("what", ["approve", "reject"])
def test_an_editor_decides_on_nothing(route: Route, what: str) -> None:
    row = threshold(by="somebody")

    assert decide(ana(), row, what).status_code == 403
    assert Proposal.objects.get().state == "proposed"


def test_rejected_it_says_why(route: Route) -> None:
    row = threshold()
    browser = bo()
    assert "Say why it is rejected" in text_of(decide(browser, row, "reject", reason=" "))

    decide(browser, row, "reject", reason="<b>too lax</b>")
    row.refresh_from_db()

    assert (row.state, row.decision_reason) == ("rejected", "<b>too lax</b>")
    assert "<b>too lax" not in browser.get(url("proposal", "change", row.pk)).text
    assert Policy.objects.get().failure_threshold == 2


def test_its_author_withdraws_it_and_nobody_else(route: Route) -> None:
    row = threshold()
    decide(person("eve", Role.EDITOR), row, "withdraw")
    row.refresh_from_db()
    assert row.state == "proposed"

    decide(ana(), row, "withdraw")
    row.refresh_from_db()
    assert row.state == "withdrawn"


def test_what_was_decided_is_not_decided_again(route: Route) -> None:
    row = threshold()
    proposals.reject(row, by=user("bo"), reason="no")

    for verb in (proposals.approve, proposals.reject):
        with pytest.raises(Conflict, match="waits no more: rejected"):
            verb(row, by=user("cy"), reason="yes")
    assert Policy.objects.get().failure_threshold == 2


def test_nobody_decides_what_has_expired(route: Route) -> None:
    row = threshold()
    Proposal.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(Conflict, match="expired"):
        proposals.approve(row, by=user("bo"), reason="yes")
    assert proposals.expire() == 1
    assert Proposal.objects.get().state == "expired"


def test_it_waits_as_long_as_the_setting_says(route: Route, settings: Any) -> None:
    settings.PROPOSAL_HOURS = 2
    row = threshold()

    assert abs(row.expires_at - timezone.now() - timedelta(hours=2)) < timedelta(minutes=1)


def test_too_many_that_wait_are_refused(route: Route, monkeypatch: Any) -> None:
    monkeypatch.setattr(proposals, "MOST_WAITING", 1)
    threshold()
    page = change_policy(ana(), failure_threshold=7)

    assert "1 proposals wait already" in text_of(page)
    assert Proposal.objects.count() == 1


def test_the_pump_forgets_what_was_decided_long_ago_and_nothing_that_waits(route: Route) -> None:
    old, young, waiting = threshold(3), threshold(4), threshold(5)
    proposals.withdraw(old, by=user("ana"), reason="")
    proposals.withdraw(young, by=user("ana"), reason="")
    long_ago = timezone.now() - timedelta(days=400)
    Proposal.objects.exclude(pk=young.pk).update(at=long_ago)
    before = timezone.now() - timedelta(days=180)

    assert proposals.forget(before, at_most=10) == 1
    assert set(Proposal.objects.values_list("pk", flat=True)) == {young.pk, waiting.pk}


# --- what became of the configuration meanwhile


def test_what_others_changed_since_stays(route: Route) -> None:
    row = threshold()
    policy = Policy.objects.get()
    policy.open_duration_s = 60
    policy.save()
    make_provider("sarvam")
    proposals.approve(row, by=user("bo"), reason="")

    policy.refresh_from_db()
    assert (policy.failure_threshold, policy.open_duration_s) == (5, 60)
    assert Provider.objects.filter(slug="sarvam").exists()


def test_the_same_value_changed_since_is_a_conflict_that_is_told(route: Route) -> None:
    row = threshold()
    Policy.objects.update(failure_threshold=3)
    browser = bo()
    page = text_of(browser.get(url("proposal", "change", row.pk)))

    assert "failure_threshold was 2 when this was proposed and is 3 now" in page
    assert "Approve: do it now" not in page
    with pytest.raises(Invalid):
        proposals.approve(row, by=user("bo"), reason="")
    assert Policy.objects.get().failure_threshold == 3


def test_what_has_become_impossible_is_told_and_not_done(route: Route) -> None:
    before = configuration.build()
    after = configuration.build()
    after["routes"]["breeze"]["steps"].append({"provider": "sarvam", "settings": {}})
    row = proposals.propose(user("ana"), "", before, after)
    page = text_of(bo().get(url("proposal", "change", row.pk)))

    assert "sarvam" in page
    assert "Approve: do it now" not in page
    assert Route.objects.get().steps.count() == 2


def test_only_what_was_shown_is_approved(route: Route) -> None:
    row = threshold()
    page = decide(bo(), row, "approve", shown="something else")

    assert "has changed since this page was shown" in text_of(page)
    assert Policy.objects.get().failure_threshold == 2


def test_the_page_says_what_approving_would_bring(route: Route) -> None:
    before = configuration.build()
    after = configuration.build()
    del after["routes"]["breeze"]["steps"][1]
    row = proposals.propose(user("ana"), "", before, after)
    page = text_of(bo().get(url("proposal", "change", row.pk)))

    assert "Route breeze has one usable provider, soniox" in page
    assert "route breeze: steps: soniox, deepgram → soniox" in page
    assert RouteStep.objects.count() == 2


def test_a_new_and_a_removed_row_come_to_be_by_approval(route: Route) -> None:
    before = configuration.build()
    after = configuration.build()
    after["routes"]["second"] = after["routes"].pop("breeze")
    row = proposals.propose(user("ana"), "", before, after)
    proposals.approve(row, by=user("bo"), reason="")

    assert [one.slug for one in Route.objects.all()] == ["second"]


# --- where it is told


def test_the_first_page_tells_what_waits(route: Route) -> None:
    row = threshold()
    page = bo().get(reverse("admin:index"))

    assert f"Proposal #{row.pk} by ana waits for a second person" in text_of(page)
    assert url("proposal", "change", row.pk) in page.text


def test_the_list_answers_what_waits_and_tells_hostile_texts_as_text(route: Route) -> None:
    before = configuration.build()
    after = configuration.build()
    after["policies"]["default"]["notes"] = "<script>alert(1)</script>"
    proposals.propose(user("ana"), "<i>why</i>", before, after)
    browser = bo()
    page = browser.get(url("proposal", "changelist"), {"state": "proposed"})
    one = browser.get(url("proposal", "change", Proposal.objects.get().pk))

    assert len(page.context["cl"].result_list) == 1
    for shown in (page, one):
        assert "<script>alert(1)" not in shown.text
        assert "<i>why" not in shown.text
