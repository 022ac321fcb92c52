"""A message that Slack did not say it has: looked for at once, sent again as soon as that is safe,
never twice; and a Slack that was away for long."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from fallback import alerts
from fallback.alerts import claims
from fallback.alerts.claims import Timing
from fallback.alerts.delivery import Delivery
from fallback.alerts.outages import PROBE_S, Outages
from fallback.alerts.sender import Sender
from fallback.holding import HOLD_MAX_S
from fallback.models import Alert, AlertDestination, AlertThread
from tests.events import event, outage
from tests.fake_slack import shown
from tests.test_alerts import carry, clock, recent, sender, slack, statuses, work

__all__ = ["clock", "sender", "slack"]  # fixtures

pytestmark = pytest.mark.django_db


def late_by(slack, sender, clock, *, within_s: float = 60, step_s: float = 0.25) -> float:
    """Let time pass in small steps until everything is sent; return how many seconds we let pass.
    What the machine itself took is not among them: by the sender's clock it was longer."""
    passed = 0.0
    work(sender, clock)
    while set(statuses()) != {"sent"} and passed < within_s:
        passed += step_s
        work(sender, clock, step_s)
    return passed


@pytest.mark.parametrize("fault", ["500", "internal_error", "fatal_error", "service_unavailable"])
def test_alerts_after_one_error_an_incident_s_first_message_is_three_seconds_late_at_most(
    slack, sender, clock, fault
):
    slack.faults["chat.postMessage"].append(fault)
    carry(*recent(*outage()[:1]))

    assert late_by(slack, sender, clock) <= 3
    assert len(slack.roots()) == 1


@pytest.mark.parametrize("fault", ["500_after", "drop_after", "502_after"])
def test_alerts_a_message_that_slack_has_is_found_at_once(slack, sender, clock, fault):
    slack.faults["chat.postMessage"].append(fault)
    carry(*recent(*outage()[:1]))

    assert late_by(slack, sender, clock) <= 0.5
    assert len(slack.roots()) == 1


@pytest.mark.parametrize(
    ("fault", "visible_after_s"),
    [("500_after", 0.8), ("500_after", 1.8), ("drop_after", 5), ("drop_after", 14),
     ("502_after", 14)],
)  # fmt: skip
def test_alerts_a_message_that_shows_late_is_not_sent_again(
    slack, sender, clock, fault, visible_after_s
):
    slack.visible_after_s = visible_after_s
    slack.faults["chat.postMessage"].append(fault)
    carry(*recent(*outage()[:1]))
    late_by(slack, sender, clock)

    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 1}


@pytest.mark.parametrize("fault", ["drop_before", "502"])
def test_alerts_what_may_still_be_under_way_is_not_sent_again_before_it_has_settled(
    slack, sender, clock, fault
):
    slack.faults["chat.postMessage"].append(fault)
    carry(*recent(*outage()[:1]))
    began = clock()
    passed = late_by(slack, sender, clock)

    assert (clock() - began).total_seconds() >= 15
    assert passed <= 16
    assert len(slack.roots()) == 1


def test_alerts_errors_in_a_row_are_given_more_time_each(slack, sender, clock):
    slack.faults["chat.postMessage"].extend(["500"] * 3)
    carry(*recent(*outage()[:1]))

    began = clock()
    passed = late_by(slack, sender, clock)

    assert (clock() - began).total_seconds() >= 2 + 4 + 8
    assert passed <= 16
    assert len(slack.roots()) == 1


def test_alerts_looks_come_at_once_and_ever_less_often(slack, sender, clock):
    slack.faults["chat.postMessage"].append("drop_before")
    carry(*recent(*outage()[:1]))
    late_by(slack, sender, clock)

    assert 5 <= slack.count("conversations.history") <= 9


# --- Slack away for long


def many(count: int, **changes) -> list[str]:
    """Carry an outage's begin of as many providers; return their names."""
    names = [f"provider-{i:02}" for i in range(count)]
    carry(*recent(*[event(1, provider=name, **changes) for name in names]))
    return names


def test_alerts_a_backlog_starts_within_seconds_of_slack_s_return(slack, sender, clock):
    slack.is_away = True
    many(12)
    for _ in range(150):
        work(sender, clock, 4)
    asked = slack.count("chat.postMessage") + slack.count("conversations.history")
    slack.is_away = False
    before = len(slack.roots())
    work(sender, clock, 5)
    first = len(slack.roots())
    for _ in range(10):
        work(sender, clock, 2)

    assert before == 0
    assert first > 0
    assert asked < 600 / PROBE_S * 1.5  # one request each few seconds, not one of each thread
    assert len(slack.roots()) == 12
    assert statuses() == {"sent": 12}


def test_alerts_a_single_one_starts_within_seconds_of_slack_s_return_too(slack, sender, clock):
    slack.is_away = True
    many(1)
    for _ in range(150):
        work(sender, clock, 4)
    slack.is_away = False
    passed = late_by(slack, sender, clock)

    assert passed <= 5
    assert len(slack.roots()) == 1


def test_alerts_what_is_out_goes_before_what_was_and_what_is_said_beside(slack, sender, clock):
    slack.is_away = True
    carry(*recent(event(1, name="override_set", incident="", after="closed", provider="aside")))
    carry(*recent(*outage("was-out")))
    carry(*recent(event(1, provider="is-out")))
    for _ in range(20):
        work(sender, clock, 4)
    slack.is_away = False
    for _ in range(10):
        work(sender, clock, 4)
    told = [one["text"] for one in slack.roots()]

    assert [next(name for name in ("is-out", "was-out", "aside") if name in one)
            for one in told] in (
        ["is-out", "was-out", "aside"],
        ["was-out", "is-out", "aside"],  # the one that tried it was another
        ["aside", "is-out", "was-out"],
    )  # fmt: skip


def test_alerts_the_most_important_goes_first(slack, sender):
    carry(*recent(event(1, name="override_set", incident="", after="closed", provider="aside")))
    carry(*recent(*outage("was-out")))
    carry(*recent(event(1, provider="is-out")))
    sender.turn()
    told = [one["text"] for one in slack.roots()]

    assert [name for one in told for name in ("is-out", "was-out", "aside") if name in one] == [
        "is-out", "was-out", "aside",
    ]  # fmt: skip


def test_alerts_a_message_in_trouble_by_itself_holds_up_no_other(slack, sender, clock):
    many(3)
    bad = AlertThread.objects.get(provider="provider-00")
    real = slack._chat_postMessage

    def post(asked):
        is_bad = "provider-00" in asked["text"]
        return {"ok": False, "error": "internal_error"} if is_bad else real(asked)

    slack._chat_postMessage = post
    for number in range(2, 12):
        work(sender, clock, 30)
        carry(*recent(event(number, name="probing", after="half_open", provider="provider-01",
                            incident=event(1, provider="provider-01").id)))  # fmt: skip
        work(sender, clock, 3)
    waiting = Alert.objects.filter(status__in=["pending", "sending"])

    assert set(waiting.values_list("provider", flat=True)) == {"provider-00"}
    assert slack.count("chat.postMessage") < 60
    assert AlertThread.objects.get(pk=bad.pk).attempts > 3


def test_pauses_of_an_outage_are_short_and_those_of_one_message_grow():
    now = timezone.now()
    outages = Outages(lambda: now, first_s=0.5)
    waits = [outages.failed(1, 7, attempts=n, looking=False) for n in range(1, 8)]
    was_away = outages.answered(1, 8)
    alone = [outages.failed(1, 7, attempts=n, looking=False) for n in range(8, 14)]

    assert waits == [0.5, 1, 2, 4, 4, 4, 4]
    assert was_away
    assert alone == [128, 256, 300, 300, 300, 300]
    assert outages.may_post(1)


# --- claims


def test_a_killed_sender_s_thread_is_taken_up_within_five_seconds(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    Sender(now=clock)._claimed(AlertThread.objects.get().pk)  # and it is killed
    work(sender, clock)
    early = len(slack.roots())
    work(sender, clock, 4.5)

    assert (early, len(slack.roots())) == (0, 1)


@pytest.mark.parametrize(("name", "roots"), [("pump-1", 1), ("pump-2", 0)])
def test_a_sender_that_comes_back_by_its_name_takes_up_its_work_at_once(slack, clock, name, roots):
    carry(*recent(*outage()[:1]))
    Sender(now=clock, name="pump-1")._claimed(AlertThread.objects.get().pk)
    claims.take_back(name, clock())
    work(Sender(now=clock, name=name), clock)

    assert len(slack.roots()) == roots


def test_a_slow_sender_that_lives_is_not_robbed(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    slow = Sender(now=clock)
    thread = slow._claimed(AlertThread.objects.get().pk)
    with slow._heart.holding(thread):
        for _ in range(5):
            clock.later_s += 3
            slow._heart.beat()
            work(sender, clock)
        early = len(slack.roots())
        clock.later_s += HOLD_MAX_S
        slow._heart.beat()
        work(sender, clock, Timing().lease_s)

    assert (early, len(slack.roots())) == (0, 1)


def test_a_claim_that_was_released_is_not_renewed(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    thread = sender._claimed(AlertThread.objects.get().pk)
    with sender._heart.holding(thread):
        sender._work(thread)
        sender._heart.beat()

    assert AlertThread.objects.get().claimed_until is None


def test_what_happens_while_a_sender_is_at_work_is_shown_however_calm_it_is(
    slack, sender, clock, monkeypatch
):
    carry(*recent(*outage()[:1]))
    work(sender, clock)
    AlertThread.objects.update(replies=70, due_at=clock())  # a storm: told once a minute
    leave = Delivery._leave

    def acknowledge_first(delivery: Delivery) -> None:
        alerts.acknowledge(AlertThread.objects.get(), "slack:ana")
        leave(delivery)

    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "_leave", acknowledge_first)
        sender.turn()
    work(sender, clock, 5)

    assert "Acknowledged by: slack:ana" in shown(slack.roots()[0])


# --- the database


def test_a5_a_database_that_refuses_is_waited_for_by_the_sender(slack, sender, clock, monkeypatch):
    carry(*recent(*outage()[:1]))
    with monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise OperationalError("read only")

        patch.setattr("fallback.alerts.delivery.Delivery._post_first", refuse)
        with pytest.raises(OperationalError):
            sender.turn()
    work(sender, clock, 5)

    assert len(slack.roots()) == 1
    assert statuses() == {"sent": 1}


def test_the_sender_wakes_when_something_is_due(slack, sender, clock):
    carry(*recent(*outage()[:1]))
    AlertThread.objects.update(due_at=clock() + timedelta(seconds=0.2))
    soon = sender._idle_s()
    AlertThread.objects.update(due_at=clock() + timedelta(seconds=60))

    assert 0 < soon <= 0.2
    assert sender._idle_s() == 0.5


@pytest.mark.django_db(transaction=True)
def test_a_real_sender_tells_within_three_seconds_after_one_error(slack):
    AlertDestination.objects.update(mentions=[])
    slack.faults["chat.postMessage"].append("500")
    stop, began = threading.Event(), time.monotonic()
    thread = threading.Thread(target=Sender().run, args=[stop])
    carry(*recent(*outage()[:1]))
    thread.start()
    try:
        while not slack.roots() and time.monotonic() < began + 20:
            time.sleep(0.05)
        late_s = time.monotonic() - began
    finally:
        stop.set()
        thread.join()

    print(f"\nfirst message {late_s:.1f} s after its event, with one 500 before it")
    assert 2 <= late_s < 15
    assert len(slack.roots()) == 1
