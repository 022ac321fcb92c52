"""A question asked in the background: nobody queues behind one that hangs, and its age is said."""

import asyncio
import threading
import time

import pytest

from fallback.fitness import WELL, Finding, Grade, NotFit, question
from fallback.fitness.question import Answer, Question


@pytest.fixture
def hanging():
    """Return what hangs until the test is over, so that no thread outlives it; and its callers."""
    over, callers = threading.Event(), []

    def hang() -> Finding:
        callers.append(threading.current_thread())
        over.wait(30)
        return WELL

    yield hang, callers
    over.set()
    for thread in callers:
        thread.join()


def look(one: Question) -> None:
    """Ask, and wait until it is answered."""
    one.look()
    for thread in one._threads:
        thread.join()


async def test_an_answer_is_given_again_while_it_is_fresh():
    asked = []
    one = Question("one", lambda: asked.append(1) or WELL)
    answers = [await one.answer() for _ in range(5)]

    assert len(asked) == 1
    assert {answer.finding for answer in answers} == {WELL}


async def test_an_answer_that_is_no_longer_fresh_is_asked_for_again():
    now, findings = [0.0], iter([WELL, Finding(Grade.DEGRADED, "slow")])
    one = Question("one", lambda: next(findings), clock=lambda: now[0])
    await one.answer()
    now[0] = 3.0

    look(one)

    assert one.known() == Answer(Finding(Grade.DEGRADED, "slow"), 0.0)


async def test_bad_news_is_looked_at_again_soon_however_long_good_news_is_kept():
    now, asked = [0.0], []

    def ask() -> Finding:
        asked.append(1)
        raise NotFit("run manage.py migrate")

    one = Question("one", ask, keep_s=60, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 3.0):
        look(one)

    assert len(asked) == 2
    assert one.known() == Answer(Finding(Grade.FAILING, "run manage.py migrate"), 0.0)


async def test_a4_many_who_ask_while_it_hangs_wait_for_nobody_and_use_one_thread(hanging):
    hang, callers = hanging
    one = Question("one", hang)
    began = time.monotonic()
    first = await asyncio.gather(*(one.answer() for _ in range(50)))
    later = await one.answer()
    took_s = time.monotonic() - began

    assert len(callers) == 1
    assert {answer.finding.grade for answer in first} == {Grade.FAILING}
    assert later.finding.detail.startswith("no answer for")
    assert took_s < question.FIRST_WAIT_S + 1


async def test_a4_what_was_known_before_is_said_for_a_moment_and_then_that_it_hangs(hanging):
    hang, _ = hanging
    now, ways = [0.0], iter([lambda: WELL, hang])
    one = Question("one", lambda: next(ways)(), clock=lambda: now[0])
    look(one)
    now[0] = 10.0
    one.look()
    young = one.known()
    now[0] = 13.0

    assert young == Answer(WELL, 10.0)
    assert one.known() == Answer(Finding(Grade.FAILING, "no answer for 3.0 s"))


async def test_a4_what_was_known_long_ago_is_not_said(hanging):
    hang, _ = hanging
    now, ways = [0.0], iter([lambda: WELL, hang])
    one = Question("one", lambda: next(ways)(), clock=lambda: now[0])
    look(one)
    now[0] = 3600.0
    one.look()

    assert one.known().finding.grade is Grade.FAILING


async def test_a4_threads_that_hang_are_bounded(hanging):
    hang, callers = hanging
    now = [0.0]
    one = Question("one", hang, clock=lambda: now[0])
    for now[0] in range(0, 1000, 10):
        one.look()

    assert len(callers) == question.THREADS_MAX


async def test_of_a_drivers_error_only_the_class_is_told():
    def ask() -> Finding:
        raise ConnectionError("redis://user:password@10.0.0.7")

    found = await Question("one", ask).answer()

    assert found.finding == Finding(Grade.FAILING, "ConnectionError")
