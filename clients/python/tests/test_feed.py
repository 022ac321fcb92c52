"""The feed by the contract: snapshot, changes, beats, gaps; and polling where there is none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stt_guard import SttGuard, feed
from tests.conftest import eventually
from tests.plane_double import PlaneDouble


@asynccontextmanager
async def listening(
    double: PlaneDouble | None = None, **options: object
) -> AsyncIterator[tuple[PlaneDouble, SttGuard]]:
    """Run a double and a client of it that has heard it."""
    double = double or PlaneDouble()
    async with double.running():
        fixed = {"key": "k1", "route": "r", "can_use": ["soniox", "deepgram"]}
        async with SttGuard(double.url, **{**fixed, **options}) as guard:
            await guard.start(2)
            yield double, guard


async def test_a_change_is_in_the_next_decision_and_nothing_was_asked():
    async with listening() as (double, guard):
        await double.move("soniox", "open", until="2026-11-22T12:30:00.000Z")
        assert await eventually(lambda: guard.picture.version == 2)
        away = await guard.call("c1")
        await double.move("soniox", "closed")
        assert await eventually(lambda: guard.picture.version == 3)
        back = await guard.call("c2")

        assert (away.provider, away.mode, away.settings) == ("deepgram", "fallback", {"model": "d"})
        assert (back.provider, back.mode, back.settings) == ("soniox", "primary", {"model": "s"})
        assert "decide" not in double.asked
        assert double.keys == {"Bearer k1"}


async def test_the_chain_is_known_though_the_snapshot_came_during_an_outage():
    double = PlaneDouble()
    double.breakers["soniox"]["state"] = "forced_open"
    async with listening(double) as (_, guard):
        away = await guard.call("c1")
        await double.move("soniox", "closed")
        assert await eventually(lambda: guard.picture.version == 2)
        back = await guard.call("c2")

        assert (away.provider, away.mode) == ("deepgram", "fallback")
        assert (back.provider, back.mode) == ("soniox", "primary")


async def test_an_edited_route_is_in_the_next_decision():
    async with listening() as (double, guard):
        swapped = double.status()["routes"]
        for step in swapped[0]["order"]:
            step["position"] = 3 - step["position"]
        await double.send(
            {"type": "change", "version": 1, "previous": 1, "breakers": [], "routes": swapped,
             "gone": [{"kind": "stt", "provider": "soniox"}]}
        )  # fmt: skip
        assert await eventually(lambda: ("stt", "soniox") not in guard.picture.breakers)
        call = await guard.call("c1")

        assert (call.provider, call.mode) == ("deepgram", "primary")
        assert "resync" not in double.asked


async def test_a_server_that_does_not_tell_the_chain_is_read_by_can_use():
    async with listening() as (double, guard):
        await double.move("soniox", "half_open")
        body = double.status()
        for step in body["routes"][0]["order"]:
            del step["position"]
        await double.send({"type": "snapshot", **body})
        await asyncio.sleep(0.05)
        call = await guard.call("c1", probe=False)
        asked = await guard.call("c2")

        assert (call.provider, call.mode, asked.source) == ("deepgram", "fallback", "remote")


async def test_a_change_from_before_the_snapshot_changes_nothing():
    double = PlaneDouble()
    double.version = 7
    async with listening(double) as (_, guard):
        out = {"provider": "soniox", "kind": "stt", "state": "open", "until": None}
        await double.send({"type": "change", "version": 6, "previous": 5, "breakers": [out]})
        await double.beat()
        await asyncio.sleep(0.05)

        assert (await guard.call("c1")).provider == "soniox"
        assert guard.picture.version == 7


async def test_a_missed_change_is_asked_for_again():
    async with listening() as (double, guard):
        await double.move("soniox", "open", is_told=False)
        await double.move("deepgram", "shadow")

        assert await eventually(lambda: guard.picture.version == 3 and "resync" in double.asked)
        assert await eventually(
            lambda: guard.picture.breakers["stt", "soniox"].state == "open"
        )  # fmt: skip


async def test_a_beat_tells_of_a_missed_change_too():
    async with listening() as (double, guard):
        await double.move("soniox", "open", is_told=False)
        await double.beat()

        assert await eventually(lambda: guard.picture.version == 2)


async def test_a_server_that_lost_its_versions_is_believed():
    double = PlaneDouble()
    double.version = 4711
    async with listening(double) as (_, guard):
        double.version = 1
        await double.beat()

        assert await eventually(lambda: guard.picture.version == 1)


async def test_a_half_open_breaker_is_worth_a_request():
    async with listening() as (double, guard):
        await double.move("soniox", "half_open")
        assert await eventually(lambda: guard.picture.version == 2)
        call = await guard.call("c1")

        assert (call.source, double.asked.count("decide")) == ("remote", 1)


async def test_an_open_breaker_whose_time_is_up_by_the_servers_clock_is_worth_a_request():
    async with listening() as (double, guard):
        await double.move("soniox", "open", until="2026-11-22T12:00:04.000Z")
        assert await eventually(lambda: guard.picture.version == 2)
        early = await guard.call("c1")
        double.at = "2026-11-22T12:00:05.000Z"
        await double.beat()
        await asyncio.sleep(0.05)
        late = await guard.call("c2")

        assert (early.source, late.source) == ("pushed", "remote")


async def test_where_nobody_admits_the_best_of_them_is_the_last_resort():
    async with listening() as (double, guard):
        await double.move("soniox", "forced_open")
        await double.move("deepgram", "open", until="2026-11-22T13:00:00.000Z")
        assert await eventually(lambda: guard.picture.version == 3)
        call = await guard.call("c1")

        assert (call.mode, call.order) == ("last_resort", ("deepgram", "soniox"))


async def test_stale_state_is_not_decided_from():
    clock = {"ahead_s": 0.0}

    def now() -> float:
        return asyncio.get_running_loop().time() + clock["ahead_s"]

    async with listening(clock=now) as (double, guard):
        clock["ahead_s"] = 16.0
        asked = await guard.call("c1")
        double.fault = "500"
        known = await guard.call("c2")
        clock["ahead_s"] = 1_000.0
        chain = await guard.call("c3")

        assert [call.source for call in (asked, known, chain)] == [
            "remote", "last_known", "local_chain",
        ]  # fmt: skip


async def test_where_there_is_no_feed_the_status_is_polled(monkeypatch):
    monkeypatch.setattr(feed, "POLL_S", 0.1)
    double = PlaneDouble()
    double.has_feed = False
    async with listening(double) as (_, guard):
        await double.move("soniox", "open")

        assert await eventually(lambda: guard.picture.version == 2)
        assert await eventually(lambda: double.asked.count("status") > 4)
        assert double.asked.count("feed") == 1


async def test_a_feed_that_ends_is_followed_again(monkeypatch):
    monkeypatch.setattr(feed, "POLL_S", 0.1)
    async with listening() as (double, guard):
        for socket in list(double.sockets):
            await socket.close(code=1012)
        await double.move("soniox", "open", is_told=False)

        assert await eventually(lambda: double.asked.count("feed") == 2)
        assert await eventually(lambda: guard.picture.version == 2)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"type": "snapshot"}', '{"type": "change", "version": "x"}', '{"a": 1}']
)
async def test_nonsense_on_the_feed_costs_a_reconnect_at_most(monkeypatch, text):
    monkeypatch.setattr(feed, "POLL_S", 0.1)
    async with listening() as (double, guard):
        await double.send(text)
        await asyncio.sleep(0.3)
        await double.move("soniox", "open")

        assert await eventually(lambda: guard.picture.version == 2)
        assert (await guard.call("c1")).provider == "deepgram"
