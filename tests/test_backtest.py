"""What a rehearsal says of a past that is known: trips, callers hurt, callers moved for nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fallback import backtest
from fallback.backtest import Span, Stopped
from fallback.domain import Kind, Policy
from fallback.models import AlertTemplate, Incident, RecordedSlot, Transition
from fallback.past import Failure, Flag, Reporter, Sighting, Slot, What
from fallback.past.sightings import SLOT_MS, merge, pack, slot_start

pytestmark = pytest.mark.django_db

STT = Kind.STT
START = slot_start(1_790_000_400_000)
TAKEN = Flag.TAKEN | Flag.MAY_PROBE
QUICK = {"open_duration_s": 60, "open_duration_max_s": 60}


def s(seconds: float) -> int:
    return START + round(seconds * 1000)


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


class Past:
    """Calls of one provider, put down by hand: `call` one that was taken, `missed` one that was
    sent elsewhere."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self.calls = 0

    def call(self, at_s: float, *, fails: bool = False, reason: str = "timeout") -> None:
        self.calls += 1
        self._add(at_s, What.ASKED, TAKEN)
        if fails:
            failure = Failure(reason, f"CA{self.calls}", 0, "init_failure")
            self._add(at_s + 0.5, What.FAILED, Flag(0), failure)
        else:
            self._add(at_s + 1, What.HEARD, Flag(0))

    def missed(self, at_s: float) -> None:
        self.calls += 1
        self._add(at_s, What.ASKED, Flag.MAY_PROBE)

    def _add(self, at_s: float, what: What, flags: Flag, failure: Failure | None = None) -> None:
        at_ms = s(at_s)
        slot = self.slots.setdefault(slot_start(at_ms), Slot(slot_start(at_ms)))
        host = f"pod-{self.calls % 3}"
        slot.add(Sighting(at_ms, self.calls, 0, 0, 0, what, flags), Reporter(host), failure)

    def keep(self) -> None:
        for start_ms, slot in self.slots.items():
            RecordedSlot.objects.create(
                kind=STT, provider="soniox", at=moment(start_ms), data=pack(merge(start_ms, [slot]))
            )


def lived(before: str, after: str, at_s: float, cause: str, **evidence: Any) -> Transition:
    """Store a transition of the live breaker."""
    return Transition.objects.create(
        event_id=f"{at_s}", name="tripped", provider="soniox", kind=STT, before=before, after=after,
        at=moment(s(at_s)), cause=cause, evidence=evidence, version=round(at_s * 1000),
    )  # fmt: skip


def rehearse(*, seconds: float = 3600, **policies: Policy) -> dict[str, Any]:
    report = backtest.rehearse([(STT, "soniox")], policies, Span(START, s(seconds)))
    return report.as_json()["providers"][0]


def lane(*, seconds: float = 3600, **values: Any) -> dict[str, Any]:
    return rehearse(seconds=seconds, only=Policy(**values))["lanes"]["only"]


def stray_failures() -> None:
    """A healthy provider, a call every two seconds; two of them fail by chance."""
    past = Past()
    for number in range(600):
        past.call(number * 2, fails=number in {100, 130})
    past.keep()


# --- a false trip


def test_a_false_trip_moves_calls_for_nothing():
    stray_failures()

    found = lane(**QUICK)

    assert (found["trips"], found["hurt"]) == (1, 2)
    assert found["diverted"] == found["diverted_healthy"] == 30  # a minute of calls
    assert found["fate_unknown"] == 0


def test_a_higher_threshold_would_have_left_them_where_they_were():
    stray_failures()

    found = lane(failure_threshold=3, **QUICK)

    assert (found["trips"], found["hurt"], found["diverted"]) == (0, 2, 0)


def test_detection_is_measured_from_the_first_failure():
    stray_failures()

    assert lane(**QUICK)["detection_s"] == {"median": 60.0, "longest": 60.0}


def test_trips_soon_after_a_recovery_are_flaps():
    past = Past()
    for number in range(300):
        past.call(number * 2, fails=number % 40 < 2)
    past.keep()

    found = lane(recovery="timer", seconds=600, **QUICK)

    assert found["trips"] > 2
    assert found["flaps"] == found["trips"] - 1


# --- a real outage, of which the live breaker kept most calls


def outage() -> Incident:
    """Healthy for ten minutes, then out for ten: two calls failed, the rest were sent elsewhere,
    a probe failed in the middle, the last was heard."""
    past = Past()
    for number in range(300):
        past.call(number * 2)
    past.call(601, fails=True)
    past.call(603, fails=True)
    for number in range(300):
        past.missed(605 + number * 2)
    past.call(1204, fails=True)
    for number in range(100):
        past.missed(1210 + number * 2)
    past.call(1500)
    for number in range(100):
        past.call(1510 + number * 2)
    past.keep()
    lived("closed", "open", 603.5, "failure_threshold", first_failure_ms=s(601.5))
    lived("open", "half_open", 1203, "time_up")
    lived("half_open", "open", 1204.5, "probe_failure")
    lived("open", "half_open", 1499, "time_up")
    lived("half_open", "closed", 1501, "probe_success")
    return Incident.objects.create(
        key="603.5", provider="soniox", kind=STT, opened_at=moment(s(603.5)),
        closed_at=moment(s(1501)), cause="failure_threshold", first_failure_at=moment(s(601.5)),
    )  # fmt: skip


def test_a_lax_policy_hurts_the_calls_that_were_spared():
    outage()

    strict = lane(open_duration_s=600)
    lax = lane(failure_threshold=10, open_duration_s=600)

    assert (strict["trips"], lax["trips"]) == (1, 1)
    assert lax["hurt"] > strict["hurt"] + 5  # what happened to others then happens to them here
    assert lax["detection_s"]["longest"] > strict["detection_s"]["longest"]


def test_a_policy_that_never_trips_misses_the_incident():
    incident = outage()

    found = rehearse(today=Policy(), never=Policy(failure_threshold=500))

    assert [one["id"] for one in found["incidents"]] == [incident.pk]
    assert found["lanes"]["today"]["missed"] == []
    assert found["lanes"]["never"]["missed"] == [incident.pk]
    assert found["lanes"]["never"]["hurt"] > 300


def test_calls_whose_fate_nobody_saw_are_told_apart():
    outage()

    found = lane(open_duration_s=600)

    # Sick from the trip to the failed probe; from there to the one that was heard nobody knows.
    assert found["avoided"] == 300
    assert 0 < found["fate_unknown"] <= 101
    assert found["diverted"] == found["avoided"] + found["fate_unknown"] + found["diverted_healthy"]


# --- what else is told


def test_alerts_are_those_with_a_template_that_is_on():
    stray_failures()
    AlertTemplate.objects.create(event="tripped", name="tripped", title="t", body="b")
    AlertTemplate.objects.create(
        event="recovered", name="recovered", title="t", body="b", enabled=False
    )

    assert lane(**QUICK)["alerts"] == 1


def test_an_order_holds_under_any_policy():
    stray_failures()
    Transition.objects.create(
        event_id="o", name="override_set", provider="soniox", kind=STT, before="closed",
        after="forced_closed", at=moment(s(10)), cause="override", actor="admin:ana", version=1,
    )  # fmt: skip

    found = lane(failure_threshold=1, **QUICK)

    assert found["trips"] == 0
    assert found["transitions"][0]["to"] == "forced_closed"


def test_a_rehearsal_can_be_stopped():
    stray_failures()
    told: list[float] = []

    def stop(done: float) -> bool:
        told.append(done)
        return len(told) < 2

    with pytest.raises(Stopped):
        backtest.rehearse([(STT, "soniox")], {"a": Policy()}, Span(START, s(1200)), progress=stop)
    assert len(told) == 2
    assert SLOT_MS == 600_000  # two slots: it was stopped between them


def test_a_suggestion_holds_todays_point_and_a_front():
    stray_failures()

    found = backtest.suggest(
        [(STT, "soniox")], Policy(), Span(START, s(1200)), progress=lambda done: True
    )["points"]

    [today] = [point for point in found if point["is_today"]]
    best = [point for point in found if point["is_best"]]
    assert today["moved_for_nothing"] > 0
    assert not today["is_best"]
    assert any(point["moved_for_nothing"] == 0 and point["hurt"] == 2 for point in best)
    for one in best:
        assert not any(
            other["hurt"] <= one["hurt"] and other["moved_for_nothing"] < one["moved_for_nothing"]
            for other in found
        )
