"""The admin as a tool: questions that filter, numbers that lead to what is behind them, and the
first page, which opens on what needs attention."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fallback import catalog, services, status
from fallback.admin import attention
from fallback.domain import Kind, State
from fallback.models import (
    Alert,
    AlertDestination,
    AlertTemplate,
    AlertThread,
    ApiKey,
    DeadLetter,
    Incident,
    Policy,
    Provider,
    ProviderMinute,
    Route,
)
from fallback.stats.counts import no_latencies
from tests.configuration import make_policy, make_provider, make_route
from tests.rest import api, outcome
from tests.test_admin import text_of

pytestmark = pytest.mark.django_db(transaction=True)


def url(model: str, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def ready() -> None:
    catalog.reload()
    services.publish_configuration()


def force(provider: str, state: State = State.FORCED_OPEN, for_s: int | None = 60) -> None:
    services.set_override(
        Kind.STT, provider, state=state, reason="drill", for_s=for_s, by="admin:bo"
    )


def rows_of(browser: Client, model: str, **asked: str) -> list[str]:
    """Return what a list shows for a question, by the rows' own names."""
    page = browser.get(url(model), asked)
    return [str(row) for row in page.context["cl"].result_list]


def incident(provider: str = "soniox", **columns: Any) -> Incident:
    number = Incident.objects.count()
    given = {"opened_at": timezone.now(), "cause": "failure_threshold"} | columns
    return Incident.objects.create(key=f"i{number}", provider=provider, **given)


def acknowledged(row: Incident, by: str = "slack:ana") -> None:
    place, _ = AlertDestination.objects.get_or_create(name="on-call", channel="C0123ABC")
    AlertThread.objects.create(
        destination=place, key=row.key, incident_key=row.key, opened_at=row.opened_at,
        acknowledged_by=by, acknowledged_at=timezone.now(),
    )  # fmt: skip


# --- questions


@pytest.fixture
def fleet() -> None:
    """Save two routes: one over soniox and deepgram, one over sarvam alone; and openai unused."""
    make_route("breeze", "soniox", "deepgram")
    make_route("solo", "sarvam")
    trial = make_policy("trial", shadow=True)
    make_provider("openai", policy=trial)
    make_provider("gone", enabled=False)
    ready()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("out", ["soniox"]),
        ("overridden", ["deepgram", "soniox"]),
        ("failing", ["sarvam"]),
        ("alone", ["sarvam"]),
        ("unused", ["openai"]),
        ("shadow", ["deepgram", "openai"]),
        ("off", ["gone"]),
    ],
)
def test_providers_answer(admin_client: Client, fleet: None, question: str, answer: Any) -> None:
    force("soniox")
    force("deepgram", State.SHADOW)
    at = timezone.now().replace(second=0, microsecond=0)
    ProviderMinute.objects.create(
        kind="stt", provider="sarvam", at=at, calls=9, failures=2,
        latencies=no_latencies(),
    )  # fmt: skip

    assert rows_of(admin_client, "provider", which=question) == answer


@pytest.mark.parametrize(
    ("question", "answer"), [("diverted", ["breeze"]), ("one", ["solo"]), ("off", ["bare"])]
)
def test_routes_answer(admin_client: Client, fleet: None, question: str, answer: Any) -> None:
    make_route("bare", "openai", "deepgram", fallback_enabled=False)
    ready()
    force("soniox")

    assert rows_of(admin_client, "route", which=question) == answer


def test_routes_are_found_by_a_provider_of_their_chain(admin_client: Client, fleet: None) -> None:
    sarvam = Provider.objects.get(slug="sarvam")

    assert rows_of(admin_client, "route", provider=str(sarvam.pk)) == ["solo"]
    assert rows_of(admin_client, "route", q="deepgram") == ["breeze"]


def test_a_diverted_route_says_from_where_to_where(admin_client: Client, fleet: None) -> None:
    force("soniox")

    assert "deepgram , as soniox is out" in text_of(admin_client.get(url("route")))


@pytest.mark.parametrize(("question", "answer"), [("unused", ["idle"]), ("shadow", ["trial"])])
def test_policies_answer(admin_client: Client, fleet: None, question: str, answer: Any) -> None:
    make_policy("idle")

    assert rows_of(admin_client, "policy", which=question) == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("going-on", ["new", "taken"]),
        ("unacknowledged", ["new"]),
        ("long", ["ended"]),
        ("over", ["ended", "short"]),
        ("hurt", ["short"]),
    ],
)
def test_incidents_answer(admin_client: Client, question: str, answer: Any) -> None:
    now = timezone.now()
    incident("new")
    acknowledged(incident("taken"))
    incident("short", opened_at=now - timedelta(hours=2), hurt=3,
             closed_at=now - timedelta(minutes=110))  # fmt: skip
    incident("ended", opened_at=now - timedelta(hours=2), closed_at=now)
    page = admin_client.get(url("incident"), {"state": question})

    assert sorted(row.provider for row in page.context["cl"].result_list) == answer


def test_an_incident_says_whose_it_is(admin_client: Client) -> None:
    acknowledged(incident())

    assert "slack:ana" in text_of(admin_client.get(url("incident")))


@pytest.mark.parametrize(("question", "answer"), [("off", ["Quiet"]), ("loud", ["Loud"])])
def test_templates_answer(admin_client: Client, question: str, answer: Any) -> None:
    AlertTemplate.objects.create(event="probing", name="Quiet", title="t", enabled=False)
    AlertTemplate.objects.create(event="tripped", name="Loud", title="t", severity="critical")

    assert rows_of(admin_client, "alerttemplate", which=question) == answer


@pytest.mark.parametrize(
    ("question", "answer"), [("expiring", ["soon"]), ("idle", ["old", "soon"])]
)
def test_keys_answer(admin_client: Client, question: str, answer: Any) -> None:
    now = timezone.now()
    ApiKey.objects.create(name="used", public="a", last_used_at=now)
    ApiKey.objects.create(name="old", public="b", last_used_at=now - timedelta(days=40))
    ApiKey.objects.create(name="soon", public="c", expires_at=now + timedelta(days=2))

    assert rows_of(admin_client, "apikey", which=question) == answer


def test_dead_letters_answer(admin_client: Client) -> None:
    DeadLetter.objects.create(kind="stt", entry_id="1-1", problem="no JSON")
    DeadLetter.objects.create(kind="stt", entry_id="2-1", problem="x", replayed_at=timezone.now())

    assert rows_of(admin_client, "deadletter", which="waiting") == ["stt 1-1: no JSON"]


@pytest.mark.parametrize("model", ["provider", "route", "policy", "incident", "alertdestination"])
def test_an_unknown_question_hides_nothing(admin_client: Client, fleet: None, model: str) -> None:
    page = admin_client.get(url(model), {"which": "'; --", "state": "x", "provider": "x"})

    assert page.status_code in {200, 302, 400}  # a list that has no such filter refuses it


# --- numbers that lead to what is behind them


def test_the_failures_of_a_provider_are_listed_one_by_one(admin_client: Client) -> None:
    make_route("breeze-buddy", "soniox", "deepgram")
    ready()
    hostile = "<script>alert(1)</script>"
    api().report(outcome(call_id=hostile, reason="auth"), outcome(call_id="c2", reason="timeout"))
    soniox = Provider.objects.get(slug="soniox")
    page = admin_client.get(url("provider", "failures", soniox.pk))

    assert hostile not in page.text
    assert "auth init failure" in text_of(page)
    assert "timeout init failure" in text_of(page)


def test_the_list_leads_to_the_failures_in_the_window_and_of_the_hour(
    admin_client: Client, fleet: None
) -> None:
    soniox = Provider.objects.get(slug="soniox")
    at = timezone.now().replace(second=0, microsecond=0)
    ProviderMinute.objects.create(
        kind="stt", provider="soniox", at=at, calls=1200, failures=2,
        latencies=no_latencies(),
    )  # fmt: skip
    page = admin_client.get(url("provider")).text

    assert f'{url("provider", "failures", soniox.pk)}?last_s=240">0 of 2 in 240 s' in page
    assert f'{url("provider", "failures", soniox.pk)}?last_s=3600">2 failed, 1,200 calls' in page


@pytest.mark.parametrize(
    "asked",
    [{"last_s": "99999999"}, {"last_s": "-1"}, {"until": "yesterday"}, {"until": "0001-01-01"},
     {"until": "2026-11-22T12:00:00"}, {"last_s": "9" * 40}],
)  # fmt: skip
def test_a_span_that_makes_no_sense_is_answered_all_the_same(
    admin_client: Client, asked: dict[str, str]
) -> None:
    soniox = make_provider("soniox")

    assert admin_client.get(url("provider", "failures", soniox.pk), asked).status_code == 200


def test_an_incident_leads_to_its_failures_alerts_and_provider(
    admin_client: Client, fleet: None
) -> None:
    began = timezone.now() - timedelta(hours=3)
    row = incident(opened_at=began, first_failure_at=began - timedelta(seconds=9),
                   closed_at=began + timedelta(seconds=51))  # fmt: skip
    page = admin_client.get(url("incident", "change", row.pk)).text

    assert "failures/?last_s=61&amp;until=" in page
    assert f"{url('alert')}?q={row.key}" in page
    assert admin_client.get(url("alert"), {"q": row.key}).status_code == 200


def test_what_waits_for_a_destination_is_a_link_to_it(admin_client: Client) -> None:
    acknowledged(incident())
    thread = AlertThread.objects.get()
    for number in range(3):
        Alert.objects.create(
            event_id=f"e{number}", event="tripped", destination=thread.destination, thread=thread,
            at=timezone.now(), status="pending" if number else "sent",
        )  # fmt: skip
    place = thread.destination_id
    page = admin_client.get(url("alertdestination")).text

    assert f'?status__exact=pending&amp;destination__id__exact={place}">2</a>' in page or (
        f'?status__exact=pending&destination__id__exact={place}">2</a>' in page
    )


# --- no query for each row


@pytest.mark.parametrize(
    "model", ["provider", "route", "policy", "incident", "alertdestination", "alerttemplate"]
)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    admin_client: Client, model: str
) -> None:
    def queries() -> int:
        ready()
        admin_client.get(url(model))  # what is asked once in a process
        with CaptureQueriesContext(connection) as found:
            admin_client.get(url(model))
        return len(found)

    def grow(number: int) -> None:
        policy = make_policy(f"p{number}")
        make_provider(f"a{number}", policy=policy)
        make_provider(f"b{number}", policy=policy)
        make_route(f"r{number}", f"a{number}", f"b{number}")
        incident(f"a{number}")
        AlertDestination.objects.create(name=f"d{number}", channel="C0123ABC")

    grow(0)
    few = queries()
    for number in range(1, 9):
        grow(number)

    assert queries() == few


# --- the first page


def said(browser: Client) -> str:
    return text_of(browser.get(reverse("admin:index")))


def test_a_quiet_day_is_said(admin_client: Client) -> None:
    make_route("breeze", "soniox", "deepgram")
    ready()

    assert "Nothing needs attention: all is well" in said(admin_client)


def unfinished() -> None:
    force("soniox", for_s=None)


def hanging() -> None:
    Route.objects.get().steps.get(provider__slug="deepgram").delete()


def unreadable() -> None:
    DeadLetter.objects.create(kind="stt", entry_id="1-1", problem="no JSON")


def dead() -> None:
    acknowledged(incident(closed_at=timezone.now()))
    thread = AlertThread.objects.get()
    Alert.objects.create(event_id="e", event="tripped", destination=thread.destination,
                         thread=thread, at=timezone.now(), status="dead")  # fmt: skip


def troubled() -> None:
    AlertDestination.objects.create(name="on-call", channel="#gone", problem="channel_not_found")


def silenced() -> None:
    AlertTemplate.objects.create(event="tripped", name="Tripped", title="t", enabled=False)


def expiring() -> None:
    soon = timezone.now() + timedelta(days=1)
    ApiKey.objects.create(name="pods", public="x", expires_at=soon)


@pytest.mark.parametrize(
    ("happens", "told", "to"),
    [
        (incident, "acknowledged by nobody", "incident"),
        (unfinished, "held forced open by admin:bo with no end: “drill”", "provider"),
        (hanging, "Route breeze has one usable provider, soniox", "route"),
        (lambda: Policy.objects.update(shadow=True), "no outage moves a call of it", "policy"),
        (lambda: Route.objects.update(fallback_enabled=False), "switched off, so that", "route"),
        (unreadable, "1 event could not be carried", "deadletter"),
        (dead, "1 alert of the last 24 h could not be delivered", "alert"),
        (troubled, "Alerts to on-call (#gone) have trouble: channel_not_found", "alertdestination"),
        (silenced, "The alert template of tripped is switched off", "alerttemplate"),
        (expiring, "API key pods expires", "apikey"),
    ],
)
def test_what_needs_attention_is_said_with_a_link_to_it(
    admin_client: Client, happens: Any, told: str, to: str
) -> None:
    make_route("breeze", "soniox", "deepgram")
    ready()
    happens()
    ready()
    page = admin_client.get(reverse("admin:index"))

    assert told in text_of(page)
    assert any(item.model == to and item.url in page.text for item in page.context["items"])


def test_a_pump_that_lags_is_said(admin_client: Client) -> None:
    make_route()
    body = {**status.build(), "breakers": [], "pump_lag_s": 75.0}
    user: Any = type("User", (), {"has_perm": lambda *_: True})()

    found = attention.items(user, body)

    assert [item.text.split(":")[0] for item in found] == ["The pump is 1 min 15 s behind"]


def test_slack_by_halves_is_said_and_slack_off_is_no_alarm(
    admin_client: Client, settings: Any
) -> None:
    make_route("breeze", "soniox", "deepgram")
    ready()
    assert "Slack is off" in said(admin_client)

    settings.SLACK_BOT_TOKEN = "xoxb-1"

    assert "Slack: SLACK_SIGNING_SECRET is not set" in said(admin_client)


def test_nobody_is_told_of_what_they_may_not_see(admin_client: Client) -> None:
    incident()
    user: Any = type("User", (), {"has_perm": lambda *_: False})()

    assert attention.items(user, status.build()) == []


def test_the_first_page_takes_as_many_queries_for_much_as_for_little(
    admin_client: Client,
) -> None:
    def queries() -> int:
        ready()
        said(admin_client)
        with CaptureQueriesContext(connection) as found:
            said(admin_client)
        return len(found)

    def grow(number: int) -> None:
        make_route(f"r{number}", f"a{number}", f"b{number}", fallback_enabled=False)
        incident(f"a{number}")
        ready()
        force(f"a{number}", for_s=None)

    grow(0)
    few = queries()
    for number in range(1, 20):
        grow(number)

    assert queries() == few <= 30
