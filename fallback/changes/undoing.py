"""One change taken back, or everything as it was after one: both are changes themselves.

First a way there is worked out, to be shown; then it is worked out again under the lock, and done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fallback import configuration
from fallback.changes.recording import Making, made_by
from fallback.configuration import Difference, Document
from fallback.errors import Invalid, Problem
from fallback.models import ConfigChange

SHOWN_MAX: Final = 50  # entries in a text for people


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done: the configuration as it would be, or what is in the way of it."""

    now: Document
    target: Document
    problems: Sequence[Problem] = ()

    @property
    def differences(self) -> list[Difference]:
        """What would change."""
        return configuration.diff(self.now, self.target)

    @property
    def text(self) -> str:
        """What would change, as a text diff of the first entries."""
        return configuration.text_diff(self.now, self.target, at_most=SHOWN_MAX)


def way_without(change: ConfigChange) -> Plan:
    """Return how to take back what one change did, and nothing else.

    Whatever was changed again since is in the way, and told by its path.
    """
    now = configuration.build()
    before = change.previous()
    if before is None:
        what = "What was before it is no longer kept, so it cannot be undone by itself."
        return Plan(now, now, [Problem("", what)])
    merged = configuration.without(before.configuration, change.configuration, now)
    wrong = [Problem(one.dotted, str(one)) for one in merged.conflicts]
    return Plan(now, merged.document, wrong)


def way_back(change: ConfigChange) -> Plan:
    """Return how to have everything as it was right after a change."""
    now = configuration.build()
    try:
        return Plan(now, configuration.planned(change.configuration, now, prune=True))
    except Invalid as error:
        return Plan(now, now, error.problems)


def undo(change: ConfigChange, *, author: str, reason: str, user: Any = None) -> Making:
    """Take back one change. Raises Invalid, with nothing changed, if something is in the way."""
    with made_by(author, f"Undo of #{change.pk}: {reason}", user) as mine:
        _go(way_without(change))
    return mine


def back_to(change: ConfigChange, *, author: str, reason: str, user: Any = None) -> Making:
    """Make everything as it was right after a change. Raises Invalid, with nothing changed."""
    with made_by(author, f"Back to #{change.pk}: {reason}", user) as mine:
        _go(way_back(change))
    return mine


def _go(plan: Plan) -> None:
    if plan.problems:
        lines = "\n".join(problem.detail for problem in plan.problems)
        raise Invalid(f"Nothing was changed.\n{lines}", plan.problems)
    configuration.apply(plan.target, prune=True)
