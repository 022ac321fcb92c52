"""A second policy beside the live one: it finds what a rehearsal finds, in steps, once, and moves
nothing. The past is lived through by a machine, at times of the test's choice."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.test import Client

from fallback import breaker, catalog, domain, past
from fallback.backtest import Span, run
from fallback.backtest.fates import Fates
from fallback.backtest.lane import Lane
from fallback.backtest.storing import restored, stored
from fallback.domain import Kind, Outcome, OutcomeKind, Policy, Reason
from fallback.machine import Machine
from fallback.models import Provider, ShadowRun, ShadowTrip
from fallback.pump import Pump
from fallback.shadow import findings, follow
from fallback.shadow.following import SETTLED_MS
from tests.configuration import make_policy, make_provider
from tests.events import STREAM
from tests.test_admin import text_of, url

pytestmark = pytest.mark.django_db(transaction=True)

LENGTH_MS = 50 * 60_000
SECOND = {"failure_threshold": 4, "open_duration_s": 120}
Live = Callable[..., int]


@pytest.fixture(autouse=True)
def soniox(monkeypatch: pytest.MonkeyPatch) -> Provider:
    """Run soniox under one policy, with another in shadow beside it."""
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    live = make_policy(failure_threshold=2, open_duration_s=60)
    second = make_policy("second", **SECOND)
    return make_provider("soniox", policy=live, shadow_policy=second)


@pytest.fixture
def live() -> Live:
    """Return what lives through fifty minutes with outages, ending now; it returns when it began.

    The live breaker is a machine of its own, and what it is told is recorded as always.
    """
    return live_through


def live_through(seed: int = 1) -> int:
    start_ms = int(time.time() * 1000) - LENGTH_MS - SETTLED_MS
    chance, machine, now_ms = random.Random(seed), Machine(), start_ms
    names = {"soniox": Policy(failure_threshold=2, open_duration_s=60), "deepgram": Policy()}
    machine.configure(1, names, now_ms=now_ms, request="begin")
    for number in range(600):
        now_ms += chance.randrange(1000, 9000)
        if now_ms >= start_ms + LENGTH_MS - 5000:
            break
        is_sick = 10 < (now_ms - start_ms) // 60_000 < 14 or chance.random() < 0.03
        call = f"c{seed}-{number}"
        asked = domain.Asked(call, "r", (("soniox", False), ("deepgram", False)))
        walk = machine.decide(asked, now_ms=now_ms, request=f"{number:08x}")
        past.decided(Kind.STT, asked, walk)
        name = walk.findings[walk.chosen].provider
        kind = OutcomeKind.FIRST_TRANSCRIPT
        if name == "soniox" and is_sick:
            kind = OutcomeKind.INIT_FAILURE
        seen = Outcome(f"{call}{kind}", call, name, kind, Reason.CONNECTION, host=f"h{number % 3}",
                       latency_ms=300, lease=walk.lease)  # fmt: skip
        told = machine.record(seen, (), now_ms=now_ms + 900, request=f"{number:08x}o")
        past.seen(Kind.STT, seen, None, told)
    past.flush()
    return start_ms


def step(at_ms: int) -> int:
    """Follow what was recorded up to a time."""
    return follow(at_ms + SETTLED_MS)


def trips() -> list[tuple[Any, ...]]:
    rows = ShadowTrip.objects.order_by("at")
    return [(row.at, row.until, row.cause, row.reason, row.evidence) for row in rows]


def would_trips(redis_client: Any) -> list[dict[bytes, bytes]]:
    rows = [fields for _, fields in redis_client.xrange(STREAM)]
    return [fields for fields in rows if fields[b"name"] == b"would_trip"]


def begin(start_ms: int) -> None:
    """Have the shadow begin when life does."""
    follow(start_ms)


def gist() -> tuple[Any, ...]:
    row = ShadowRun.objects.get()
    return trips(), row.trips, row.hurt, row.diverted, row.diverted_healthy


def test_it_finds_what_a_rehearsal_of_the_same_time_finds(live: Live) -> None:
    start_ms = live()
    begin(start_ms)
    step(start_ms + LENGTH_MS)
    span = Span(start_ms, start_ms + LENGTH_MS)
    lane = run(Kind.STT, "soniox", {"it": Policy(**SECOND)}, span).lanes["it"]
    expected = [event.at_ms for event in lane.moves if event.name == "tripped"]

    row = ShadowRun.objects.get()
    assert [round(found.at.timestamp() * 1000) for found in ShadowTrip.objects.order_by("at")] == (
        expected
    )
    assert len(expected) >= 1
    assert (row.trips, row.diverted) == (len(expected), lane.counts.diverted)


@pytest.mark.parametrize("seed", range(4))
def test_many_steps_find_what_one_finds(live: Live, seed: int) -> None:
    start_ms = live(seed)
    begin(start_ms)
    step(start_ms + LENGTH_MS)
    at_once = gist()
    ShadowRun.objects.all().delete()
    begin(start_ms)
    chance = random.Random(seed)
    for at_ms in sorted(chance.randrange(LENGTH_MS) for _ in range(25)):
        step(start_ms + at_ms)
    step(start_ms + LENGTH_MS)

    assert gist() == at_once


def test_a_trip_is_told_once_with_what_led_to_it(live: Live, redis_client: Any) -> None:
    start_ms = live()
    begin(start_ms)
    found = step(start_ms + LENGTH_MS)
    step(start_ms + LENGTH_MS + 1000)
    told = would_trips(redis_client)

    assert len(told) == found == ShadowRun.objects.get().trips
    assert told[0][b"cause"] == b"failure_threshold"
    assert b"second in shadow of soniox" in told[0][b"reason"]
    assert json.loads(told[0][b"evidence"])["failure_threshold"] == 4


def test_a_step_that_was_lost_before_it_was_stored_is_taken_again_and_told_once(
    live: Live, redis_client: Any
) -> None:
    start_ms = live()
    begin(start_ms)
    with transaction.atomic():
        lost = step(start_ms + LENGTH_MS)
        transaction.set_rollback(True)  # killed before the commit
    assert not ShadowTrip.objects.exists()
    found = step(start_ms + LENGTH_MS)

    assert found == lost == len(trips()) == len(would_trips(redis_client))


def test_nothing_live_moves(live: Live, redis_client: Any) -> None:
    start_ms = live()
    breaker.configure(Kind.STT, 1, {"soniox": Policy()})
    before = redis_client.hget(breaker.key(Kind.STT, "breakers"), "soniox")
    begin(start_ms)
    step(start_ms + LENGTH_MS)

    assert redis_client.hget(breaker.key(Kind.STT, "breakers"), "soniox") == before
    assert {fields[b"name"] for _, fields in redis_client.xrange(STREAM)} == {b"would_trip"}


def test_the_pump_follows(live: Live) -> None:
    live()
    Pump("test").turn()

    assert ShadowRun.objects.get().policy.name == "second"


def test_other_values_begin_another_run(live: Live, soniox: Provider) -> None:
    start_ms = live()
    begin(start_ms)
    step(start_ms + LENGTH_MS)
    second = soniox.shadow_policy
    second.failure_threshold = 9
    second.save()
    step(start_ms + LENGTH_MS + 1000)

    row = ShadowRun.objects.get()
    assert (row.trips, row.found.count(), row.judged_by["failure_threshold"]) == (0, 0, 9)


def test_naming_none_ends_it(live: Live, soniox: Provider) -> None:
    begin(live())
    soniox.shadow_policy = None
    soniox.save()
    follow()

    assert not ShadowRun.objects.exists()
    assert findings(soniox) is None


def test_redis_away_passes_nothing_over(live: Live, redis_client: Any) -> None:
    start_ms = live()
    begin(start_ms)
    before = ShadowRun.objects.get().until
    redis_client.execute_command("CLIENT", "PAUSE", 3_000, "ALL")
    with pytest.raises(breaker.BreakerUnavailable):
        step(start_ms + LENGTH_MS)
    redis_client.ping()  # until it answers again

    assert ShadowRun.objects.get().until == before


def test_after_a_long_pause_each_step_is_bounded(live: Live) -> None:
    start_ms = live()
    begin(start_ms - 5 * 3_600_000)
    step(start_ms)

    assert ShadowRun.objects.get().until.timestamp() * 1000 == start_ms - 4 * 3_600_000


@pytest.mark.parametrize("damage", ["strange", "older", "empty"])
def test_a_lane_that_cannot_be_read_begins_anew(damage: str) -> None:
    policy = Policy()
    data = stored(Lane("soniox", policy, Fates(), 1000))
    whole = json.loads(json.dumps(data))
    if damage == "strange":
        whole["machine"] = {"!": "os.system", "rows": ["true"]}
    elif damage == "older":
        del whole["counts"]
    else:
        whole = {}

    assert restored(whole, policy, Fates()) is None
    assert restored(json.loads(json.dumps(data)), policy, Fates()) is not None


def test_a_run_whose_lane_another_version_stored_begins_anew_where_it_stood(live: Live) -> None:
    start_ms = live()
    begin(start_ms)
    step(start_ms + LENGTH_MS // 2)
    stood = ShadowRun.objects.get().until
    ShadowRun.objects.update(lane={"of": "another version"}, trips=99)
    step(start_ms + LENGTH_MS)

    row = ShadowRun.objects.get()
    assert (row.since, row.trips) == (stood, row.found.count())


def test_the_live_policy_cannot_be_its_own_shadow(soniox: Provider) -> None:
    soniox.shadow_policy = soniox.policy
    with pytest.raises(ValidationError, match="choose another"):
        soniox.full_clean()


def test_a_policy_that_runs_in_shadow_is_not_deleted(soniox: Provider) -> None:
    with pytest.raises(models.ProtectedError):
        soniox.shadow_policy.delete()


def test_both_pages_say_what_it_found_beside_the_live_policy(
    live: Live, soniox: Provider, admin_client: Client
) -> None:
    start_ms = live()
    begin(start_ms)
    count = step(start_ms + LENGTH_MS)
    pages = [
        text_of(admin_client.get(url("provider", "change", soniox.pk))),
        text_of(admin_client.get(url("policy", "change", soniox.shadow_policy_id))),
    ]

    for page in pages:
        assert "second would have tripped" in page
        assert page.count("would have tripped at") == count
        assert "the live policy tripped" in page
