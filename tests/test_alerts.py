"""Every event told once: the outbox, the sender, and a Slack that fails as the real one does."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from fallback import alerts, history, stream
from fallback.alerts.claims import Timing
from fallback.alerts.door import TIMEOUT_S
from fallback.alerts.sender import Sender
from fallback.domain import Event
from fallback.holding import BEAT_S
from fallback.models import Alert, AlertDestination, AlertTemplate, AlertThread, Incident
from tests.configuration import make_provider, make_route
from tests.events import event, outage
from tests.fake_slack import RETRY_AFTER_S, TOKEN, FakeSlack, shown

pytestmark = pytest.mark.django_db


class Clock:
    """The present, and as much later as a test says."""

    later_s = 0.0

    def __call__(self):
        return timezone.now() + timedelta(seconds=self.later_s)


@pytest.fixture
def slack(settings) -> Iterator[FakeSlack]:
    fake = FakeSlack()
    settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = fake.url, TOKEN
    settings.SLACK_CHANNEL = "C0ALERTS"
    settings.PUBLIC_URL = "http://testserver"
    call_command("seed", stdout=open("/dev/null", "w"))  # noqa: SIM115 - a sink
    yield fake
    fake.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sender(slack, clock) -> Sender:
    slack.now = lambda: clock().timestamp()
    return Sender(now=clock)


def recent(*told: Event) -> list[Event]:
    """Return events as if they had just happened, a few milliseconds apart."""
    now = int(time.time() * 1000) - 100
    return [replace(one, at_ms=now + i) for i, one in enumerate(told)]


def carry(*told: Event) -> None:
    """Do with events what the pump does."""
    alerts.notify(history.record(list(told)))


def work(sender: Sender, clock: Clock, seconds: float = 0) -> None:
    """Let time pass and everything due be done."""
    clock.later_s += seconds
    for _ in range(10):
        if not sender.turn():
            break


def statuses() -> dict[str, int]:
    rows = Alert.objects.values_list("status", flat=True)
    return {status: list(rows).count(status) for status in set(rows)}


# --- one outage


def test_an_outage_is_one_message_kept_current_and_told_in_its_thread(slack, sender, clock):
    for told in recent(*outage()):
        carry(told)
        work(sender, clock, 5)

    assert len(slack.roots()) == 1
    assert len(slack.replies()) == 4
    said = shown(slack.roots()[0])
    assert "soniox is back after" in said
    assert "State: closed" in said
    assert "40 diverted, 6 hurt, 4 saved" in said
    assert "Force open" not in said
    assert AlertThread.objects.get().due_at is None


def test_while_it_is_out_the_message_has_the_facts_and_the_buttons(slack, sender, clock):
    (trip,) = recent(outage()[0])
    carry(replace(trip, evidence={**trip.evidence, "reasons": {"connection": 2, "timeout": 1}}))
    work(sender, clock)
    said = shown(slack.roots()[0])

    assert "soniox is out" in said
    assert "State: open since" in said
    assert "0 diverted, 2 hurt, 0 saved" in said
    assert "connection 2, timeout 1" in said
    assert "[Force open] [Force closed] [Back to automatic] [Acknowledge]" in said
    assert f"Incident #{Incident.objects.get().pk}" in said


def test_counts_that_rise_without_an_event_are_shown(slack, sender, clock):
    carry(*recent(outage()[0]))
    work(sender, clock)
    Incident.objects.update(diverted=77)
    work(sender, clock, 61)

    assert "77 diverted" in shown(slack.roots()[0])
    assert slack.replies() == []


def test_the_same_events_again_are_not_told_again(slack, sender, clock):
    told = recent(event(9, name="provider_failure", after="closed", incident=""), *outage())
    for _ in range(3):
        carry(*told)
        alerts.notify(told)
        work(sender, clock, 5)

    assert Alert.objects.count() == 6
    assert len(slack.roots()) == 1


def test_a_failure_opens_the_message_and_the_trip_takes_it_over(slack, sender, clock):
    seen = {"failures": 1, "failure_threshold": 2, "failure_window_s": 240}
    failure, trip = recent(
        event(1, name="provider_failure", after="closed", incident="", evidence=seen), event(2)
    )
    carry(failure)
    work(sender, clock)
    early = shown(slack.roots()[0])
    carry(trip)
    work(sender, clock, 5)

    assert "failure 1 of 2" in early
    assert len(slack.roots()) == 1
    assert "soniox is out" in shown(slack.roots()[0])
    assert len(slack.replies()) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_failure_and_its_trip_make_one_message_in_either_order(slack, sender, clock, order):
    told = recent(event(1, name="provider_failure", after="closed", incident=""), event(2))
    for number in order:
        carry(told[number])
        work(sender, clock, 5)

    assert len(slack.roots()) == 1


def test_a_failure_of_which_nothing_came_says_so_when_its_window_has_passed(slack, sender, clock):
    seen = {"failures": 1, "failure_threshold": 2, "failure_window_s": 240}
    carry(*recent(event(1, name="provider_failure", after="closed", incident="", evidence=seen)))
    work(sender, clock, 200)
    before = shown(slack.roots()[0])
    work(sender, clock, 60)

    assert "Nothing came of it" not in before
    assert "Nothing came of it" in shown(slack.roots()[0])
    assert AlertThread.objects.get().due_at is None


def test_a_storm_is_one_reply_and_one_update(slack, sender, clock):
    carry(*recent(outage()[0]))
    work(sender, clock, 5)
    before = slack.count("chat.update")
    storm = [event(10 + i, name="all_providers_down", incident=event(1).id) for i in range(30)]
    for told in recent(*storm):
        carry(told)
    work(sender, clock, 5)

    assert len(slack.replies()) == 1
    assert "and 10 more" in shown(slack.replies()[0])
    assert slack.count("chat.update") - before <= 1
    assert statuses() == {"sent": 31}


# --- what Slack does


FAULTS = ["429", "500", "500_after", "drop_before", "drop_after", "internal_error", "502_after"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("which", [0, 1])
def test_whatever_becomes_of_a_message_it_is_read_once(slack, sender, clock, fault, which):
    told = recent(*outage()[:2])
    for number, one in enumerate(told):
        if number == which:
            slack.faults["chat.postMessage"].append(fault)
        carry(one)
        for _ in range(4):
            work(sender, clock, 30)

    assert len(slack.roots()) == 1
    assert len(slack.replies()) == 1
    assert statuses() == {"sent": 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_update_that_failed_is_made_later(slack, sender, clock, fault):
    told = recent(*outage()[:2])
    carry(told[0])
    work(sender, clock)
    slack.faults["chat.update"].append(fault)
    carry(told[1])
    for _ in range(4):
        work(sender, clock, 30)

    assert "soniox is being probed" in shown(slack.roots()[0])
    assert len(slack.replies()) == 1


def test_a_long_spell_of_faults_loses_and_doubles_nothing(slack, sender, clock):
    for method in ("chat.postMessage", "chat.update", "conversations.history"):
        slack.faults[method].extend(FAULTS * 2)
    for told in recent(*outage()):
        carry(told)
        work(sender, clock, 5)
    for _ in range(60):
        work(sender, clock, 60)

    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 5}
    keys = [one["metadata"]["event_payload"]["alerts"] for one in slack.messages["C0ALERTS"]]
    told_once = [pk for ids in keys for pk in ids]
    assert sorted(told_once) == sorted(set(told_once))
    assert len(told_once) == 5


def test_a_limit_is_waited_for_and_holds_no_other_channel(slack, sender, clock):
    other = AlertDestination.objects.create(name="other", channel="C0OTHER")
    other.providers.add(make_provider("vosk"))
    AlertTemplate.objects.filter(event="probing").update(destination=other)
    slack.faults["chat.postMessage"].append("429")
    told = recent(*outage()[:2])
    carry(told[0])
    work(sender, clock)
    carry(told[1])
    work(sender, clock, RETRY_AFTER_S - 2)
    early = (len(slack.roots()), len(slack.roots("C0OTHER")))
    work(sender, clock, 3)

    assert early == (0, 1)
    assert len(slack.roots()) == 1


def test_a_message_that_was_deleted_is_posted_anew(slack, sender, clock):
    told = recent(*outage())
    carry(told[0])
    work(sender, clock)
    slack.messages["C0ALERTS"].clear()
    carry(told[1])
    work(sender, clock, 5)
    work(sender, clock, 5)

    assert len(slack.roots()) == 1
    assert "soniox is being probed" in shown(slack.roots()[0])
    assert statuses() == {"sent": 2}


def test_what_can_not_be_delivered_waits_for_an_operator_who_sends_it_again(slack, sender, clock):
    AlertDestination.objects.update(channel="C0GONE")
    carry(*recent(*outage()[:1]))
    work(sender, clock, 60)
    dead = Alert.objects.get()
    asked = slack.count("chat.postMessage")
    work(sender, clock, 600)
    slack.channels["C0GONE"] = "back"
    alerts.send_again([dead])
    work(sender, clock, 5)

    assert (dead.status, dead.problem) == ("dead", "channel_not_found")
    assert asked == 1
    assert len(slack.roots("C0GONE")) == 1
    assert statuses() == {"sent": 1}


def test_a_message_that_cannot_be_looked_for_is_not_sent_again_by_itself(slack, sender, clock):
    slack.faults["chat.postMessage"].append("drop_after")
    slack.faults["conversations.history"].append("missing_scope")
    carry(*recent(*outage()[:1]))
    for _ in range(4):
        work(sender, clock, 60)
    dead = Alert.objects.get()
    alerts.send_again([dead])
    work(sender, clock, 60)

    assert dead.status == "dead"
    assert "missing_scope" in dead.problem
    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 1}


def test_a_channel_given_by_name_is_looked_up_where_an_answer_was_lost(slack, sender, clock):
    AlertDestination.objects.update(channel="#stt-alerts")
    slack.faults["chat.postMessage"].append("drop_after")
    carry(*recent(*outage()[:1]))
    for _ in range(3):
        work(sender, clock, 60)

    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 1}


def test_a_slack_that_is_away_for_a_day_ends_in_the_dead_letters(slack, sender, clock):
    slack.faults["chat.postMessage"].extend(["500"] * 1000)
    carry(*recent(*outage()[:1]))
    for _ in range(30):
        work(sender, clock, 3600)

    assert statuses() == {"dead": 1}


def test_a_claim_that_ran_out_while_the_sender_hung_stores_nothing(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    thread = sender._claimed(AlertThread.objects.get().pk)
    clock.later_s += 100
    work(sender, clock)
    sender._work(thread)

    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 1}


# --- to whom


def test_critical_alerts_mention_and_others_do_not(slack, sender, clock):
    AlertDestination.objects.update(mentions=["here", "S0ONCALL"])
    told = recent(event(1, name="provider_failure", after="closed", incident=""), event(2))
    carry(told[0])
    work(sender, clock)
    early = slack.roots()[0]["text"]
    carry(told[1])
    work(sender, clock, 5)

    assert "<!here>" not in early
    assert slack.replies()[0]["text"].startswith("<!here> <!subteam^S0ONCALL>")
    assert "<!here> <!subteam^S0ONCALL>" in shown(slack.replies()[0])


def test_a_template_s_own_mentions_go_before_the_destination_s(slack, sender, clock):
    AlertDestination.objects.update(mentions=["here"])
    AlertTemplate.objects.filter(event="tripped").update(mentions=["U0ANA"])
    carry(*recent(*outage()[:1]))
    work(sender, clock)

    assert slack.roots()[0]["text"].startswith("<@U0ANA> ")


def test_a_template_switched_off_is_never_sent_and_the_others_do_without_it(slack, sender, clock):
    AlertTemplate.objects.filter(event__in=["tripped", "probing"]).update(enabled=False)
    for told in recent(*outage()):
        carry(told)
        work(sender, clock, 5)

    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 2}
    assert "State: closed" in shown(slack.roots()[0])


def test_a_headline_never_says_what_is_not_so_any_more(slack, sender, clock):
    AlertTemplate.objects.filter(event="recovered").update(enabled=False)
    for told in recent(*outage()):
        carry(told)
        work(sender, clock, 5)

    assert shown(slack.roots()[0]).startswith(":large_green_circle: soniox is back\n")


def test_a_template_switched_off_while_its_alert_waits_is_not_sent(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    AlertTemplate.objects.filter(event="tripped").update(enabled=False)
    work(sender, clock)

    assert slack.roots() == []
    assert statuses() == {"skipped": 1}


def test_a_failure_whose_own_template_is_off_is_told_as_a_failure(slack, sender, clock):
    AlertTemplate.objects.filter(event="init_fallback").update(enabled=False)
    seen = {"outcome": "init_failure", "failures": 1, "failure_threshold": 2}
    carry(*recent(event(1, name="provider_failure", after="closed", incident="", evidence=seen)))
    work(sender, clock)

    assert "soniox failed: failure 1 of 2" in shown(slack.roots()[0])


@pytest.mark.parametrize("noun", ["provider", "route"])
def test_a_provider_or_a_route_can_have_its_own_destination(slack, sender, clock, noun):
    other = AlertDestination.objects.create(name="other", channel="C0OTHER")
    if noun == "provider":
        other.providers.add(make_provider("vosk"))
    else:
        other.routes.add(make_route("vip", make_provider("vosk")))
    trip = event(1, provider="vosk")
    carry(*recent(replace(trip, evidence={**trip.evidence, "route": "vip"})))
    work(sender, clock)

    assert len(slack.roots("C0OTHER")) == 1
    assert slack.roots() == []


# --- who answers


def test_an_incident_that_nobody_acknowledges_is_told_again(slack, sender, clock):
    AlertDestination.objects.update(mentions=["here"])
    carry(*recent(*outage()[:1]))
    work(sender, clock)
    for _ in range(4):
        work(sender, clock, 16 * 60)

    assert len(slack.replies()) == 2
    assert "Still open: soniox, for" in shown(slack.replies()[0])
    assert slack.replies()[0]["text"].startswith("<!here>")


def test_who_acknowledges_stops_the_reminders_and_stands_in_the_message(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    work(sender, clock)
    first = alerts.acknowledge(AlertThread.objects.get(), "slack:ana")
    second = alerts.acknowledge(AlertThread.objects.get(), "slack:ben")
    for _ in range(4):
        work(sender, clock, 16 * 60)

    assert (first, second) == ("slack:ana", "slack:ana")
    assert slack.replies() == []
    assert "Acknowledged by: slack:ana" in shown(slack.roots()[0])
    assert "[Acknowledge]" not in shown(slack.roots()[0])


# --- bounds


def test_without_slack_nothing_is_kept(settings):
    call_command("seed", stdout=open("/dev/null", "w"))  # noqa: SIM115 - a sink
    AlertDestination.objects.create(name="slack", channel="C0ALERTS")
    carry(*recent(*outage()))

    assert Alert.objects.count() == 0
    assert Incident.objects.count() == 1
    assert "SLACK_BOT_TOKEN is not set" in alerts.missing()[0]


def test_a7_beyond_a_thousand_that_wait_texts_are_short_and_none_is_dropped(
    slack, sender, clock, monkeypatch
):
    monkeypatch.setattr("fallback.alerts.outbox.WAITING_MAX", 2)
    carry(*recent(*outage()))
    values = [row.values for row in Alert.objects.order_by("at")]
    for _ in range(5):
        work(sender, clock, 5)

    assert ["incident" in one or "trips" in one for one in values] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert statuses() == {"sent": 5}
    assert "soniox is still out: a probe failed" in shown(slack.replies()[0])


def test_a7_beyond_ten_thousand_only_the_most_important_are_told_one_by_one(
    slack, sender, clock, monkeypatch
):
    monkeypatch.setattr("fallback.alerts.outbox.WAITING_MAX", 0)
    monkeypatch.setattr("fallback.alerts.outbox.FOLDED_FROM", 0)
    carry(*recent(*outage()))
    for _ in range(5):
        work(sender, clock, 5)
    kept = Alert.objects.exclude(status="folded").order_by("at")

    assert statuses() == {"sent": 2, "folded": 3}
    assert [row.event for row in kept] == ["tripped", "recovered"]
    assert all(row.values.get("trips") for row in kept)
    assert "soniox is back" in shown(slack.roots()[0])
    assert "State: closed" in shown(slack.roots()[0])


def test_delivered_alerts_are_forgotten_in_time(slack, sender, clock):
    carry(*recent(*outage()))
    for _ in range(5):
        work(sender, clock, 5)
    before = Alert.objects.count()
    clock.later_s += 181 * 86_400
    work(sender, clock)

    assert (before, Alert.objects.count()) == (5, 0)


def test_what_a_provider_says_is_shown_as_text_and_mentions_nobody(slack, sender, clock):
    hostile = stream.storable("{x} <!channel> <@U1> & \u202e\x07 🔥 " + "x" * 1_000_000)
    (trip,) = recent(event(1, reason=hostile))
    carry(replace(trip, evidence={**trip.evidence, "message": hostile, "code": hostile}))
    work(sender, clock)
    (root,) = slack.roots()

    assert "{x} <!channel> <@U1> & 🔥 xxx" in shown(root)
    assert "<!channel>" not in root["text"]
    assert len(str(root)) < 20_000


def test_timing_leaves_a_request_time_to_end_before_its_message_is_sent_again():
    assert Timing().settle_s > 2 * TIMEOUT_S
    assert Timing().lease_s > 3 * BEAT_S
