"""What follows from drops and failures, over legs that do as they are told."""

import asyncio

import pytest

from stt_guard.words import Seen
from tests.conftest import eventually
from tests.legs import LIMITS, REFUSED, Scene


@pytest.fixture
async def scene():
    """A call over two providers."""
    made = Scene("a", "b")
    yield made
    await made.close()


# --- a drop


async def test_a_drop_that_heals_is_told_and_what_was_said_is_said_again(scene):
    scene.final("a")
    scene.rules.hears("one", 0.02)
    scene.rules.dropped(scene.first, Seen("connection"))
    assert scene.rules.is_held
    scene.rules.hears("two", 0.02)

    assert await eventually(lambda: not scene.rules.is_held, 0.5)
    assert scene.first.said == ["one", "two"]
    assert await eventually(lambda: scene.said("recovered"), 0.5)
    assert scene.said() == []


async def test_a_drop_that_does_not_heal_is_a_failure_with_its_first_reason(scene):
    scene.final("a")
    scene.first.heals = [Seen("timeout")]
    scene.rules.dropped(scene.first, Seen("connection", "1006"))

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.5)
    assert scene.said() == [("a", "mid_call_failure", "connection")]


async def test_flapping_is_a_failure_in_the_end(scene):
    scene.final("a")
    for _ in range(LIMITS.drops):
        scene.rules.dropped(scene.first, Seen("connection"))
        await asyncio.sleep(0.05)
        scene.final("a")

    assert await eventually(lambda: scene.said() == [("a", "mid_call_failure", "stream")], 0.5)
    assert scene.rules.active is scene.legs["b"]


async def test_a_drop_in_a_chain_of_one_never_ends_the_call():
    scene = Scene("a")
    scene.first.heals = [REFUSED]
    scene.first.answers = [REFUSED, REFUSED, None]
    scene.rules.dropped(scene.first, Seen("connection"))

    assert await eventually(lambda: not scene.rules.is_held, 4)
    assert not scene.host.ended
    assert len(scene.said()) == 1
    await scene.close()


# --- a failure


async def test_a_failed_provider_is_tried_again_when_nobody_is_left(scene):
    scene.final("a")
    scene.legs["b"].answers = [REFUSED]
    scene.first.answers = [REFUSED, None]
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.first, 2)
    assert not scene.host.ended
    assert ("on_last", scene.call) in scene.host.events
    assert scene.final("a")


async def test_the_call_ends_only_when_nobody_could_be_had_for_so_long(scene):
    for leg in scene.legs.values():
        leg.answers = [REFUSED]
    began_s = scene.now_s
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.ended, 3)
    assert scene.now_s - began_s >= LIMITS.on_last_s
    assert min(leg.connects for leg in scene.legs.values()) >= 1
    assert len(scene.said()) == 2


async def test_on_last_resort_it_never_ends():
    scene = Scene("a", "b", mode="last_resort")
    for leg in scene.legs.values():
        leg.answers = [REFUSED]
    scene.rules.failed(scene.first, REFUSED)
    await asyncio.sleep(1.2)

    assert not scene.host.ended
    await scene.close()


@pytest.mark.parametrize("reason", ["auth", "quota", "bad_request"])
async def test_what_does_not_heal_is_not_tried_again(scene, reason):
    scene.legs["b"].answers = [REFUSED, REFUSED, None]
    scene.rules.failed(scene.first, Seen(reason))

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 2)
    assert scene.first.connects == 0


async def test_a_target_that_hangs_gets_a_second_try_and_a_longer_one(scene):
    scene.first.answers = [REFUSED]
    scene.legs["b"].answers = [9.0, 0.2]
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 2)
    assert not scene.host.ended


async def test_those_after_a_target_that_fails_get_their_try():
    scene = Scene("a", "b", "c")
    scene.legs["b"].answers = [REFUSED]
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.legs["c"], 0.5)
    assert scene.first.connects == 0
    await scene.close()


async def test_a_target_that_breaks_as_it_is_told_what_was_said_is_left(scene):
    scene.rules.hears("one", 0.02)
    target = scene.legs["b"]
    target.on_say = lambda _: scene.rules.failed(target, Seen("connection"))
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.first, 1)
    assert not scene.host.ended


async def test_a_route_that_ends_calls_ends_one_in_its_middle_and_not_at_its_beginning():
    scene = Scene("a", "b", on_mid_call_failure="end")
    scene.rules.failed(scene.first, REFUSED)
    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.5)

    scene.final("b")
    scene.rules.failed(scene.legs["b"], REFUSED)
    assert await eventually(lambda: scene.host.ended, 0.5)
    await scene.close()


async def test_what_a_provider_says_that_was_let_go_counts_for_nothing(scene):
    scene.rules.failed(scene.first, REFUSED)
    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.5)
    scene.rules.dropped(scene.first, Seen("connection"))
    scene.rules.failed(scene.first, Seen("auth"))

    assert not scene.final("a", "late words")
    assert len(scene.said()) == 1
    assert not scene.first.is_out
