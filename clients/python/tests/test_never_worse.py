"""Nobody is worse off with the client than without it: each scenario is run both ways.

Without it: one service alone, or the framework's own failover; where a scenario names both, the
better of the two, in each figure by itself. What luck has a part in is run three times, and the
middle one counts.
"""

import asyncio
from dataclasses import dataclass

import pytest

from tests.conftest import NEVER_WORSE, write_to_readme
from tests.readme import table
from tests.rig.account import Account
from tests.rig.lines import Arm
from tests.rig.load import Lateness
from tests.rig.many import Came, Job, account_of, run_many
from tests.rig.scenarios import PROVIDERS, SCENARIOS
from tests.rig.scene import Scenario

ALLOWED_S = 0.5  # of dead air more than without the client
MEASURED_S = 0.3  # what the same scenario differs by from one run to the next
MEASURED_WORDS = 1  # a fault falls into a word or beside it

pytestmark = pytest.mark.timeout(420)


@dataclass(frozen=True, slots=True)
class Bar:
    """What was reached without the client."""

    dead_air_s: float
    words_lost: int
    ended_early: bool


class Outcomes:
    """What came of each scenario, by arm."""

    def __init__(self, came: Came) -> None:
        self._came = came

    def of(self, scenario: Scenario, arm: Arm) -> Account:
        """The account of an arm; raises what that raised."""
        return account_of(self._came, (scenario, arm))

    def without(self, scenario: Scenario) -> Bar:
        """The best without the client."""
        accounts = [self.of(scenario, arm) for arm in scenario.against]
        return Bar(
            min(one.dead_air_s for one in accounts),
            min(one.words_lost for one in accounts),
            all(one.ended_early for one in accounts),
        )


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """Run every scenario in each of its arms, print the table, and keep it in the README."""
    jobs: list[Job] = [
        (one, arm) for one in SCENARIOS for arm in (*one.against, "ours") for _ in range(one.times)
    ]
    lateness = Lateness()
    outcomes = Outcomes(asyncio.run(run_many(jobs, lateness)))
    printed = printed_table(outcomes)
    request.config.stash[NEVER_WORSE] = f"{printed}\n{lateness}"
    if not lateness.is_starved:
        write_to_readme("never-worse", printed)
    return outcomes


def printed_table(outcomes: Outcomes) -> str:
    """Return a row for each scenario, of both primaries."""
    rows = []
    for framework in ("pipecat", "livekit"):
        for name in dict.fromkeys(one.name for one in SCENARIOS if one.framework == framework):
            of = {one.primary: one for one in SCENARIOS
                  if (one.name, one.framework) == (name, framework)}  # fmt: skip
            cells = [
                "; ".join(f"{primary} {told(outcomes, of[primary], with_it)}"
                          for primary in PROVIDERS if primary in of)
                for with_it in (False, True)
            ]  # fmt: skip
            rows.append([{"pipecat": "Pipecat", "livekit": "LiveKit"}[framework], name, *cells])
    return table(["", "what happens", "without the client", "with it"], rows)


def told(outcomes: Outcomes, scenario: Scenario, with_it: bool) -> str:
    """Say what it came to in a few words."""
    try:
        found = outcomes.of(scenario, "ours") if with_it else outcomes.without(scenario)
    except Exception as error:
        return f"**{type(error).__name__}**"
    ended = ", **call ended**" if found.ended_early else ""
    return f"{found.dead_air_s:.1f} s, {found.words_lost} lost{ended}"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.id)
def test_a_call_that_lives_without_the_client_lives_with_it(outcomes, scenario):
    assert outcomes.of(scenario, "ours").ended_early <= outcomes.without(scenario).ended_early


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.id)
def test_the_caller_waits_no_longer_to_be_heard(outcomes, scenario):
    limit_s = outcomes.without(scenario).dead_air_s + ALLOWED_S + MEASURED_S

    assert outcomes.of(scenario, "ours").dead_air_s <= limit_s


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.id)
def test_no_more_words_are_lost(outcomes, scenario):
    limit = outcomes.without(scenario).words_lost + MEASURED_WORDS

    assert outcomes.of(scenario, "ours").words_lost <= limit
