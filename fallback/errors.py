"""The errors of the product: one base, and a class per reaction, not per cause."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class FallbackError(Exception):
    """Anything this product refuses. Its text is meant for the person who asked."""

    code = "error"
    status = 400


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (a path such as `outcomes.3.kind`) and what is right."""

    field: str
    detail: str
    code: str = "invalid"


class Invalid(FallbackError):
    """The input is wrong; `problems` say what, where, and what would be right."""

    code = "invalid"
    status = 400

    def __init__(self, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)


class NotFound(FallbackError):
    """There is no such route, provider or call."""

    code = "not_found"
    status = 404


class NotYours(FallbackError):
    """The route is not one that the caller's API key is bound to."""

    code = "not_your_route"
    status = 403


class Conflict(FallbackError):
    """The request is right and the state of things is against it."""

    code = "conflict"
    status = 409


class NoUsableProvider(Conflict):
    """A route has no step that this agent could use at all; `why` says it as a decision does, a
    "provider", "verdict" and "detail" for each step and each other name that the agent gave."""

    code = "no_usable_provider"

    def __init__(self, detail: str, why: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.why = tuple(why)


class Unavailable(FallbackError):
    """Something that is needed to answer is away: it may be asked again."""

    code = "unavailable"
    status = 503

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class BreakerUnavailable(Unavailable):
    """The shared state could not be reached in time. Decisions go on without it.

    `may_be_done`: it did not answer, so what was asked for may have been done all the same.
    """

    code = "breaker_unavailable"

    def __init__(self, detail: str, retry_after_s: int = 1, *, may_be_done: bool = False) -> None:
        super().__init__(detail, retry_after_s)
        self.may_be_done = may_be_done


class ConfigurationUnavailable(Unavailable):
    """What was named is not known here, and whether it exists could not be found out in time."""

    code = "configuration_unavailable"
