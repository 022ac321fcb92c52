"""Whether Redis and the database are as the product needs them; for readiness, `check` and `up`.

question       a question asked in the background, one at a time, whose last answer is remembered
redis_server   does Redis take writes, and does it keep what it was told
schema         is the database's schema the one that this version's migrations make
"""

from dataclasses import dataclass
from enum import StrEnum

from fallback.errors import FallbackError


class Grade(StrEnum):
    """How well something does its work."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


class NotFit(FallbackError):  # noqa: N818 - what it says, not what went wrong
    """It does not do its work; the text says why and what to do, fit for anybody who may ask."""

    code = "not_fit"


class Newer(NotFit):
    """The database is of a newer version than this one, as in the middle of an upgrade."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to a question: how well, and why in words; empty when there is nothing to say."""

    grade: Grade
    detail: str = ""


WELL = Finding(Grade.OK)
