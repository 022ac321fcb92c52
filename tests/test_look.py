"""What is read of the breakers untouched is what the machine, told the same, holds."""

import pytest
import redis

from fallback.domain import Reason
from tests.scenes import CHAIN, Story
from tests.twins import KIND, Twins


@pytest.fixture
def story(redis_client: redis.Redis) -> Story:
    return Story(Twins(redis_client), failure_threshold=3, failure_rate_percent=50)


def test_breakers_and_their_evidence_are_read_as_they_stand(story: Story) -> None:
    story.fail("a", reason=Reason.TIMEOUT, host='"}{%s \\ ☃')
    story.fail("b")
    story.hear("c")
    story.fail("d", provider="deepgram")
    fleet = story.twins.machine.fleet
    held = story.twins.breakers.look(KIND, CHAIN)

    assert held.now_ms == story.twins.now_ms
    assert (held.version, held.revision) == (fleet.version, fleet.revision)
    assert (held.breakers, held.policies) == (fleet.breakers, fleet.policies)
    assert held.samples == fleet.samples
    assert held.failures["deepgram"] == fleet.failures["deepgram"]
    assert held.failures["soniox"] == fleet.failures["soniox"]


def test_a_look_moves_nothing_though_a_move_is_due(story: Story) -> None:
    for call in ("a", "b", "c"):
        story.fail(call)
    story.wait(3600)
    before = story.twins.stored()
    held = story.twins.breakers.look(KIND, CHAIN)

    assert held.breakers["soniox"].state == "open"
    assert story.twins.stored() == before


def test_what_was_never_written_reads_as_empty(redis_client: redis.Redis) -> None:
    held = Twins(redis_client).breakers.look(KIND, CHAIN)

    assert (held.version, held.revision, held.incarnation) == (None, None, "")
    assert (held.breakers, held.policies) == ({}, {})
    assert held.failures == held.samples == {"soniox": {}, "deepgram": {}}


def test_damage_in_redis_reads_as_the_script_reads_it(story: Story) -> None:
    key = story.twins.breakers.key
    story.twins.client.hset(key(KIND, "policies"), "soniox", "{not json")
    story.twins.client.hset(key(KIND, "breakers"), "soniox", "closed {")
    story.twins.client.zadd(key(KIND, "failures:soniox"), {"no separators": 1})
    story.twins.client.hset(key(KIND, "samples:soniox"), "x:y", "1 2 z")
    held = story.twins.breakers.look(KIND, CHAIN)

    assert held.policies["soniox"].failure_threshold == 2
    assert held.breakers["soniox"].state == "closed"
    assert held.failures["soniox"] == held.samples["soniox"] == {}
