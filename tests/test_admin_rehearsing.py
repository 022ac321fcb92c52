"""What a policy's page asks before it is saved: judged by its form's own rules, saving nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fallback import catalog, services
from fallback.domain import Outcome, OutcomeKind, Reason
from fallback.models import Incident, Policy, Rehearsal
from tests.configuration import make_policy, make_provider, make_route
from tests.test_admin import inline_parts, policy_form, text_of, url

NOTHING_COUNTS = {f"reasons-{number}-weight": 0 for number in range(len(Reason))}
NOTHING_COUNTS |= {f"reasons-{number}-trips_at_once": None for number in range(len(Reason))}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    """Run soniox, whose policy this is, before deepgram on a route."""
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    row = make_policy(failure_threshold=5)
    soniox, deepgram = make_provider("soniox"), make_provider("deepgram", policy=make_policy("b"))
    make_route("breeze", soniox, deepgram)
    catalog.reload()
    services.publish_configuration()
    return row


@pytest.fixture
def post(admin_client: Client, policy: Policy) -> Callable[..., Any]:
    """Return what posts the form of the policy to one of its addresses."""

    def send(page: str, *, client: Client = admin_client, **values: Any) -> Any:
        form = {"name": "default", "failure_threshold": 5} | values
        return client.post(address(page, policy), policy_form(**form))

    return send


def address(page: str, policy: Policy, *args: int) -> str:
    return reverse(f"admin:fallback_policy_{page}", args=[policy.pk, *args])


def fail(calls: int) -> None:
    for number in range(calls):
        report = Outcome(str(number), str(number), "soniox", OutcomeKind.INIT_FAILURE,
                         Reason.CONNECTION, host=f"h{number}")  # fmt: skip
        services.report_outcomes([report])


def test_the_page_says_what_unsaved_values_would_do_now(post: Any) -> None:
    fail(3)
    body = post("now", failure_threshold=3).json()

    assert "soniox would be open now, until" in body["breakers"][0]["sentence"]
    assert body["routes"] == [
        {"route": "breeze", "before": ["soniox", "deepgram"], "after": ["deepgram", "soniox"],
         "starts_elsewhere": True}
    ]  # fmt: skip
    assert Policy.objects.get(name="default").failure_threshold == 5


def test_unsaved_what_counts_rows_are_judged_too(post: Any) -> None:
    fail(1)
    row = list(Reason).index(Reason.CONNECTION)
    body = post("now", **{f"reasons-{row}-trips_at_once": "on"}).json()

    assert "connection trips at once" in body["breakers"][0]["sentence"]


@pytest.mark.parametrize(("page", "status"), [("now", 200), ("rehearse", 400)])
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"failure_threshold": "many"}, "failure_threshold"),
        ({"open_duration_s": 9000}, "open_duration_max_s"),
        ({"reasons-2-weight": 11}, "reasons-2-weight"),
        (NOTHING_COUNTS, "reasons"),
        ({"failure_threshold": "{{7*7}}<script>\x00" + "9" * 100_000}, "failure_threshold"),
    ],
)
def test_values_that_cannot_be_saved_are_told_by_field_and_nothing_runs(
    post: Any, page: str, status: int, values: dict[str, Any], field: str
) -> None:
    response = post(page, rehearsal_what="rehearse", rehearsal_span="7d", **values)

    assert response.status_code == status
    assert list(response.json()["problems"]) == [field]
    assert not Rehearsal.objects.exists()


def test_what_is_no_threshold_does_not_matter_before_saving(post: Any) -> None:
    assert post("now", name="").status_code == 200


def test_redis_away_is_said(post: Any, redis_client: Any) -> None:
    redis_client.execute_command("CLIENT", "PAUSE", 3_000, "ALL")
    response = post("now")
    redis_client.ping()  # until it answers again

    assert response.status_code == 503
    assert "Redis cannot be reached" in response.json()["detail"]


def test_a_rehearsal_is_put_into_the_queue_with_the_values_in_the_form(post: Any) -> None:
    response = post("rehearse", rehearsal_what="rehearse", rehearsal_span="7d", failure_window_s=60)

    job = Rehearsal.objects.get()
    assert response.status_code == 202
    assert (job.state, job.span, job.what) == ("waiting", "7d", "rehearse")
    assert job.proposed["failure_window_s"] == 60


def test_a_second_one_of_the_same_person_is_refused_and_leads_to_the_first(post: Any) -> None:
    first = post("rehearse", rehearsal_what="rehearse", rehearsal_span="7d").json()
    second = post("rehearse", rehearsal_what="suggest", rehearsal_span="24h")

    assert second.status_code == 409
    assert "You have one on this policy" in second.json()["detail"]
    assert second.json()["rehearsal"]["url"] == first["url"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rehearsal_span": "9y"}, "There is no span"),
        ({"rehearsal_span": "incident"}, "has had an incident"),
        ({"rehearsal_what": "guess"}, "to rehearse or to suggest"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(post: Any, values: dict[str, Any], says: str) -> None:
    asked = {"rehearsal_what": "rehearse", "rehearsal_span": "7d"} | values
    response = post("rehearse", **asked)

    assert response.status_code == 400
    assert says in response.json()["detail"]
    assert not Rehearsal.objects.exists()


def test_the_page_says_that_no_pump_runs(post: Any, admin_client: Client) -> None:
    job = post("rehearse", rehearsal_what="rehearse", rehearsal_span="7d").json()

    assert "no pump runs" in admin_client.get(job["url"]).json()["waits_for"]


def test_one_that_waits_is_stopped_at_once(post: Any, admin_client: Client) -> None:
    job = post("rehearse", rehearsal_what="rehearse", rehearsal_span="7d").json()
    answer = admin_client.post(job["stop_url"]).json()

    assert (answer["state"], answer["is_unfinished"]) == ("stopped", False)


def test_a_page_opened_again_takes_up_what_is_going_on(
    post: Any, admin_client: Client, policy: Policy
) -> None:
    job = post("rehearse", rehearsal_what="rehearse", rehearsal_span="7d").json()
    page = admin_client.get(url("policy", "change", policy.pk))

    assert f'data-going-on-url="{job["url"]}"' in page.content.decode()
    assert inline_parts(page) == []


def test_without_javascript_the_page_says_that_it_needs_it(
    admin_client: Client, policy: Policy
) -> None:
    page = admin_client.get(url("policy", "change", policy.pk))

    assert "This part needs JavaScript" in text_of(page)


@pytest.mark.parametrize("codename", ["view_policy", ""])
def test_it_takes_the_right_to_change_policies(
    post: Any, client: Client, django_user_model: Any, codename: str, policy: Policy
) -> None:
    user = django_user_model.objects.create_user("vera", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename=codename))
    client.force_login(user)

    assert post("now", client=client).status_code == 403
    assert post("rehearse", client=client, rehearsal_what="rehearse").status_code == 403
    if codename:
        page = client.get(url("policy", "change", policy.pk)).content.decode()
        assert 'id="rehearsal"' not in page


def test_strangers_are_sent_to_the_door(client: Client, post: Any) -> None:
    assert post("now", client=client).status_code == 302


def test_a_post_from_another_site_is_refused(admin_user: Any, post: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert post("now", client=client).status_code == 403


def test_an_incident_leads_to_its_policy_with_a_span_that_holds_it(
    admin_client: Client, policy: Policy
) -> None:
    rows = [
        Incident.objects.create(
            key=str(days), provider="soniox", cause="failure_threshold",
            opened_at=timezone.now() - timedelta(days=days),
        )
        for days in (0, 3, 40)
    ]  # fmt: skip
    pages = [admin_client.get(url("incident", "change", row.pk)).content.decode() for row in rows]
    target = url("policy", "change", policy.pk)

    assert f"{target}?rehearse=incident#rehearsal" in pages[0]
    assert f"{target}?rehearse=7d#rehearsal" in pages[1]
    assert "?rehearse=" not in pages[2]
    shown = admin_client.get(f"{target}?rehearse=incident").content.decode()
    assert 'value="incident" checked' in shown
