"""When a link that comes and goes is a failure."""

import pytest

from stt_guard.failover.drops import Drops
from stt_guard.failover.limits import Limits

LIMITS = Limits(drops=3, drops_within_s=60.0)


@pytest.fixture
def drops() -> Drops:
    """The drops of a provider that is up and has written."""
    drops = Drops(LIMITS)
    drops.up(0)
    drops.wrote()
    return drops


def back(drops: Drops, now_s: float, *, writes: bool = True) -> None:
    """It is connected again, and writes."""
    drops.up(now_s)
    if writes:
        drops.wrote()


def test_so_many_drops_within_the_time_are_a_failure(drops):
    assert not drops.add(10)
    back(drops, 10.1)
    assert not drops.add(30)
    back(drops, 30.1)
    assert drops.add(69)


def test_the_same_number_over_a_longer_time_is_none(drops):
    for at_s in (10, 40, 71, 102):
        assert not drops.add(at_s)
        back(drops, at_s + 0.1)


def test_a_rotation_that_the_provider_asks_for_never_counts(drops):
    for at_s in range(10, 60, 2):
        assert not drops.add(at_s, is_routine=True)
        back(drops, at_s + 0.1)


def test_connections_that_die_young_and_write_nothing_are_a_failure_also_if_asked_for(drops):
    drops = Drops(Limits())
    drops.up(0)
    assert not drops.add(0.1, is_routine=True)
    back(drops, 0.2, writes=False)
    assert not drops.add(0.3, is_routine=True)
    back(drops, 0.4, writes=False)
    assert drops.add(0.5, is_routine=True)


def test_a_connection_that_lived_while_nobody_spoke_did_not_die_young():
    drops = Drops(Limits(drops=10))
    for at_s in range(0, 60, 10):
        drops.up(at_s)
        assert not drops.add(at_s + 9)


def test_a_provider_that_was_left_begins_anew(drops):
    drops.add(10)
    drops.add(11)
    drops.forget()

    assert not drops.add(12)
