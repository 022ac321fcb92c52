"""The recorded past: gathered without a turn, written twice without harm, stored once, bounded."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fallback import catalog, past, services
from fallback.domain import Kind, Outcome, OutcomeKind, Question
from fallback.errors import BreakerUnavailable
from fallback.models import RecordedSlot
from fallback.past import NOBODY, Failure, Flag, Reporter, Sighting, Slot, What, recorder, slots
from fallback.past.keeping import SETTLED_MS, Keeper
from fallback.past.recorder import Recorder
from fallback.past.sightings import HOSTS_MAX, SLOT_MS, call_number, pack, unpack
from fallback.past.slots import Place
from tests.configuration import make_route

pytestmark = pytest.mark.django_db(transaction=True)

STT = Kind.STT
AT_MS = 1_790_000_400_000  # the beginning of a slot


@pytest.fixture
def recording(monkeypatch):
    """Have the verbs write to a recorder of this test, which no thread flushes."""
    mine = Recorder()
    monkeypatch.setattr(mine._flusher, "start", lambda: None)
    monkeypatch.setattr(recorder, "_recorder", mine)
    return mine


@pytest.fixture
def route(recording):
    make_route("breeze-buddy", "soniox", "deepgram")
    catalog.reload()
    services.publish_configuration()


def seen(at_ms: int, what: What = What.HEARD, call: int = 1, flags: int = 0) -> Sighting:
    return Sighting(at_ms, call, 0, 0, 0, what, flags)


def failure(call: str = "CA1") -> Failure:
    return Failure("timeout", call, 0, "init_failure")


def everything(provider: str = "soniox") -> list[Sighting]:
    now_ms = round(timezone.now().timestamp() * 1000)
    return [
        one
        for slot in past.read(STT, provider, now_ms - 3_600_000, now_ms + 60_000)
        for one in slot
    ]


def report(call: str, kind: OutcomeKind, provider: str = "soniox", **seen_: object) -> None:
    services.report_outcomes(
        [Outcome(f"{call}:{kind}", call, provider, kind, route="breeze-buddy", **seen_)],
        by="api:eu",
    )


# --- what is kept


def test_a_call_is_kept_as_it_asked_and_as_it_was_heard(route):
    services.make_decision(Question("breeze-buddy", "CA1", host="pod-1"))
    report("CA1", OutcomeKind.FIRST_TRANSCRIPT, latency_ms=640, host="pod-1", age_ms=30)

    past.flush()

    asked, heard = everything()
    assert (asked.what, asked.flags) == (What.ASKED, Flag.TAKEN | Flag.MAY_PROBE)
    assert (heard.what, heard.value, heard.age_ms) == (What.HEARD, 640, 30)
    assert asked.call == heard.call == call_number("CA1")


def test_a_failure_is_kept_in_full(route):
    report("CA1", OutcomeKind.INIT_FAILURE, reason="rate_limit", host="pod-9", retry_after_s=1.5)

    past.flush()

    now_ms = round(timezone.now().timestamp() * 1000)
    [slot] = past.read(STT, "soniox", now_ms - 60_000, now_ms + 60_000)
    [(_, kept, reporter)] = slot.failed(0, 2**53)
    assert kept == Failure("rate_limit", "CA1", 1500, "init_failure")
    assert reporter == ("pod-9", "eu")


def test_a_diverted_call_is_kept_with_whom_it_wanted(route):
    for call in ("CA1", "CA2"):
        report(call, OutcomeKind.INIT_FAILURE, reason="timeout")

    services.make_decision(Question("breeze-buddy", "CA3"))
    past.flush()

    wanted = [one for one in everything() if one.what == What.ASKED]
    assert [one.flags & Flag.TAKEN for one in wanted] == [0]
    assert [one.flags & Flag.TAKEN for one in everything("deepgram")] == [Flag.TAKEN]


def test_a_call_that_its_agent_sent_elsewhere_wanted_the_step_before(route):
    report("CA1", OutcomeKind.STARTED, "deepgram", mode="fallback", source="pushed")
    past.flush()

    assert [(one.what, one.flags) for one in everything()] == [(What.STARTED, 0)]
    assert [one.flags for one in everything("deepgram")] == [Flag.TAKEN]


def test_what_was_not_taken_is_not_kept(route):
    report("CA1", OutcomeKind.INIT_FAILURE, reason="timeout")
    report("CA1", OutcomeKind.INIT_FAILURE, reason="timeout")
    past.flush()

    assert [one.what for one in everything()] == [What.FAILED]


def test_keeping_takes_no_query(route):
    with CaptureQueriesContext(connection) as queries:
        services.make_decision(Question("breeze-buddy", "CA1"))
        report("CA1", OutcomeKind.FIRST_TRANSCRIPT)
    assert len(queries) == 0


# --- writing


def test_what_could_not_be_written_is_written_the_next_time(recording, monkeypatch):
    recording.add(STT, "soniox", seen(AT_MS), NOBODY)
    with monkeypatch.context() as patch:
        patch.setattr(slots, "get_redis_connection", _away)
        with pytest.raises(BreakerUnavailable):
            recording.flush()

    recording.flush()

    assert len(slots.read(STT, AT_MS)["soniox"]) == 1


def _away(alias: str) -> None:
    raise ConnectionRefusedError(alias)


def test_what_is_written_again_after_a_lost_answer_is_there_once(recording):
    parts = {"p.1": (Place(STT, AT_MS, "soniox"), _slot(seen(AT_MS)))}
    slots.write(parts)
    slots.write(parts)

    assert len(slots.read(STT, AT_MS)["soniox"]) == 1


def test_the_parts_of_several_processes_come_in_the_order_of_redis(recording):
    place = Place(STT, AT_MS, "soniox")
    slots.write({"a.1": (place, _slot(seen(AT_MS + 1), seen(AT_MS + 9)))})
    slots.write({"b.1": (place, _failed(AT_MS + 5, "pod-2"))})

    whole = slots.read(STT, AT_MS)["soniox"]

    assert [one.at_ms - AT_MS for one in whole] == [1, 5, 9]
    assert [by.host for _, _, by in whole.failed(0, 2**53)] == ["pod-2"]


def _slot(*sightings: Sighting) -> Slot:
    slot = Slot(AT_MS)
    for one in sightings:
        slot.add(one)
    return slot


def _failed(at_ms: int, host: str) -> Slot:
    slot = Slot(AT_MS)
    slot.add(seen(at_ms, What.FAILED), Reporter(host), failure())
    return slot


def test_without_room_it_is_dropped_and_said(recording, monkeypatch):
    monkeypatch.setattr(recorder, "ROOM", 2)
    for number in range(5):
        recording.add(STT, "soniox", seen(AT_MS + number), NOBODY)
    recording.flush()

    kept = slots.read(STT, AT_MS)["soniox"]
    assert (len(kept), kept.dropped) == (2, 3)

    recording.add(STT, "soniox", seen(AT_MS + 9), NOBODY)  # there is room again
    recording.flush()
    assert len(slots.read(STT, AT_MS)["soniox"]) == 3


def test_a_slot_in_redis_ends_by_itself(recording, redis_client):
    recording.add(STT, "soniox", seen(AT_MS), NOBODY)
    recording.flush()

    [key] = redis_client.keys("*:past:*")
    assert 0 < redis_client.pttl(key) <= slots.KEPT_MS + SLOT_MS


# --- storing


def keep_at(at_ms: int) -> int:
    return Keeper(lambda: at_ms / 1000).run()


def test_a_slot_is_stored_once_it_is_over(recording):
    recording.add(STT, "soniox", seen(AT_MS), NOBODY)
    recording.flush()

    assert keep_at(AT_MS + SLOT_MS + SETTLED_MS - 1) == 0
    assert keep_at(AT_MS + SLOT_MS + SETTLED_MS) == 1
    assert keep_at(AT_MS + SLOT_MS + SETTLED_MS) == 1  # another pump; the first row stands
    assert RecordedSlot.objects.count() == 1
    assert RecordedSlot.objects.get().at == datetime.fromtimestamp(AT_MS / 1000, UTC)


def test_the_past_goes_on_from_the_database_into_redis(recording):
    for number in range(4):
        recording.add(STT, "soniox", seen(AT_MS + number * SLOT_MS), NOBODY)
    recording.flush()
    keep_at(AT_MS + 2 * SLOT_MS + SETTLED_MS)

    found = [
        one.at_ms for slot in past.read(STT, "soniox", AT_MS, AT_MS + 4 * SLOT_MS) for one in slot
    ]

    assert RecordedSlot.objects.count() == 2
    assert found == [AT_MS + number * SLOT_MS for number in range(4)]


def test_old_slots_are_forgotten_a_few_at_a_time(recording):
    now = timezone.now()
    RecordedSlot.objects.bulk_create(
        RecordedSlot(kind=STT, provider="soniox", at=now - timedelta(days=day), data=b"")
        for day in range(40)
    )
    assert past.forget(now, days=30, at_most=5) == 5
    assert past.forget(now, days=30, at_most=100) == 4
    assert RecordedSlot.objects.count() == 31


# --- packing


def test_what_is_packed_is_unpacked():
    slot = Slot(AT_MS, dropped=7)
    slot.add(seen(AT_MS, What.ASKED, 2**32 - 1, Flag.TAKEN | Flag.LAST_RESORT), Reporter("pod-1"))
    slot.add(
        seen(AT_MS + SLOT_MS - 1, What.FAILED),
        Reporter("pod {2}\n\x00", "eu"),
        failure("\ud800é\n"),
    )

    assert unpack(AT_MS, pack(slot)) == slot


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50, pack(Slot(AT_MS))[:-3]])
def test_damage_reads_as_an_empty_slot(damage):
    assert len(unpack(AT_MS, damage)) == 0


def test_hosts_beyond_the_limit_are_one():
    slot = Slot(AT_MS)
    for number in range(HOSTS_MAX + 50):
        slot.add(seen(AT_MS), Reporter(f"pod-{number}"))

    assert len(slot.reporters) == HOSTS_MAX
    assert slot.reporters[slot[len(slot) - 1].host] == NOBODY
