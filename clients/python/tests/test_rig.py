"""The rig itself: what a script says, how dead air is counted, and calls in which nothing fails."""

import asyncio
import time

import pytest

from tests.fakes.coded import RATE, Ear
from tests.rig.account import Account, Heard, account, dead_air
from tests.rig.faults import is_out
from tests.rig.load import Lateness, measured
from tests.rig.many import Came, account_of
from tests.rig.recordings import played
from tests.rig.scene import Result, Scenario, run_scenario
from tests.rig.script import Script, caller, noise, nothing, quiet, say, sound, turns

# Two utterances, of the words 0 to 4 and 5 to 9: from 1 to 2 s, and from 3 to 4 s.
TWO = Script(quiet(1.0), say(1.0), quiet(1.0), say(1.0), quiet(2.0))


def heard(*finals: tuple[float, str]) -> list[Heard]:
    """Finals at times, as `sx:` words."""
    return [Heard(at_s, " ".join(f"sx:{word}" for word in words.split())) for at_s, words in finals]


# --- scripts


def test_a_script_says_its_words_once_each_in_real_time():
    audio = b"".join(cue.audio for cue in TWO.cues)
    ear = Ear()

    assert [(one.begin_s, one.end_s, one.words) for one in TWO.utterances] == [
        (1.0, 2.0, range(5)), (3.0, 4.0, range(5, 10)),
    ]  # fmt: skip
    assert ear.hear(audio) == list(range(10))
    assert len(audio) / 2 / RATE == TWO.length_s == 6.0


def test_a_vad_tells_late_and_knows_no_words():
    script = Script(quiet(1.0), say(1.0), quiet(1.0), noise(0.6), quiet(1.0))
    told = [(round(cue.at_s, 2), cue.speaking) for cue in script.cues if cue.speaking is not None]

    assert told == [(1.2, True), (2.2, False), (3.2, True), (3.8, False)]


def test_what_is_too_short_is_no_speech_and_no_pause_to_a_vad():
    clicks = Script(noise(0.16), quiet(1.0), noise(0.16))
    one = Script(say(1.0), quiet(0.16), noise(1.0), quiet(1.0))

    assert clicks.spoken() == []
    assert [(round(begin, 2), round(end, 2)) for begin, end in one.spoken()] == [(0.0, 2.16)]


def test_silence_has_audio_and_nothing_has_none():
    silent = Script(quiet(1.0), nothing(1.0), sound(b"\x01\x02" * RATE))

    assert len([cue for cue in silent.cues if cue.at_s <= 1.001]) == 25
    assert [cue for cue in silent.cues if 1.001 < cue.at_s < 2.0] == []
    assert silent.length_s == 3.0


def test_a_recording_is_told_of_by_a_real_vad():
    music, crowd = played("hold_music", 4.0), played("crowded-room", 16.0)
    script = Script(quiet(1.0), crowd, quiet(1.0))
    told = [cue.speaking for cue in script.cues if cue.speaking is not None]

    assert music.told == ()
    assert len(told) >= 2
    assert told == [True, False] * (len(told) // 2)
    assert Ear().hear(crowd.audio) == []


def test_jitter_makes_audio_late_and_does_not_mix_it_up():
    parts = (quiet(1.0), say(2.0), quiet(1.0))
    steady, jittery = Script(*parts).cues, Script(*parts, jitter_s=0.4).cues
    late = [cue for cue in jittery if cue.audio]
    by_s = [b.at_s - a.at_s for a, b in zip((c for c in steady if c.audio), late, strict=True)]

    assert [cue.audio for cue in late] == [cue.audio for cue in steady if cue.audio]
    assert 0.0 <= min(by_s) < max(by_s) < 0.81
    assert sorted(cue.at_s for cue in jittery) == [cue.at_s for cue in jittery]


def test_a_caller_is_the_same_for_a_seed_and_stops_in_time_to_be_heard():
    for seed in ("a", "b", "c"):
        script = caller(seed, 20.0)

        assert script.length_s == pytest.approx(20.0)
        assert script.utterances == caller(seed, 20.0).utterances
        assert script.utterances != caller(f"{seed}!", 20.0).utterances
        assert script.utterances[0].begin_s == 1.0
        assert script.utterances[-1].end_s <= 18.81
        assert all(0.5 < one.end_s - one.begin_s < 2.1 for one in script.utterances)


# --- the account


def test_who_is_heard_in_time_waits_for_nobody():
    found = account(TWO, heard((2.3, "0 1 2 3 4"), (4.6, "5 6 7 8 9")))

    assert (found.dead_air_s, found.words_lost, found.utterances_lost) == (0.0, 0, 0)
    assert not found.ended_early


def test_an_utterance_is_dead_air_from_its_allowance_until_a_word_of_it_is_heard():
    assert dead_air(TWO, heard((3.0, "4"), (4.1, "9"))) == [pytest.approx((2.7, 3.0))]


def test_a_later_utterance_answers_for_an_earlier_one_and_the_words_are_lost():
    found = account(TWO, heard((4.2, "5 6 7 8")))

    assert found.dead_air_s == pytest.approx(4.2 - 2.7)
    assert (found.words_lost, found.utterances_lost) == (6, 1)


def test_two_that_wait_at_once_are_one_dead_air():
    assert dead_air(TWO, heard((5.7, "0 9"))) == [pytest.approx((2.7, 5.7))]


def test_without_any_answer_it_is_dead_until_the_call_was_to_end():
    assert dead_air(TWO, []) == [pytest.approx((2.7, 6.0))]


def test_a_call_that_ends_early_is_dead_until_it_was_to_end():
    found = account(TWO, heard((2.1, "0 1 2 3 4")), ended_s=2.5)

    assert found.ended_early
    assert found.dead_air_s == pytest.approx(3.5)


def test_an_end_as_planned_is_not_early():
    found = account(TWO, heard((2.1, "0 1 2 3 4"), (4.1, "5 6 7 8 9")), ended_s=6.1)

    assert (found.ended_early, found.dead_air_s) == (False, 0.0)


def test_a_word_that_is_heard_again_is_doubled_and_foreign_ones_are_not_counted():
    found = account(TWO, [*heard((2.1, "0 1 2 3 4 4"), (2.2, "4")), Heard(2.3, "नमस्ते")])

    assert (found.words_doubled, found.words_lost) == (2, 5)


# --- the loop


async def test_a_loop_that_is_blocked_is_late_and_says_so():
    loop_is_late, calm = Lateness(), Lateness()
    calm.late_s = [0.001] * 99
    async with measured(loop_is_late):
        for _ in range(4):
            await asyncio.sleep(0.01)
            time.sleep(0.3)

    assert loop_is_late.p99_s > 0.25
    assert "STARVED" in str(loop_is_late)
    assert "STARVED" not in str(calm)


# --- calls


@pytest.fixture(scope="module")
def healthy() -> dict[str, Result]:
    """A healthy call in each arm of each framework, all at once."""
    script = Script(quiet(1.5), *turns(3), noise(0.6), quiet(1.5))
    of = {
        f"{framework} {primary} {arm}": (Scenario("healthy", primary, script,
                                                  framework=framework), arm)
        for framework in ("pipecat", "livekit")
        for primary in ("soniox", "deepgram")
        for arm in ("none", "framework", "ours")
    }  # fmt: skip

    async def run() -> list[Result]:
        return await asyncio.gather(*(run_scenario(*one) for one in of.values()))

    return dict(zip(of, asyncio.run(run()), strict=True))


def test_a_healthy_call_has_no_dead_air_and_loses_no_word_in_any_arm(healthy):
    for name, result in healthy.items():
        found = result.account

        assert found.dead_air_s < 0.3, name
        assert (found.words_lost, found.words_doubled, found.ended_early) == (0, 0, False), name
        assert result.tags == {"sx" if "soniox" in name else "dg"}
        assert (result.failures, result.moves) == ([], ())


async def test_an_outage_without_any_fallback_is_dead_air_to_the_end():
    script = Script(quiet(1.0), *turns(3), quiet(1.0))
    scenario = Scenario("out", "soniox", script, steps=((2.9, is_out("primary")),), chain=1)
    found = (await run_scenario(scenario, "none")).account
    second = script.utterances[1]

    assert found.dead_air_s == pytest.approx(script.length_s - second.end_s - 0.7, abs=0.05)
    assert (found.utterances_lost, found.ended_early) == (2, False)


def test_of_several_runs_the_middle_one_counts_and_one_that_broke_is_told():
    scenario = Scenario("luck", "soniox", TWO)

    def result(dead_s: float) -> Result:
        return Result(Account(dead_s, 10, 0, 0, 2, 0, False), (), (), (), frozenset())

    came: Came = {(scenario, "none"): [result(7.0), result(1.0), result(2.0)]}
    assert account_of(came, (scenario, "none")).dead_air_s == 2.0

    came[scenario, "none"][1] = ValueError("broke")
    with pytest.raises(ValueError, match="broke"):
        account_of(came, (scenario, "none"))
