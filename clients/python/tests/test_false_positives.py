"""What is no failure is not reported as one, moves no call and ends none, in both frameworks."""

import asyncio

import pytest

from tests.conftest import FALSE_POSITIVES
from tests.rig.harmless import BLOCKS, HARMLESS, Harmless
from tests.rig.load import Lateness
from tests.rig.many import Came, Job, run_many
from tests.rig.scene import Result

pytestmark = pytest.mark.timeout(300)
LIVING = [one for one in HARMLESS if not one.ends]
HEARD = [one for one in LIVING if one.is_heard]
STAYING = [one for one in LIVING if not one.may_move]


@pytest.fixture(scope="session")
def came(request: pytest.FixtureRequest) -> Came:
    """Run all of it: those with a loop that stands still at once, and apart from the others."""
    apart: list[Job] = [(one.scenario, "ours") for one in HARMLESS if one.is_blocked]
    others: list[Job] = [(one.scenario, "ours") for one in HARMLESS if not one.is_blocked]
    lateness = Lateness()
    found = asyncio.run(run_many(others, lateness))
    request.config.stash[FALSE_POSITIVES] = f"false positives: {lateness}"
    return found | asyncio.run(run_many(apart, Lateness(), blocks=BLOCKS))


def result_of(came: Came, case: Harmless) -> Result:
    """What came of it; raises what that raised."""
    (result,) = came[case.scenario, "ours"]
    if not isinstance(result, Result):
        raise result
    return result


@pytest.mark.parametrize("case", HARMLESS, ids=lambda one: one.id)
def test_nothing_is_counted(came, case):
    assert result_of(came, case).failures == []


@pytest.mark.parametrize("case", LIVING, ids=lambda one: one.id)
def test_the_call_goes_on(came, case):
    assert not result_of(came, case).account.ended_early


@pytest.mark.parametrize("case", HEARD, ids=lambda one: one.id)
def test_the_caller_is_heard(came, case):
    account = result_of(came, case).account

    assert account.words_lost <= account.words / 2


@pytest.mark.parametrize("case", STAYING, ids=lambda one: one.id)
def test_the_call_stays_where_it_is(came, case):
    result = result_of(came, case)
    own = {"soniox": "sx", "deepgram": "dg"}[case.scenario.primary]

    assert result.moves == ()
    assert result.tags <= {own}
