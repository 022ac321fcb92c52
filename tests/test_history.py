import itertools
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from fallback import history
from fallback.domain import Breaker, BreakerView, Event, Kind, State
from fallback.models import DeadLetter, Incident, Position, Transition
from fallback.standing import standing_overrides
from tests.events import START_MS, event, outage

pytestmark = pytest.mark.django_db(transaction=True)

LATER = datetime.fromtimestamp(START_MS / 1000, UTC) + timedelta(days=1)
LATER_MS = int(LATER.timestamp() * 1000)


def counted(what: str) -> float:
    return REGISTRY.get_sample_value("stt_degraded_total", {"what": what}) or 0


def facts(incident: Incident) -> dict:
    """Return all that history says of an incident, but its row number."""
    names = [field.name for field in Incident._meta.fields if field.name != "id"]
    return {name: getattr(incident, name) for name in names}


def forget_everything() -> None:
    for model in (Transition, Incident, Position):
        model.objects.all().delete()


def closed() -> BreakerView:
    """Return soniox as it is when nothing is wrong with it."""
    return view(Breaker(since_ms=START_MS + 60_000))


def view(breaker: Breaker, provider: str = "soniox") -> BreakerView:
    return BreakerView(provider, Kind.STT, breaker, None, 0, {}, 0)


def reconcile(*views: BreakerView, version: int = 1000 * LATER_MS) -> int:
    return history.reconcile(Kind.STT, views, version=version, now_ms=LATER_MS)


# --- transitions


def test_a_transition_becomes_a_row_with_all_that_was_said():
    told = event(1, reason="connection", actor="breaker")
    history.record([told])

    row = Transition.objects.get()
    assert (row.event_id, row.name, row.provider, row.kind) == (told.id, "tripped", "soniox", "stt")
    assert (row.before, row.after, row.cause) == ("closed", "open", "failure_threshold")
    assert (row.actor, row.reason, row.evidence) == ("breaker", "connection", told.evidence)
    assert row.at.timestamp() * 1000 == told.at_ms
    assert (row.version, row.incident.key) == (told.version, told.id)


def test_an_event_that_comes_twice_is_one_row_and_new_once():
    told = outage()

    assert history.record(told) == told
    assert history.record(told) == []
    assert history.record([*told, event(6), event(6)]) == [event(6)]
    assert Transition.objects.count() == 6


def test_a_notice_is_passed_on_and_not_stored():
    notice = event(1, name="provider_failure", before="closed", after="closed", incident="")

    assert history.record([notice]) == [notice]
    assert Transition.objects.count() == 0


def test_an_order_that_moves_nothing_is_stored():
    history.record([event(1, name="reset", before="closed", after="closed", incident="")])

    assert Transition.objects.get().name == "reset"


def test_an_announcement_that_is_no_breakers_is_passed_on():
    told = event(
        1,
        id="aaaaaaaa--0-request",
        name="state_lost",
        provider="",
        before="",
        after="",
        incident="",
    )

    assert history.record([told]) == [told]
    assert Position.objects.count() == 0


def test_recording_nothing_is_nothing():
    assert history.record([]) == []


def test_a_transition_is_counted_once_however_often_it_comes():
    labels = {"provider": "other", "to": "open", "cause": "failure_threshold"}
    before = REGISTRY.get_sample_value("stt_transitions_total", labels) or 0
    history.record([event(1)])
    history.record([event(1)])

    assert REGISTRY.get_sample_value("stt_transitions_total", labels) == before + 1


def test_an_actor_longer_than_its_column_is_cut():
    history.record([event(1, actor="admin:" + "a" * 150)])

    assert Transition.objects.get().actor == "admin:" + "a" * 144


# --- incidents


def test_an_incident_opens_moves_and_closes():
    told = outage()
    history.record(told[:1])
    opened = Incident.objects.get()
    history.record(told[1:4])
    moved = Incident.objects.get()
    history.record(told[4:])
    ended = Incident.objects.get()

    assert (opened.cause, opened.reason, opened.closed_at) == (
        "failure_threshold",
        "connection",
        None,
    )
    assert (moved.trips, moved.diverted, moved.closed_at) == (2, 30, None)
    assert (ended.closing_cause, ended.trips) == ("probe_success", 2)
    assert (ended.diverted, ended.hurt, ended.saved) == (40, 6, 4)
    assert ended.closed_at.timestamp() * 1000 == told[4].at_ms


def test_the_incident_is_the_same_in_whatever_order_its_events_come():
    told = outage()
    history.record(told)
    expected = facts(Incident.objects.get())

    for order in itertools.permutations(told):
        forget_everything()
        for one in order:
            history.record([one])
        assert facts(Incident.objects.get()) == expected


def test_events_of_one_script_share_a_version_and_keep_their_order():
    told = [event(n, version=7, **rest) for n, rest in enumerate(TWO_MOVES, start=9)]
    for order in (told, told[::-1]):
        forget_everything()
        for one in order:
            history.record([one])
        assert Incident.objects.get().closing_cause == "override"


TWO_MOVES = [
    {
        "name": "probing",
        "before": "open",
        "after": "half_open",
        "incident": "x",
        "cause": "time_up",
    },
    {
        "name": "override_set",
        "before": "half_open",
        "after": "forced_closed",
        "incident": "x",
        "cause": "override",
    },
]


def test_an_incident_whose_opening_was_lost_is_known_from_the_rest():
    told = outage()
    history.record(told[2:])

    incident = Incident.objects.get()
    assert (incident.key, incident.cause) == (told[0].id, "unknown")
    assert incident.opened_at.timestamp() * 1000 == told[2].at_ms
    assert incident.closing_cause == "probe_success"


def test_two_providers_have_incidents_of_their_own():
    history.record([*outage("soniox"), *outage("deepgram")[:2]])

    assert Incident.objects.get(provider="soniox").closed_at
    assert Incident.objects.get(provider="deepgram").closed_at is None


def test_the_first_failure_is_taken_from_the_trip():
    history.record([event(1, evidence={"hurt": 2, "first_failure_ms": START_MS})])

    assert Incident.objects.get().first_failure_at.timestamp() * 1000 == START_MS


@pytest.mark.parametrize("hurt", [-1, 2**70, "many", None, True, [], 1.5])
def test_evidence_that_counts_nonsense_stops_nothing(hurt):
    history.record([event(1, evidence={"hurt": hurt, "first_failure_ms": hurt})])

    assert 0 <= Incident.objects.get().hurt < 2**31


# --- holes and forks


def test_numbers_that_never_came_are_told_once(caplog):
    before = counted("event_hole")
    history.record([event(1), event(5)])
    reconcile()
    reconcile()

    assert counted("event_hole") == before + 1
    assert "first" in caplog.text
    assert Position.objects.get().missing[0][:2] == [2, 4]


def test_numbers_that_come_late_are_no_hole_and_no_fork():
    before = counted("event_hole"), counted("event_fork")
    for number in (5, 3, 2, 4, 1):
        history.record([event(number)])
    reconcile()

    assert (counted("event_hole"), counted("event_fork")) == before
    assert Position.objects.get().missing == []


def test_a_hole_above_the_snapshot_is_not_told_yet():
    before = counted("event_hole")
    history.record([event(1), event(5, version=1000 * (LATER_MS + 1))])
    reconcile()

    assert counted("event_hole") == before


def test_one_number_with_two_events_is_a_fork_and_both_are_kept():
    before = counted("event_fork")
    history.record([event(1), event(2)])
    history.record([event(2, request="another")])

    assert counted("event_fork") == before + 1
    assert Position.objects.get().forks == 1
    assert Transition.objects.count() == 3


def test_the_same_event_twice_is_no_fork():
    before = counted("event_fork")
    for _ in range(2):
        history.record([event(1), event(2)])

    assert counted("event_fork") == before


def test_numbers_begin_again_after_a_loss_of_data():
    before = counted("event_fork")
    history.record([event(1), event(2)])
    history.record([event(1, incarnation="bbbbbbbb")])

    assert counted("event_fork") == before
    assert Position.objects.count() == 2


def test_the_gaps_that_are_remembered_are_bounded():
    history.record([event(number) for number in range(1, 400, 2)])

    assert len(Position.objects.get().missing) == 50


# --- repair


def test_an_incident_whose_end_was_lost_ends_when_the_breaker_is_seen_closed():
    history.record(outage()[:2])

    assert reconcile(closed()) == 1
    incident = Incident.objects.get()
    assert incident.closing_cause == "unknown"
    assert incident.closed_at.timestamp() * 1000 == START_MS + 60_000


def test_the_end_that_comes_late_after_all_replaces_the_repair():
    told = outage()
    history.record(told[:4])
    reconcile(closed())
    history.record(told[4:])

    incident = Incident.objects.get()
    assert incident.closing_cause == "probe_success"
    assert incident.closed_at.timestamp() * 1000 == told[4].at_ms


def test_a_middle_that_comes_late_does_not_reopen_a_repaired_incident():
    told = outage()
    history.record(told[:1])
    reconcile(closed())
    history.record(told[1:3])

    assert Incident.objects.get().closing_cause == "unknown"


def test_an_incident_that_goes_on_is_left_alone():
    told = outage()
    history.record(told[:2])

    breaker = Breaker(state=State.HALF_OPEN, incident=told[0].id, diverted=10, hurt=3, saved=1)
    assert reconcile(view(breaker)) == 0
    assert Incident.objects.get().closed_at is None


def test_the_calls_of_an_incident_are_taken_from_the_breaker_between_events():
    told = event(1)
    history.record([told])
    reconcile(view(Breaker(state=State.OPEN, incident=told.id, diverted=99, hurt=7, saved=5)))

    incident = Incident.objects.get()
    assert (incident.diverted, incident.hurt, incident.saved) == (99, 7, 5)


def test_an_older_snapshot_repairs_nothing():
    told = event(1)
    history.record([told])

    assert reconcile(closed(), version=told.version - 1) == 0
    assert Incident.objects.get().closed_at is None


def test_an_incident_repaired_too_early_is_open_again_when_the_breaker_shows_it():
    told = event(1)
    history.record([told])
    reconcile(closed())
    breaker = Breaker(state=State.OPEN, incident=told.id, hurt=2)

    assert reconcile(view(breaker)) == 1
    incident = Incident.objects.get()
    assert (incident.closed_at, incident.closing_cause) == (None, "")


def test_an_incident_that_history_never_heard_of_is_made_from_the_breaker():
    key = event(1).id
    breaker = Breaker(state=State.OPEN, incident=key, since_ms=START_MS, hurt=2)

    assert reconcile(view(breaker)) == 1
    incident = Incident.objects.get()
    assert (incident.key, incident.cause, incident.hurt) == (key, "unknown", 2)


def test_a_lost_end_is_no_later_than_the_next_trip():
    first, second = event(1), event(9)
    history.record([first, second])
    reconcile(view(Breaker(state=State.OPEN, incident=second.id, since_ms=second.at_ms, hurt=2)))

    ended = Incident.objects.get(key=first.id)
    assert ended.closed_at.timestamp() * 1000 == second.at_ms
    assert Incident.objects.get(key=second.id).closed_at is None


# --- operators' orders


def override(number: int, state: str = "forced_open", **changes) -> Event:
    names = {"name": "override_set", "before": "closed", "after": state, "cause": "override"}
    return event(number, **names | {"actor": "admin:ana", "reason": "maintenance"} | changes)


def cleared(number: int, cause: str = "override_cleared") -> Event:
    return event(
        number, name="override_cleared", before="forced_open", after="half_open", cause=cause
    )


def standing() -> list[tuple[str, str]]:
    found = standing_overrides(LATER)
    return [(one.provider, one.override.state) for one in found]


def test_an_override_stands_until_it_is_cleared():
    history.record([override(1)])
    stood = standing_overrides(LATER)
    history.record([cleared(2)])

    assert [(one.kind, one.provider) for one in stood] == [(Kind.STT, "soniox")]
    assert stood[0].override.state is State.FORCED_OPEN
    assert (stood[0].override.by, stood[0].override.reason) == ("admin:ana", "maintenance")
    assert (stood[0].override.at_ms, stood[0].override.until_ms) == (override(1).at_ms, None)
    assert standing() == []


def test_an_override_stands_until_its_end():
    history.record([override(1, evidence={"until_ms": LATER_MS + 1})])
    history.record([override(1, provider="deepgram", evidence={"until_ms": LATER_MS})])

    assert standing() == [("soniox", "forced_open")]


def test_the_latest_override_of_a_provider_counts_in_whatever_order_they_come():
    history.record([override(2, "shadow")])
    history.record([override(1, "forced_open")])

    assert standing() == [("soniox", "shadow")]


def test_a_new_end_for_the_same_override_counts():
    again = override(2, before="forced_open", evidence={"until_ms": LATER_MS - 1})
    history.record([override(1), again])

    assert standing() == []


def test_a_shadow_that_the_policy_asks_for_is_no_operators_order():
    history.record([override(1, "shadow", cause="policy", actor="policy")])

    assert standing() == []


def test_a_reset_ends_an_override():
    history.record([override(1), cleared(2, cause="reset")])

    assert standing() == []


# --- forgetting


def test_what_is_old_is_forgotten_in_bounded_steps():
    history.record(outage())
    DeadLetter.objects.create(kind="stt", entry_id="1-1", problem="x")

    assert history.forget(LATER, at_most=3) == 3
    assert history.forget(LATER, at_most=3) == 2
    assert Transition.objects.count() == 0
    assert (Incident.objects.count(), DeadLetter.objects.count()) == (1, 1)


def test_what_is_recent_is_kept():
    history.record(outage())

    assert history.forget(LATER - timedelta(days=2), at_most=9) == 0


def test_what_an_open_incident_or_a_standing_order_rests_on_is_kept_however_old():
    history.record(outage("deepgram")[:3])
    history.record([*outage(), override(6, incident="")])

    history.forget(LATER, at_most=99)

    kept = Transition.objects.values_list("provider", "name").order_by("id")
    assert list(kept) == [
        ("deepgram", "tripped"),
        ("deepgram", "probing"),
        ("deepgram", "probe_failed"),
        ("soniox", "override_set"),
    ]


def test_what_closed_an_incident_that_nobody_saw_close_has_a_name():
    incident = Incident(key="k", provider="soniox", opened_at=datetime.now(UTC),
                        cause="unknown", closing_cause="unknown")  # fmt: skip
    incident.full_clean()

    assert incident.get_closing_cause_display() == "unknown"
