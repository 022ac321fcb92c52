"""A call's question and its answer; what an agent saw, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallback.domain.breakers import Breaker
from fallback.domain.configuration import Route, Step
from fallback.domain.words import (
    Effect,
    Given,
    LastResort,
    Memory,
    Mode,
    Named,
    NextAction,
    OutcomeKind,
    Reason,
    Status,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Question:
    """ "Which provider for this call?", as an agent asks it. `can_use` None: all of them."""

    route: str
    call_id: str
    language: str = ""
    can_use: tuple[str, ...] | None = None
    failed: tuple[str, ...] = ()
    host: str = ""
    probe: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the breakers hear it: only steps that this agent could use at all.

    `steps` pairs each provider with whether it failed in this call, in chain order; `excluded`
    pairs the others with why. `keep`: remember the call even if nothing of note happens to it.
    """

    call_id: str
    route: str
    steps: tuple[tuple[str, bool], ...]
    excluded: tuple[tuple[str, Verdict], ...] = ()
    may_probe: bool = True
    last_resort: LastResort = LastResort.PRIMARY
    bypass: bool = False
    keep: bool = False
    host: str = ""
    memory: Memory = Memory.FULL


@dataclass(frozen=True, slots=True)
class Finding:
    """What the walk found at one step: its verdict, the breaker, and until when."""

    provider: str
    verdict: Verdict
    breaker: Breaker
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """The answer of the breakers to one walk over a chain. `chosen` indexes `findings`."""

    findings: tuple[Finding, ...]
    chosen: int
    given: Given
    lease: str
    lease_until_ms: int | None
    now_ms: int
    version: int
    revision: int | None  # of the configuration the breakers judge by; None: they have none


@dataclass(frozen=True, slots=True)
class Why:
    """One line of a decision's reasons."""

    provider: str
    verdict: Verdict
    until_ms: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a question: whom to use, the whole order to try, and why."""

    call_id: str
    route: Route
    mode: Mode
    order: tuple[Step, ...]
    why: tuple[Why, ...]
    lease: str
    lease_until_ms: int | None
    degraded: bool
    version: int
    decided_at_ms: int

    @property
    def provider(self) -> str:
        """The slug of the provider to use."""
        return self.order[0].provider.slug


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an agent saw of a provider in a call, checked and cut to size by the surface."""

    id: str
    call_id: str
    provider: str
    kind: OutcomeKind
    reason: str = Reason.UNKNOWN
    code: str = ""
    message: str = ""
    age_ms: int = 0
    latency_ms: int | None = None
    lease: str = ""
    host: str = ""
    route: str = ""
    retry_after_s: float | None = None
    mode: str = ""
    source: str = ""
    key: str = ""  # the name of the API key that sent it
    memory: Memory = Memory.FULL


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one outcome did. `swap_to`: where the script sent the call; empty for nowhere."""

    status: str  # a Status, or NO_POLICY
    detail: str
    counted: bool
    effect: Effect
    swap_to: str
    now_ms: int
    version: int
    revision: int | None
    keys: Mapping[str, int] = field(default_factory=dict)  # of a trip: failures by API key


@dataclass(frozen=True, slots=True)
class Next:
    """What the agent should do now. `provider` is set only for a swap."""

    action: NextAction
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one outcome."""

    id: str
    status: Status
    counted: bool = False
    effect: Effect = Effect.NONE
    next: Next | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that an agent used and the configuration does not hold, and by whom it was used last.

    `route`: on which a provider was named; `by`: with which key, as `api:<its name>`. All three
    empty where nobody said.
    """

    what: Named
    name: str
    route: str = ""
    host: str = ""
    by: str = ""
    at_ms: int = 0
