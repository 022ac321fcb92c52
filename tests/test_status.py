"""Everything as it is now: verdicts, orders, and what stays when Redis goes."""

import re
import threading
import time
from contextlib import contextmanager
from unittest import mock

import pytest

from fallback import breaker, catalog, models, status
from fallback.domain import (
    Breaker,
    BreakerView,
    Kind,
    LastResort,
    MidCallAction,
    Order,
    Override,
    Policy,
    Provider,
    Route,
    State,
    Step,
)
from fallback.errors import BreakerUnavailable, NotFound
from fallback.models import ConfigRevision, Incident
from fallback.status import Board
from tests.configuration import make_provider, make_route
from tests.rest import api, outcome

SOON, LATER = 1_000, 2_000


def view(slug: str, state: State = State.CLOSED, until_ms: int | None = None) -> BreakerView:
    """Return a breaker in this state."""
    return BreakerView(slug, Kind.STT, Breaker(state=state), until_ms, 0, {}, 0)


def route_of(*slugs: str, **values) -> Route:
    """Return a route over these providers; one that begins with `-` is disabled."""
    steps = tuple(
        Step(
            Provider(slug.strip("-"), Kind.STT, slug, not slug.startswith("-"), (), {}, "", "p"), {}
        )
        for slug in slugs
    )
    fixed = {"fallback_enabled": True, "last_resort": LastResort.PRIMARY}
    return Route(
        slug="r", name="R", kind=Kind.STT, on_mid_call_failure=MidCallAction.SWAP, steps=steps,
        **{**fixed, **values},
    )  # fmt: skip


def order(route: Route, *views: BreakerView) -> list[str]:
    """Return the order that calls take the route's providers in."""
    known = {(Kind.STT, one.provider): one for one in views}
    return [step.provider.slug for step in status.order_now(route, known)]


def verdict(route: Route, *views: BreakerView) -> str:
    """Return the verdict over one route."""
    return status.judge([route], {(Kind.STT, one.provider): one for one in views})


def test_those_that_admit_come_first_each_in_the_order_of_the_chain():
    assert order(route_of("a", "b", "c"), view("a", State.OPEN), view("b"), view("c")) == [
        "b", "c", "a",
    ]  # fmt: skip


def test_a_provider_that_nothing_is_known_of_admits():
    assert order(route_of("a", "b"), view("a", State.HALF_OPEN)) == ["b", "a"]


def test_what_an_operator_forced_open_comes_last():
    views = view("a", State.FORCED_OPEN), view("b", State.OPEN), view("c", State.FORCED_CLOSED)

    assert order(route_of("a", "b", "c"), *views) == ["c", "b", "a"]


def test_with_soonest_whoever_is_back_first_comes_first():
    views = view("a", State.OPEN, LATER), view("b", State.OPEN, SOON)

    assert order(route_of("a", "b", last_resort=LastResort.SOONEST), *views) == ["b", "a"]
    assert order(route_of("a", "b"), *views) == ["a", "b"]


def test_a_route_with_its_fallback_switched_off_keeps_its_order():
    assert order(route_of("a", "b", fallback_enabled=False), view("a", State.OPEN)) == ["a", "b"]


def test_a_disabled_provider_is_in_no_order():
    assert order(route_of("-a", "b"), view("a"), view("b")) == ["b"]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((State.CLOSED, State.SHADOW), "healthy"),
        ((State.CLOSED, State.FORCED_CLOSED), "healthy"),
        ((State.OPEN, State.CLOSED), "degraded"),
        ((State.CLOSED, State.FORCED_OPEN), "degraded"),
        ((State.HALF_OPEN, State.CLOSED), "degraded"),
        ((State.OPEN, State.FORCED_OPEN), "critical"),
        ((State.HALF_OPEN, State.OPEN), "critical"),
    ],
)
def test_the_verdict_is_the_worst_that_a_route_suffers(states, expected):
    views = [view(slug, state) for slug, state in zip("ab", states, strict=True)]

    assert verdict(route_of("a", "b"), *views) == expected


def test_a_provider_in_no_route_makes_nothing_worse():
    assert verdict(route_of("a"), view("a"), view("z", State.OPEN)) == "healthy"


def test_a_route_whose_providers_are_all_disabled_is_critical():
    assert verdict(route_of("-a")) == "critical"


class Clock:
    """A monotonic clock that only moves when told."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock) -> Board:
    make_route()
    catalog.reload()
    return Board(clock)


@pytest.fixture
def hang_up(monkeypatch):
    """Return a function that cuts this process off from Redis: its port, and nothing of ours."""

    def cut() -> None:
        def refuse(*_args, **_kwargs):
            raise BreakerUnavailable("cut off")

        monkeypatch.setattr(breaker, "snapshot", refuse)

    return cut


@pytest.mark.django_db(transaction=True)
def test_the_status_has_the_contracts_shape(board):
    body = board.current().body

    assert list(body) == [
        "version", "at", "verdict", "pump_lag_s", "degraded", "breakers", "routes",
        "unknown_names", "more_unknown_names",
    ]  # fmt: skip
    assert list(body["breakers"][0]) == [
        "provider", "kind", "state", "since", "until", "cause", "failures", "failure_threshold",
        "failure_window_s", "trips", "leases", "probe_slots", "override", "last_reasons",
        "keys", "held_back", "incident",
    ]  # fmt: skip
    assert list(body["routes"][0]) == [
        "route", "kind", "fallback_enabled", "on_mid_call_failure", "order",
    ]  # fmt: skip
    assert body["verdict"] == "healthy"
    assert body["pump_lag_s"] == 0.0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["at"])


@pytest.mark.django_db(transaction=True)
def test_a_trip_shows_in_breaker_route_verdict_and_version(board, clock):
    before = board.current().body
    agent = api()
    agent.report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))
    clock.now_s += 1

    after = board.current().body

    soniox = {one["provider"]: one for one in after["breakers"]}["soniox"]
    assert (soniox["state"], soniox["trips"], soniox["failures"]) == ("open", 1, 2)
    assert soniox["last_reasons"] == {"connection": 2}
    assert [(step["provider"], step["position"]) for step in after["routes"][0]["order"]] == [
        ("deepgram", 2), ("soniox", 1),
    ]  # fmt: skip
    assert after["verdict"] == "degraded"
    assert after["version"] > before["version"]
    assert after["pump_lag_s"] >= 0


@pytest.mark.django_db(transaction=True)
def test_an_incident_has_its_number_once_it_is_stored(board, clock):
    agent = api()
    agent.report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))
    assert {one["incident"] for one in board.current().body["breakers"]} == {None}
    key = breaker.snapshot(Kind.STT, ["soniox"]).views[0].breaker.incident
    stored = Incident.objects.create(key=key, provider="soniox", opened_at="2026-11-22T12:00:00Z")
    clock.now_s += 1

    shown = board.current().body["breakers"]

    assert {one["provider"]: one["incident"] for one in shown} == {
        "soniox": stored.pk,
        "deepgram": None,
    }


class Slow(Board):
    """Counts its looks, each of which takes a while."""

    looks = 0

    def _look(self, config):
        self.looks += 1
        time.sleep(0.01)
        return super()._look(config)


@pytest.mark.django_db(transaction=True)
def test_a8_status_many_readers_at_once_share_looks_that_began_after_they_asked():
    make_route()
    catalog.reload()
    board, over, asked = Slow(), time.monotonic() + 0.5, []

    def read() -> None:
        while time.monotonic() < over:
            before = board.looks
            board.current()
            asked.append(board.looks > before)

    readers = [threading.Thread(target=read) for _ in range(16)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert all(asked)  # nobody was shown a look that was under way
    assert board.looks <= 0.5 / 0.02 + 2  # they take half of the time at most
    assert len(asked) > 4 * board.looks


@pytest.mark.django_db(transaction=True)
def test_a8_status_each_reader_is_shown_what_was_done_before_by_whatever_process(board):
    shown = []
    for state in (State.FORCED_OPEN, State.SHADOW, State.FORCED_CLOSED):
        breaker.order(Kind.STT, Order("override", "soniox", "test", "test", state))
        shown += [row["state"] for row in board.current().body["breakers"][1:]]

    assert shown == ["forced_open", "shadow", "forced_closed"]


@pytest.mark.django_db(transaction=True)
def test_a_look_that_finds_nothing_new_builds_nothing(board, clock):
    first = board.current()
    clock.now_s += 1
    second = board.current()

    assert second.body["routes"] is first.body["routes"]
    assert (second.etag, list(second.body)) == (first.etag, list(first.body))


@pytest.mark.django_db(transaction=True)
def test_what_is_held_is_dropped_with_the_configuration_it_was_built_of(board):
    before = board.current()
    make_provider("sarvam")  # no second passes

    assert "sarvam" not in named(before.body)
    assert "sarvam" in named(board.current().body)


@pytest.mark.django_db(transaction=True)
def test_a8_status_of_an_idle_process_the_first_is_not_its_last_visits(idle):
    client = api()
    client.get("/api/v1/status")
    changed_elsewhere()
    idle(3600)

    assert named(client.get("/api/v1/status").json()) == ["deepgram"]


@pytest.mark.django_db(transaction=True)
def test_a_decision_of_an_idle_process_goes_on_with_what_it_holds(idle, monkeypatch):
    client = api()
    client.decide(call_id="CA0")
    looked = threading.Event()
    monkeypatch.setattr(catalog._cache, "_load", lambda held: looked.wait(5) and catalog.load(held))
    idle(3600)
    began = time.monotonic()
    answer = client.decide(can_use=["soniox", "nobody"])
    took_s = time.monotonic() - began
    looked.set()

    assert answer.json()["provider"] == "soniox"
    assert took_s < 1  # the look takes five


@pytest.mark.django_db(transaction=True)
def test_a_page_shows_a_change_that_another_process_made_just_now(idle):
    status.build()
    changed_elsewhere()

    assert named(status.newest()) == ["deepgram"]
    assert named(status.build()) == ["deepgram"]


@pytest.mark.django_db(transaction=True)
def test_a_provider_just_made_elsewhere_is_found_by_an_idle_process(idle):
    client = api()
    with past_the_signals():
        make_provider("sarvam")
    idle(3600)

    assert client.get("/api/v1/providers/sarvam").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a8_status_right_after_an_outcome_tells_that_outcome():
    make_route()
    client = api("operator")
    client.get("/api/v1/status")
    versions, failures = [], []
    for number in range(5):
        client.report(outcome(reason="timeout" if number else "bad_request", call_id=f"CA{number}"))
        body = client.get("/api/v1/status").json()
        versions.append(body["version"])
        failures.append(next(it for it in body["breakers"] if it["provider"] == "soniox"))

    assert [it["failures"] for it in failures] == [0, 1, 2, 2, 2]
    assert [it["state"] for it in failures] == ["closed", "closed", "open", "open", "open"]
    assert versions == sorted(versions)


@pytest.mark.django_db(transaction=True)
def test_a_status_right_after_a_decision_is_of_no_earlier_version():
    make_route()
    client = api()
    client.report(*(outcome(call_id=call, reason="rate_limit") for call in ("CA1", "CA2")))
    client.get("/api/v1/status")
    breaker.order(Kind.STT, Order("reset", "soniox", "test", "test"))  # by another process
    decided = client.decide(call_id="CA3").json()

    assert client.get("/api/v1/status").json()["version"] >= decided["version"]


def named(body) -> list[str]:
    """Return the providers whose breakers a status has."""
    return [row["provider"] for row in body["breakers"]]


@contextmanager
def past_the_signals():
    """Change the configuration in the block as another process does: this one is not told."""
    with mock.patch("fallback.changes.watching.announce"):
        yield
    ConfigRevision.bump()


def changed_elsewhere() -> None:
    """Switch soniox off by another process."""
    with past_the_signals():
        models.Provider.objects.filter(slug="soniox").update(enabled=False)


def load_slowly(held):
    """Look at the database, which takes longer than a request that does not wait."""
    time.sleep(0.1)
    return catalog.load(held)


@pytest.fixture
def idle(clock, monkeypatch):
    """Configure a route; return a function that lets seconds pass in which nobody asks."""
    make_route()
    monkeypatch.setattr(catalog, "_cache", catalog.Cache(load_slowly, clock))
    monkeypatch.setattr(status, "_board", Board(clock))

    def pass_by(seconds: float) -> None:
        clock.now_s += seconds

    return pass_by


@pytest.mark.django_db(transaction=True)
def test_the_tag_stays_while_nothing_happens_and_changes_with_the_news(board, clock):
    tags = [board.current().etag]
    clock.now_s += 1
    tags.append(board.current().etag)
    api().report(outcome(reason="connection"))
    clock.now_s += 1
    tags.append(board.current().etag)

    assert tags[0] == tags[1] != tags[2]


@pytest.mark.django_db(transaction=True)
def test_without_redis_the_last_known_state_is_shown_as_such(board, clock, hang_up):
    operator = api("operator")
    order = {"state": "forced_open", "reason": "x"}
    operator.send("PUT", "providers/soniox/override", order)
    known = board.current().body
    hang_up()
    clock.now_s += 1

    shown = board.current().body

    assert shown["breakers"] == known["breakers"]
    assert (shown["degraded"], shown["verdict"], shown["pump_lag_s"]) == (True, "degraded", None)
    assert shown["version"] == known["version"]


@pytest.mark.django_db(transaction=True)
def test_without_redis_from_the_start_nothing_is_claimed(board, hang_up):
    hang_up()

    shown = board.current().body

    assert (shown["verdict"], shown["degraded"], shown["breakers"]) == ("unknown", True, [])
    assert [step["provider"] for step in shown["routes"][0]["order"]] == ["soniox", "deepgram"]


@pytest.mark.django_db(transaction=True)
def test_redis_back_is_seen_at_the_next_look(board, clock, monkeypatch, hang_up):
    with monkeypatch.context() as away:
        away.setattr(breaker, "snapshot", lambda *_: (_ for _ in ()).throw(BreakerUnavailable("x")))
        assert board.current().body["degraded"]
    clock.now_s += 1

    assert not board.current().body["degraded"]


@pytest.mark.django_db(transaction=True)
def test_without_any_configuration_the_verdict_is_unknown():
    catalog._cache._held = catalog.Catalog()

    assert Board().current().body["verdict"] == "unknown"


@pytest.mark.django_db(transaction=True)
def test_a_provider_that_is_not_there_is_not_found():
    make_provider("soniox")
    catalog.reload()

    assert status.provider_status(Kind.STT, "soniox")["provider"] == "soniox"
    with pytest.raises(NotFound):
        status.provider_status(Kind.TTS, "soniox")


@pytest.mark.django_db(transaction=True)
def test_the_api_answers_304_until_there_is_news():
    make_route()
    client = api()
    tag = client.get("/api/v1/status")["ETag"]

    same = client.get("/api/v1/status", headers={"if-none-match": tag})
    client.report(outcome(reason="connection"))
    news = client.get("/api/v1/status", headers={"if-none-match": tag})

    assert (same.status_code, same.content, same["ETag"]) == (304, b"", tag)
    assert (news.status_code, news["ETag"] != tag) == (200, True)


def test_an_override_is_shown_with_author_reason_and_end():
    kept = Breaker(override=Override(State.SHADOW, "admin:ana", "trying", 0, 86_400_000))
    shown = status._breaker(BreakerView("a", Kind.STT, kept, None, 0, {}, 0), Policy(), {})

    assert shown["override"] == {
        "state": "shadow",
        "by": "admin:ana",
        "reason": "trying",
        "until": "1970-01-02T00:00:00.000Z",
    }


@pytest.mark.django_db(transaction=True)
def test_a1_what_another_than_the_master_says_is_degraded(monkeypatch):
    make_route()
    catalog.reload()
    monkeypatch.setattr(breaker, "is_sure", lambda: False)

    assert status.build()["degraded"]
