"""Not again so soon, by subject, and never without a bound."""

from fallback.pacing import NotAgainWithin


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
