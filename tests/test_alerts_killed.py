"""Pumps and senders killed (-9) at random: every event in history once, every alert read once.

ALERT_KILLS sets how many; the suite keeps it small.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest
from django.core.management import call_command

from fallback import stream
from fallback.alerts.claims import Timing
from fallback.alerts.sender import Sender
from fallback.domain import Event, Kind
from fallback.models import Alert, AlertThread, DeadLetter, Incident, Transition
from fallback.pump import Pump
from tests.events import event, outage, write
from tests.fake_slack import TOKEN, FakeSlack
from tests.kill_senders import SETTLE_S
from tests.processes import eventually
from tests.test_pump import environment

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("ALERT_KILLS", "15"))
PROVIDERS = [f"provider-{letter}" for letter in "abcde"]


def told_by(provider: str, number: int) -> list[Event]:
    """Return a failure and the outage that it leads to, as if it had just happened."""
    first = 6 * number + 1
    failure = event(
        first, provider=provider, name="provider_failure", after="closed", incident=""
    )  # fmt: skip
    now = int(time.time() * 1000)
    told = [failure, *outage(provider, first=first + 1)]
    return [
        event(
            first + i, provider=provider, at_ms=now + i, version=1000 * (now + i),
            **{name: getattr(one, name) for name in
               ("name", "before", "after", "cause", "evidence", "incident")},
        )
        for i, one in enumerate(told)
    ]  # fmt: skip


def write_until(process: subprocess.Popen, client, luck: random.Random) -> list[Event]:
    """Write outages, a few events at a time, while the process runs; return all of them."""
    written: list[Event] = []
    number = 0
    while process.poll() is None:
        waiting = [told_by(provider, number) for provider in luck.sample(PROVIDERS, 2)]
        number += 1
        for told in waiting:
            write(client, *told[:3])
            time.sleep(luck.uniform(0, 0.3))
            write(client, *told[3:])
            written += told
        time.sleep(luck.uniform(0, 0.5))
    return written


@pytest.mark.parametrize("at_once", [1, 3])
def test_senders_killed_at_random_tell_every_event_once(
    redis_client, redis_url, tmp_path, at_once, settings
):
    slack = FakeSlack()
    slack.delay_s = 0.03  # so that many are killed while an answer is under way
    settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = slack.url, TOKEN
    settings.SLACK_CHANNEL = "C0ALERTS"
    call_command("seed", stdout=open(os.devnull, "w"))  # noqa: SIM115 - a sink
    killer = subprocess.Popen(
        [sys.executable, "-m", "tests.kill_senders", str(at_once), str(KILLS), str(at_once)],
        cwd=settings.BASE_DIR,
        env=environment(redis_url, tmp_path) | slack_environment(slack),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        written = write_until(killer, redis_client, random.Random(at_once))
        killed = int(killer.communicate(timeout=60)[0])
    finally:
        killer.kill()
    sent_before = Alert.objects.filter(status="sent").count()
    last = Pump("last", stale_ms=0)
    assert eventually(lambda: last.turn() == 0 and stream.lag(Kind.STT).entries == 0, within_s=60)
    sender = Sender(timing=Timing(settle_s=SETTLE_S))
    assert eventually(lambda: sender.turn() == 0 and is_done(), within_s=120)
    slack.close()

    shown = Counter(
        pk
        for one in slack.messages["C0ALERTS"]
        for pk in one["metadata"]["event_payload"]["alerts"]
    )
    moves = sum(one.is_transition for one in written)
    print(
        f"\n{at_once} at once: {killed} killed, {sent_before} alerts sent by then; in the end"
        f" {Transition.objects.count()} transitions of {moves}, {Alert.objects.count()} alerts of"
        f" {len(written)}, each read {sorted(set(shown.values()))} time(s);"
        f" {len(slack.roots())} messages for {Incident.objects.count()} incidents,"
        f" {slack.count('conversations.history') + slack.count('conversations.replies')}"
        " lost answers looked for"
    )
    assert Transition.objects.count() == moves
    # A machine that is slow makes notices of its own: a lag, and numbers that no test wrote.
    sent = Alert.objects.filter(status="sent").exclude(event__in=["pump_lagging", "events_missing"])
    assert sorted(sent.values_list("event_id", flat=True)) == sorted(one.id for one in written)
    assert set(shown) == set(Alert.objects.values_list("pk", flat=True))
    assert set(shown.values()) == {1}
    threads = AlertThread.objects.exclude(ts="")
    assert len(slack.roots()) == threads.count()
    assert threads.filter(type=AlertThread.INCIDENT).count() == Incident.objects.count()
    assert DeadLetter.objects.count() == 0
    assert killed >= KILLS


def slack_environment(slack: FakeSlack) -> dict[str, str]:
    return {"SLACK_API_URL": slack.url, "SLACK_BOT_TOKEN": TOKEN}


def is_done() -> bool:
    is_waiting = Alert.objects.filter(status__in=["pending", "sending"]).exists()
    return not is_waiting and not AlertThread.objects.exclude(sending_key="").exists()
