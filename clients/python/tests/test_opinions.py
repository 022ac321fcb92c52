"""A doubt: what follows from speech without a transcript, and what does not."""

import asyncio

import pytest

from tests.conftest import eventually
from tests.legs import LIMITS, REFUSED, Scene


@pytest.fixture
async def scene():
    """A call over two providers."""
    made = Scene("a", "b")
    yield made
    await made.close()


async def test_noise_that_nobody_finds_words_in_changes_nothing(scene):
    for _ in range(3):
        scene.speak()
        await asyncio.sleep(0.7)

    assert scene.said() == []
    assert scene.rules.active is scene.first
    assert not scene.host.ended
    left = scene.legs["b"]
    assert await eventually(lambda: left.let_gos == left.connects > 0, 1)


async def test_the_next_provider_takes_over_when_it_alone_finds_words(scene):
    scene.finds("b", "hello")
    scene.speak("x", "y")

    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    assert scene.legs["b"].said == ["[", "x", "y", "]"]
    assert scene.host.finals == ["hello"]
    assert scene.said() == []  # it may be slow
    assert await eventually(lambda: scene.said() == [("a", "stall", "stall")], 2)
    assert scene.first.let_gos == 1
    assert [name for name, _ in scene.host.events] == ["on_swap"]


async def test_its_words_are_not_believed_before_the_first_one_had_its_time(scene):
    scene.finds("b")
    scene.speak()
    await asyncio.sleep(0.15)
    assert scene.legs["b"].connects == 1
    assert scene.final("a")
    await asyncio.sleep(0.4)

    assert scene.rules.active is scene.first
    assert scene.host.finals == []
    assert scene.legs["b"].let_gos == 1


async def test_a_provider_that_writes_late_was_slow_and_is_no_stall(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    assert not scene.final("a", "late words")
    await asyncio.sleep(1.0)

    assert scene.said() == []
    proof = next(one for one in scene.reported if one["provider"] == "a")
    assert proof["kind"] == "first_transcript"
    assert proof["latency_ms"] >= 200


async def test_a_provider_that_was_heard_before_tells_its_latency_as_healed(scene):
    scene.final("a")
    await asyncio.sleep(0.6)
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.final("a", "late words")

    assert scene.said("recovered") == [("a", "recovered", "timeout")]


async def test_opinions_are_bounded_in_a_call_and_never_two_at_once(scene):
    for _ in range(12):
        scene.speak()
        await asyncio.sleep(0.25)

    assert scene.legs["b"].connects <= LIMITS.checks
    assert scene.said() == []


async def test_a_hang_up_before_the_truth_is_known_reports_no_stall(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.rules.close()
    await asyncio.sleep(1.0)

    assert scene.said() == []


async def test_the_opinion_of_one_that_cannot_be_had_costs_the_call_nothing(scene):
    scene.legs["b"].answers = [REFUSED]
    scene.speak()
    await asyncio.sleep(0.3)

    assert scene.said() == [("b", "init_failure", "server_error")]
    assert scene.rules.active is scene.first
    assert not scene.rules.is_held


async def test_a_stall_on_a_route_that_ends_calls_ends_none():
    scene = Scene("a", "b", on_mid_call_failure="end")
    scene.finds("b")
    scene.speak()

    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    assert not scene.host.ended
    await scene.close()


async def test_a_mute_in_a_doubt_withdraws_it(scene):
    scene.speak()
    assert await eventually(lambda: scene.legs["b"].connects, 0.5)
    scene.rules.muted(True)
    await asyncio.sleep(0.2)

    assert scene.legs["b"].let_gos == 1
    assert scene.rules.active is scene.first


async def test_a_provider_that_fails_for_good_in_a_doubt_is_left_at_once(scene):
    scene.speak()
    assert await eventually(lambda: scene.legs["b"].connects, 0.5)
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.3)
    assert len(scene.said()) == 1


# --- two things at once


async def test_a_provider_that_is_used_again_is_not_called_dead_for_its_old_silence(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.rules.failed(scene.legs["b"], REFUSED)
    assert await eventually(lambda: scene.host.active is scene.first, 0.5)
    let_gos = scene.first.let_gos
    await asyncio.sleep(1.1)

    assert scene.said("stall") == []
    assert scene.first.let_gos == let_gos


async def test_two_that_were_left_for_their_silence_are_each_judged_in_their_own_time():
    scene = Scene("a", "b", "c")
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.legs["b"].on_say = None
    scene.finds("c")
    await asyncio.sleep(0.51)  # what is said now began after b wrote
    scene.speak()

    assert await eventually(lambda: scene.rules.active is scene.legs["c"], 1)
    assert await eventually(lambda: ("b", "stall", "stall") in scene.said(), 2)
    assert sorted(scene.said()) == sorted(set(scene.said()))
    await scene.close()


async def test_a_pause_of_the_framework_raises_no_doubt_and_judges_nobody(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    await asyncio.sleep(0.51)
    scene.speak()
    await scene.rules.leave()
    connects = sum(leg.connects for leg in scene.legs.values())
    await asyncio.sleep(1.0)

    assert sum(leg.connects for leg in scene.legs.values()) == connects
    assert scene.said() == []
    scene.rules.open()
    assert await eventually(lambda: not scene.rules.is_held, 0.5)


async def test_a_noise_before_the_first_words_is_no_latency_of_theirs():
    scene = Scene("a")
    scene.speak()
    await asyncio.sleep(1.1)
    scene.speak()
    scene.final("a")

    proof = next(one for one in scene.reported if one["kind"] == "first_transcript")
    assert proof["latency_ms"] < 300
    await scene.close()
