"""When speech without a transcript is worth a second opinion, by the second."""

import pytest

from stt_guard.failover.limits import Limits
from stt_guard.failover.stall import StallWatch

LIMITS = Limits(suspect_s=1.0, believe_s=2.0, speaking_s=3.0, speech_s=0.3)


@pytest.fixture
def watch() -> StallWatch:
    """A watch of a call in which nobody spoke yet."""
    return StallWatch(LIMITS)


def spoken(watch: StallWatch, *utterances: tuple[float, float]) -> StallWatch:
    """Say utterances, each from one time to another."""
    for began_s, ended_s in utterances:
        watch.started(began_s)
        watch.stopped(ended_s)
    return watch


def test_one_utterance_without_an_answer_is_worth_a_doubt(watch):
    spoken(watch, (0, 1))

    assert (watch.suspect_s(), watch.believe_s()) == (2.0, 3.0)


def test_a_caller_who_keeps_talking_does_not_hide_it(watch):
    spoken(watch, *((at, at + 0.8) for at in range(5)))

    assert watch.suspect_s() == 1.8


def test_a_click_is_not_worth_one(watch):
    assert spoken(watch, (0, 0.2)).suspect_s() is None


def test_a_final_answers_all_of_it(watch):
    spoken(watch, (0, 1), (2, 3))

    assert watch.text("hello", 3.5, is_final=True)
    assert (watch.suspect_s(), watch.owed_since_s) == (None, None)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_answers_nothing(watch, text):
    spoken(watch, (0, 1))

    assert not watch.text(text, 1.5, is_final=True)
    assert watch.suspect_s() == 2.0


def test_the_same_interim_text_again_answers_nothing(watch):
    assert watch.text("hel", 0.0, is_final=False)
    spoken(watch, (1, 2))

    assert not watch.text("hel ", 2.5, is_final=False)
    assert watch.suspect_s() == 3.0


def test_a_provider_of_finals_owes_one_after_its_interim_text(watch):
    spoken(watch, (0, 1)).text("one", 1.2, is_final=True)
    watch.started(3)
    watch.text("tw", 3.9, is_final=False)
    watch.stopped(4)
    watch.text("two", 4.3, is_final=False)

    assert watch.suspect_s() == 5.3  # it lives: the wait begins anew


def test_a_provider_of_interims_alone_owes_nothing_more(watch):
    watch.started(0)
    watch.text("one", 0.9, is_final=False)
    watch.stopped(1)

    assert watch.suspect_s() is None


def test_an_answer_before_the_caller_stopped_is_enough_for_what_was_said_until_then(watch):
    watch.started(0)
    watch.text("hello", 0.8, is_final=True)
    watch.stopped(1)
    assert watch.suspect_s() is None

    watch.started(2)
    watch.text("and", 2.5, is_final=True)
    watch.stopped(4)
    assert watch.suspect_s() == 5.0


def test_silence_while_one_speaks_is_a_doubt_only_of_who_writes_meanwhile(watch):
    watch.started(0)
    assert watch.suspect_s() is None

    watch.text("one", 1.0, is_final=False)
    assert watch.suspect_s() == 4.0
    watch.text("one two", 2.0, is_final=False)
    assert (watch.suspect_s(), watch.believe_s()) == (5.0, 6.0)


def test_a_slow_provider_is_given_its_time(watch):
    spoken(watch, (0, 1)).text("hello", 5, is_final=True)
    spoken(watch, (10, 11))

    assert (watch.suspect_s(), watch.believe_s()) == (17.0, 17.0)


def test_a_doubt_that_nothing_came_of_makes_it_slower_to_doubt_again(watch):
    spoken(watch, (0, 1)).came_of_nothing(4)
    assert watch.suspect_s() is None

    spoken(watch, (5, 6))
    assert watch.suspect_s() == 8.0
    watch.came_of_nothing(10)
    assert spoken(watch, (11, 12)).suspect_s() == 16.0
    watch.text("hello", 16, is_final=True)
    assert spoken(watch, (20, 21)).suspect_s() > 22.0  # it was slow, and is believed again


def test_what_was_judged_while_one_speaks_is_not_judged_again_at_its_end(watch):
    watch.started(0)
    watch.came_of_nothing(4)
    watch.stopped(4.5)

    assert watch.suspect_s() is None


def test_a_mute_ends_the_wait_and_what_was_said_before(watch):
    spoken(watch, (0, 1)).mute(True)
    spoken(watch, (2, 3))
    assert watch.suspect_s() is None

    watch.mute(False)
    assert spoken(watch, (5, 6)).suspect_s() == 7.0


def test_another_provider_is_judged_by_what_it_does_itself(watch):
    spoken(watch, (0, 1)).text("hello", 6, is_final=True)
    spoken(watch, (10, 11))
    watch.meet_another(12, is_answered=False)

    assert watch.suspect_s() == 13.0  # what is owed was just said to it
    watch.meet_another(13, is_answered=True)
    assert watch.suspect_s() is None
