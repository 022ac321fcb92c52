"""Rehearsals as jobs: claimed once, done by a child process, stopped, and told when they fail."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from fallback import catalog, domain, past, rehearsals, services
from fallback.domain import Kind, Outcome, OutcomeKind, Question, Reason
from fallback.models import Incident, Policy, Rehearsal
from fallback.pump import Pump
from fallback.rehearsals import Busy, Runner, queue, work
from tests.configuration import make_policy, make_provider, make_route
from tests.processes import database_url, eventually

pytestmark = pytest.mark.django_db(transaction=True)

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)", "--")
State = Rehearsal.State


class Clock:
    """Seconds that pass only when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def policy(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Policy:
    """Run soniox, whose policy this is, before deepgram on a route; children see all of it."""
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    monkeypatch.setenv("DATABASE_URL", database_url())
    monkeypatch.setenv("REDIS_URL", redis_url)
    row = make_policy(failure_threshold=2)
    deepgram = make_provider("deepgram", policy=make_policy("b"))
    make_route("breeze", make_provider("soniox"), deepgram)
    catalog.reload()
    services.publish_configuration()
    return row


@pytest.fixture
def ask(policy: Policy, django_user_model: Any) -> Callable[..., Rehearsal]:
    """Return what asks for a rehearsal, each time in another person's name."""
    names = iter(range(100))

    def asked(what: str = "rehearse", span: str = "24h", **values: Any) -> Rehearsal:
        user = django_user_model.objects.create_user(f"ana{next(names)}")
        proposed = domain.Policy(**values)
        return rehearsals.ask(policy, user, what=what, span=span, proposed=proposed)

    return asked


@pytest.fixture
def runner() -> Iterator[Callable[..., Runner]]:
    """Return what makes a pump's part; its children do not outlive the test."""
    made: list[Runner] = []

    def make(**options: Any) -> Runner:
        made.append(Runner(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def live_through(calls: int) -> None:
    """Have calls begin and fail on soniox, for real, until it is out; all of it is recorded."""
    for number in range(calls):
        call = f"call-{number}"
        if services.make_decision(Question("breeze", call)).provider == "soniox":
            report = Outcome(call, call, "soniox", OutcomeKind.INIT_FAILURE, Reason.CONNECTION)
            services.report_outcomes([report])
    past.flush()


def now(row: Rehearsal) -> Rehearsal:
    return Rehearsal.objects.get(pk=row.pk)


@pytest.mark.slow
def test_a_pump_has_a_child_process_work_out_the_answer(ask: Any) -> None:
    live_through(4)
    row = ask(failure_threshold=3)
    pump = Pump("test")

    def is_over() -> bool:
        pump.turn()
        return not now(row).is_unfinished

    assert eventually(is_over, within_s=30)
    row = now(row)
    assert (row.state, row.progress, row.slot, row.problem) == ("done", 1, None, "")
    [soniox] = row.result["providers"]
    assert soniox["lanes"]["today"]["trips"] == soniox["lanes"]["proposed"]["trips"] == 1
    assert soniox["lanes"]["today"]["hurt"] == 2
    assert soniox["lanes"]["proposed"]["hurt"] == 3


def test_what_a_child_does_can_be_done_here_too(ask: Any) -> None:
    live_through(4)
    row = ask("suggest")
    queue.claim()

    assert work.run(row.pk)
    assert {point["is_today"] for point in now(row).result["points"]} == {True, False}


def test_the_one_that_waited_longest_is_claimed_first_and_once(ask: Any) -> None:
    first, second = ask(), ask()

    assert [queue.claim(), queue.claim(), queue.claim()] == [first, second, None]


def test_no_more_than_two_run_at_once_and_the_third_says_what_it_waits_for(ask: Any) -> None:
    Pump("test").turn()  # one that lives
    rows = [ask() for _ in range(3)]
    claimed = [queue.claim() for _ in range(3)]

    assert claimed == [*rows[:2], None]
    assert rehearsals.waits_for(now(rows[2])) == (
        "Waits: 2 of at most 2 are running, and 0 are before it."
    )


def test_the_end_of_one_lets_the_next_begin(ask: Any) -> None:
    rows = [ask() for _ in range(3)]
    queue.claim(), queue.claim()
    queue.end(rows[0].pk, State.DONE, result={})

    assert queue.claim() == rows[2]


def test_a_person_has_one_at_a_time(ask: Any, policy: Policy) -> None:
    row = ask()
    with pytest.raises(Busy, match="stop it first") as refused:
        rehearsals.ask(policy, row.asked_by, what="rehearse", span="7d", proposed=domain.Policy())

    assert refused.value.rehearsal == row


def test_the_queue_has_an_end(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "WAITING_MAX", 2)
    ask(), ask()

    with pytest.raises(Busy, match="2 rehearsals are waiting"):
        ask()


def test_one_that_waits_is_stopped_and_never_runs(ask: Any) -> None:
    row = ask()
    rehearsals.stop(row)

    assert now(row).state == State.STOPPED
    assert queue.claim() is None


def test_one_that_runs_is_stopped_at_its_next_beat(ask: Any) -> None:
    live_through(3)
    row = ask()
    queue.claim()
    rehearsals.stop(row)

    assert work.run(row.pk)
    assert (now(row).state, now(row).slot, now(row).result) == (State.STOPPED, None, None)


def test_progress_is_told_while_the_past_is_being_read_and_others_write(
    ask: Any, monkeypatch: Any
) -> None:
    """On SQLite a connection that reads cannot write any more once another has written."""
    monkeypatch.setattr(work, "BEAT_S", 0.01)
    row = ask()
    queue.claim()
    rows = Policy.objects.order_by("pk").iterator(chunk_size=1)
    next(rows)
    with work.Beats(row.pk) as beats:
        beats.tell(0.4)
        assert eventually(lambda: progress_elsewhere(row) == 0.4)


def progress_elsewhere(row: Rehearsal) -> float:
    """Return the progress as another connection sees it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(read_and_close, row).result()


def read_and_close(row: Rehearsal) -> float:
    try:
        return now(row).progress
    finally:
        connection.close()


def test_progress_is_told_and_bounded(ask: Any) -> None:
    row = ask()
    queue.claim()

    assert queue.beat(row.pk, 1.7)
    assert now(row).progress == 1


def test_a_child_that_falls_is_told_with_its_code(ask: Any, runner: Any) -> None:
    row = ask()
    pump = runner(command=(sys.executable, "-c", "raise SystemExit(3)"))
    pump.tick()

    assert eventually(lambda: pump.tick() or now(row).state == State.FAILED)
    assert "exit code 3" in now(row).problem


def test_a_child_that_takes_too_long_is_killed_and_told(ask: Any, runner: Any) -> None:
    clock = Clock()
    row = ask()
    pump = runner(command=SLEEPS, clock=clock, limit_s=10)
    pump.tick()
    [(child, _)] = pump._children.values()
    clock.now = 11
    pump.tick()

    assert child.returncode is not None
    assert (now(row).state, now(row).slot) == (State.FAILED, None)
    assert "choose a shorter span" in now(row).problem


def test_a_pump_that_stops_takes_its_children_along_and_says_so(ask: Any, runner: Any) -> None:
    row = ask()
    pump = runner(command=SLEEPS)
    pump.tick()
    [(child, _)] = pump._children.values()
    pump.close()

    assert child.returncode is not None
    assert "pump that worked on it was stopped" in now(row).problem


@pytest.mark.slow
def test_a_child_does_not_outlive_a_pump_that_was_killed(ask: Any, tmp_path: Path) -> None:
    row = ask()
    queue.claim()
    script = (
        "import subprocess, sys, os, time; "
        f"c = subprocess.Popen([sys.executable, 'manage.py', 'rehearse', '--job', '{row.pk}', "
        "'--parent', '1']); c.wait(); print(c.returncode)"
    )
    code = os.popen(f'{sys.executable} -c "{script}"').read()

    assert code.strip() == "1"
    assert now(row).state == State.RUNNING  # the next pump tells it: see below


def test_one_whose_process_is_silent_is_told_as_failed_by_any_pump(ask: Any, runner: Any) -> None:
    row = ask()
    queue.claim()
    Rehearsal.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=21))
    runner().tick()

    assert (now(row).state, now(row).slot) == (State.FAILED, None)
    assert "ended before it was done" in now(row).problem


def test_one_that_ended_otherwise_is_not_ended_again(ask: Any) -> None:
    row = ask()
    queue.claim()
    queue.end(row.pk, State.FAILED, problem="silent")

    assert not queue.beat(row.pk, 0.5)
    assert not queue.end(row.pk, State.DONE, result={})
    assert now(row).problem == "silent"


def test_an_error_is_told_to_whoever_asked_without_its_innards(ask: Any) -> None:
    row = ask()
    queue.claim()
    Rehearsal.objects.update(what="strange", span="incident")

    assert not work.run(row.pk)
    assert "has had an incident" in now(row).problem


def test_old_answers_are_forgotten_and_the_rest_is_kept(ask: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(queue, "KEPT", 2)
    rows = [ask() for _ in range(4)]
    for row in rows[:3]:
        queue.claim()
        queue.end(row.pk, State.DONE, result={})

    assert queue.forget() == 1
    assert list(Rehearsal.objects.order_by("pk")) == rows[1:]


def test_the_last_incident_is_a_span_with_what_is_around_it(policy: Policy) -> None:
    opened = timezone.now() - timedelta(hours=5)
    Incident.objects.create(
        key="k", provider="soniox", cause="failure_threshold", opened_at=opened,
        closed_at=opened + timedelta(minutes=30), last_event_at=opened,
    )  # fmt: skip
    since, until = rehearsals.spans.resolve("incident", policy, timezone.now())

    assert (since, until) == (opened - timedelta(minutes=30), opened + timedelta(minutes=60))


def test_the_command_prints_the_report(policy: Policy) -> None:
    live_through(4)
    Pump("test").turn()  # which stores when soniox was out
    out = StringIO()
    call_command("rehearse", "default", "--set", "failure_threshold=3", stdout=out)

    rows = {line[:34].strip(): line[34:].split() for line in out.getvalue().splitlines() if line}
    assert rows["soniox"] == ["today", "proposed"]
    assert rows["calls hurt"] == ["2", "3"]
    assert Policy.objects.get(name="default").failure_threshold == 2


def test_the_command_prints_the_search_as_json(policy: Policy) -> None:
    live_through(4)
    out = StringIO()
    call_command("rehearse", "default", "--suggest", "--json", stdout=out)

    assert any(point["is_today"] for point in json.loads(out.getvalue())["points"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody"], "there are: b, default"),
        (["default", "--set", "failure_threshold=99999"], "less than or equal to 1000"),
        (["default", "--set", "colour=red"], "NAME one of"),
        (["default", "--span", "incident"], "has had an incident"),
    ],
)
def test_the_command_says_what_makes_no_sense(arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        call_command("rehearse", *arguments)


def test_the_kind_of_a_provider_is_its_own(policy: Policy) -> None:
    make_provider("eleven", kind="tts", policy=policy)
    make_provider("off", enabled=False, policy=policy)

    assert work.subjects(policy) == ((Kind.STT, "soniox"), (Kind.TTS, "eleven"))
