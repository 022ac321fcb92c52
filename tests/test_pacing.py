"""Not again so soon, by subject, and never without a bound."""

from fallback.pacing import Lately, NotAgainWithin


class Clock:
    """A clock of the test's own."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_it_is_due_once_within_the_time_and_again_after() -> None:
    clock = Clock()
    paced = NotAgainWithin(10, clock=clock)
    first = [paced.is_due("a"), paced.is_due("a"), paced.is_due("b")]
    clock.now_s = 10

    assert first == [True, False, True]
    assert paced.is_due("a")


def test_subjects_without_end_are_forgotten_not_kept() -> None:
    paced = NotAgainWithin(10, most=3, clock=Clock())
    for number in range(100):
        assert paced.is_due(str(number))

    assert paced.is_due("0")


def test_what_happens_often_is_told_apart_until_the_time_is_over() -> None:
    clock = Clock()
    lately = Lately(10, times=3, clock=clock)
    seen = []
    for _ in range(3):
        seen.append(lately.has("a"))
        lately.note("a")
    seen += [lately.has("a"), lately.has("b")]
    clock.now_s = 10
    lately.note("a")

    assert seen == [False, False, False, True, False]
    assert not lately.has("a")
