"""When speech without an answer is a stall, by the second."""

from stt_guard.stall import StallWatch


def spoken(watch: StallWatch, *utterances: tuple[float, float]) -> StallWatch:
    """Say utterances, each from one time to another."""
    for began_s, ended_s in utterances:
        watch.started(began_s)
        watch.stopped(ended_s)
    return watch


def test_two_utterances_without_an_answer_are_a_stall_three_seconds_after_the_first():
    watch = spoken(StallWatch(), (0, 1), (2, 3))

    assert not watch.is_stalled(3.99)
    assert watch.is_stalled(4)


def test_a_caller_who_keeps_talking_does_not_hide_it():
    watch = spoken(StallWatch(), *((at, at + 0.8) for at in range(5)))

    assert watch.due_s() == 3.8


def test_one_utterance_however_long_is_none():
    assert spoken(StallWatch(), (0, 9)).due_s() is None


def test_two_coughs_are_none():
    assert spoken(StallWatch(), (0, 0.5), (5, 5.6)).due_s() is None


def test_a_final_answers_all_of_it():
    watch = spoken(StallWatch(), (0, 1), (2, 3))
    watch.text("hello", is_final=True)

    assert (watch.due_s(), watch.is_waiting) == (None, False)


def test_new_interim_text_answers_and_the_same_again_does_not():
    watch = StallWatch()
    assert watch.text("hel", is_final=False)
    spoken(watch, (0, 1), (2, 3))
    assert not watch.text("hel ", is_final=False)
    assert not watch.text("  ", is_final=True)

    assert watch.is_stalled(4)
    assert watch.text("hello", is_final=False)
    assert not watch.is_stalled(4)


def test_an_utterance_that_was_answered_while_it_was_said_is_not_waited_for():
    watch = StallWatch()
    watch.started(0)
    watch.text("hello", is_final=True)
    watch.stopped(1)
    spoken(watch, (10, 12))

    assert watch.due_s() is None


def test_what_is_said_while_muted_is_not_waited_for():
    watch = StallWatch()
    watch.mute(True)
    spoken(watch, (0, 1), (2, 3))
    assert not watch.is_stalled(9)
    watch.mute(False)

    assert (watch.due_s(), watch.is_waiting) == (None, False)


def test_the_end_of_speech_that_never_began_is_nothing():
    watch = StallWatch()
    watch.stopped(1)

    assert not watch.is_waiting
