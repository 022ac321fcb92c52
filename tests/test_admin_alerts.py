"""Alerts in the admin: checked on save, previewed, tested, sent again; orders and dead letters."""

import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from fallback import alerts, history, stream
from fallback.alerts.sender import Sender
from fallback.domain import Kind
from fallback.models import (
    Alert,
    AlertDestination,
    AlertTemplate,
    DeadLetter,
    Incident,
    SlackOperator,
)
from fallback.pump import Pump
from tests.configuration import WHY, make_provider
from tests.events import event, fields, outage
from tests.fake_slack import TOKEN, FakeSlack, shown

pytestmark = pytest.mark.django_db


def url(model: str, page: str, *args: Any) -> str:
    return reverse(f"admin:fallback_{model}_{page}", args=args)


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


@pytest.fixture
def tripped(settings) -> AlertTemplate:
    settings.SLACK_CHANNEL = "C0ALERTS"
    call_command("seed", stdout=open("/dev/null", "w"))  # noqa: SIM115 - a sink
    return AlertTemplate.objects.get(event="tripped")


@pytest.fixture
def slack(settings) -> Any:
    fake = FakeSlack()
    settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = fake.url, TOKEN
    yield fake
    fake.close()


def form(row: AlertTemplate, **changes: Any) -> dict[str, Any]:
    names = ("event", "name", "severity", "title", "body")
    values = {name: getattr(row, name) for name in names} | {"enabled": "on", "mentions": ""}
    return values | WHY | changes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"title": "{nonsense} is out"}, "is no value of"),
        ({"body": "{provider"}, "Expected"),
        ({"body": "x" * 4000}, "Slack takes 3000"),
        ({"mentions": "@oncall"}, "names do not notify"),
        ({"body": "<!channel>"}, "field below"),
    ],
)
def test_a_template_that_cannot_be_sent_is_not_saved_and_says_why(
    admin_client: Client, tripped, changes, says
) -> None:
    page = admin_client.post(url("alerttemplate", "change", tripped.pk), form(tripped, **changes))
    before = tripped.title
    tripped.refresh_from_db()

    assert says in text_of(page)
    assert tripped.title == before


def test_mentions_are_typed_with_commas_in_slack_s_syntax_or_by_id(admin_client, tripped) -> None:
    typed = "@here, <!subteam^S0ONCALL|@oncall>, U0ANA, U0ANA"
    admin_client.post(
        url("alerttemplate", "change", tripped.pk), form(tripped, mentions=typed)
    )  # fmt: skip
    tripped.refresh_from_db()

    assert tripped.mentions == ["here", "S0ONCALL", "U0ANA"]


def test_the_form_shows_a_template_as_slack_would_for_a_sample(admin_client, tripped) -> None:
    page = text_of(admin_client.get(url("alerttemplate", "change", tripped.pk)))

    assert "soniox is out: new calls go elsewhere" in page
    assert "Force open Force closed Back to automatic Acknowledge" in page
    assert "{failures} weighted failures in the window" in page


def test_the_preview_is_of_a_real_event_where_there_is_one(admin_client, tripped) -> None:
    history.record([event(1, provider="vosk", reason="{x} <b>bold</b> <!channel>")])
    page = admin_client.get(url("alerttemplate", "change", tripped.pk)).content.decode()

    assert "vosk is out" in page
    assert "{x} &lt;b&gt;bold&lt;/b&gt; &lt;!channel&gt;" in page


def test_what_is_being_written_is_previewed_with_what_is_wrong_with_it(
    admin_client, tripped
) -> None:
    asked = form(tripped, title="*{provider}* <script>", body="{nonsense}", preview_of="sample")
    page = admin_client.post(url("alerttemplate", "preview"), asked).content.decode()

    assert "<b>soniox</b>" in page
    assert "&lt;script&gt;" in page
    assert "{nonsense} is no value of" in page


@pytest.mark.parametrize("choice", ["", "t", "t999", "axyz", "t" * 99, "sample"])
def test_a_preview_of_what_is_not_there_is_of_the_sample(admin_client, tripped, choice) -> None:
    asked = form(tripped, preview_of=choice)

    page = admin_client.post(url("alerttemplate", "preview"), asked)
    assert "soniox is out" in text_of(page)


def test_a_preview_is_for_those_who_may_see_templates(client, tripped) -> None:
    answer = client.post(url("alerttemplate", "preview"), form(tripped))

    assert answer.status_code == 302


def test_a_test_goes_to_slack_marked_as_one_and_mentions_nobody(
    admin_client, tripped, slack
) -> None:
    page = url("alerttemplate", "change", tripped.pk)
    admin_client.post(page, form(tripped, mentions="here", _send_test="1"))
    Sender().turn()
    (message,) = slack.roots()

    assert "This is a test" in shown(message)
    assert "soniox is out" in shown(message)
    assert "<!here>" not in str(message)
    assert Alert.objects.get().status == "sent"


def test_without_slack_the_lists_say_what_is_missing(admin_client, tripped) -> None:
    for model in ("alerttemplate", "alertdestination", "alert", "slackoperator"):
        assert "SLACK_BOT_TOKEN is not set" in text_of(admin_client.get(url(model, "changelist")))


def test_what_was_not_delivered_is_listed_and_sent_again(admin_client, tripped, slack) -> None:
    AlertDestination.objects.update(channel="C0GONE")
    alerts.notify(history.record(outage()[:1]))
    Sender().turn()
    listed = text_of(admin_client.get(url("alert", "changelist") + "?status__exact=dead"))
    slack.channels["C0GONE"] = "back"
    dead = Alert.objects.get()
    chosen = {"action": "send_again", "_selected_action": [dead.pk]}
    done = admin_client.post(url("alert", "changelist"), chosen, follow=True)
    Sender().turn()

    assert "not delivered" in listed
    assert "channel_not_found" in listed
    assert "1 of 1 will be sent again" in text_of(done)
    assert len(slack.roots("C0GONE")) == 1
    assert "sent" in text_of(admin_client.get(url("alert", "change", dead.pk)))


def test_destinations_and_operators_are_checked(admin_client, tripped) -> None:
    bad = {"name": "x", "kind": "slack", "channel": "stt alerts", "remind_every_min": 30}
    page = admin_client.post(url("alertdestination", "add"), bad)
    other = admin_client.post(url("slackoperator", "add"), {"name": "ana", "slack_user": "ana"})

    assert "channel's id" in text_of(page).replace("&#x27;", "'")
    assert "Slack member id" in text_of(other)
    assert SlackOperator.objects.count() == 0
    assert AlertDestination.objects.count() == 1


def test_a_provider_s_history_says_who_ordered_what_from_where_and_why(admin_client) -> None:
    provider = make_provider("soniox")
    actors = ["admin:ana", "slack:ben", "api:ops"]
    for number, actor in enumerate(actors, start=1):
        told = event(number, name="override_set", after="forced_open", actor=actor,
                     reason=f"why {number}", cause="override")  # fmt: skip
        history.record([told])
    page = text_of(admin_client.get(url("provider", "history", provider.pk)))

    assert re.search(r"ana admin override set ■ forced open why 1", page)
    assert re.search(r"ben Slack override set ■ forced open why 2", page)
    assert re.search(r"ops REST override set ■ forced open why 3", page)


def test_an_incident_says_who_acknowledged_it_and_who_ordered_what(
    admin_client, tripped, slack
) -> None:
    told = outage()[0]
    order = event(2, name="override_set", before="open", after="forced_open", actor="slack:ben",
                  reason="bad audio", cause="override", incident=told.id)  # fmt: skip
    alerts.notify(history.record([told, order]))
    alerts.acknowledge(Alert.objects.first().thread, "slack:ana")
    page = text_of(admin_client.get(url("incident", "change", Incident.objects.get().pk)))

    assert "slack:ana" in page
    assert "slack:ben" in page
    assert "bad audio" in page


@pytest.mark.django_db(transaction=True)
def test_a_dead_letter_is_put_back_and_carried(admin_client, redis_client) -> None:
    letter = DeadLetter.objects.create(kind="stt", entry_id="1-1", fields=fields(event(1)))
    chosen = {"action": "replay", "_selected_action": [letter.pk]}
    page = admin_client.post(url("deadletter", "changelist"), chosen, follow=True)
    Pump("one").turn()
    letter.refresh_from_db()

    assert "1 of 1 put back" in text_of(page)
    assert Incident.objects.count() == 1
    assert letter.replayed_at
    assert stream.lag(Kind.STT).entries == 0


@pytest.mark.parametrize(
    "model", ["alerttemplate", "alertdestination", "alert", "slackoperator", "deadletter"]
)
def test_no_page_holds_anything_inline_that_the_policy_would_block(
    admin_client, tripped, model
) -> None:
    pages = [url(model, "changelist")]
    if model == "alerttemplate":
        pages.append(url(model, "change", tripped.pk))
    for page in pages:
        html = admin_client.get(page).content.decode()
        assert "<style" not in html
        assert " style=" not in html
        assert not re.search(r"<script(?![^>]*(?:src=|type=.application/json))", html)
