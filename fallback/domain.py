"""The nouns every other module speaks of: states, outcomes, policies, breakers, decisions.

Plain values only: no clock, no I/O, nothing of a framework. The words are the product's public
contract, the same in Python, Lua, columns, JSON and Slack. Times are milliseconds since the Unix
epoch (`*_ms`), by Redis's clock, unless a name says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a provider does. A route never mixes kinds, so one decision touches one kind."""

    STT = "stt"
    TTS = "tts"
    LLM = "llm"


class State(StrEnum):
    """The fleet-wide state of one provider's breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    SHADOW = "shadow"


OVERRIDE_STATES = frozenset({State.FORCED_OPEN, State.FORCED_CLOSED, State.SHADOW})
ADMITTING_STATES = frozenset({State.CLOSED, State.FORCED_CLOSED, State.SHADOW})


class Recovery(StrEnum):
    """How an open breaker comes back: on a probe's proof, or simply when its time is up."""

    PROBE = "probe"
    TIMER = "timer"


class Verdict(StrEnum):
    """What was found for one step of a chain."""

    ADMITTED = "admitted"
    PROBE = "probe"
    OPEN = "open"
    FORCED_OPEN = "forced_open"
    PROBES_BUSY = "probes_busy"
    FAILED_IN_CALL = "failed_in_call"
    NOT_USABLE = "not_usable"
    WRONG_LANGUAGE = "wrong_language"
    DISABLED = "disabled"
    BYPASS = "bypass"


ADMITTING_VERDICTS = frozenset({Verdict.ADMITTED, Verdict.PROBE})


class Mode(StrEnum):
    """Why a call starts on the provider it starts on."""

    PRIMARY = "primary"
    FALLBACK = "fallback"
    PROBE = "probe"
    LAST_RESORT = "last_resort"
    BYPASS = "bypass"


class Given(StrEnum):
    """How the walk over a chain found its provider; `decision` turns it into a `Mode`."""

    FIRST = "first"
    STICKY = "sticky"
    PROBE = "probe"
    LAST_RESORT = "last_resort"
    BYPASS = "bypass"


class OutcomeKind(StrEnum):
    """What an agent saw."""

    STARTED = "started"
    INIT_FAILURE = "init_failure"
    MID_CALL_FAILURE = "mid_call_failure"
    STALL = "stall"
    RECOVERED = "recovered"
    FIRST_TRANSCRIPT = "first_transcript"
    CALL_END = "call_end"


FAILURE_KINDS = frozenset(
    {OutcomeKind.INIT_FAILURE, OutcomeKind.MID_CALL_FAILURE, OutcomeKind.STALL}
)


class Reason(StrEnum):
    """Why a provider failed, as the agent saw it. The policy decides what that counts."""

    CONNECTION = "connection"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    STREAM = "stream"
    STALL = "stall"
    AUTH = "auth"
    QUOTA = "quota"
    RATE_LIMIT = "rate_limit"
    BAD_REQUEST = "bad_request"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What one outcome did to its provider's breaker."""

    NONE = "none"
    COUNTED = "counted"
    TRIPPED = "tripped"
    PROBE_SUCCEEDED = "probe_succeeded"
    PROBE_FAILED = "probe_failed"
    PROBE_RELEASED = "probe_released"
    RECOVERED = "recovered"
    WOULD_TRIP = "would_trip"


class Status(StrEnum):
    """Whether an outcome was taken."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    INVALID = "invalid"


class Cause(StrEnum):
    """What moved a breaker."""

    FAILURE_THRESHOLD = "failure_threshold"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    TRIP_AT_ONCE = "trip_at_once"
    TIME_UP = "time_up"
    PROBE_SUCCESS = "probe_success"
    PROBE_FAILURE = "probe_failure"
    OVERRIDE = "override"
    OVERRIDE_CLEARED = "override_cleared"
    OVERRIDE_ENDED = "override_ended"
    RESET = "reset"
    POLICY = "policy"


class EventName(StrEnum):
    """Everything the script writes to the event stream, by the word alerts use."""

    PROVIDER_FAILURE = "provider_failure"
    TRIPPED = "tripped"
    WOULD_TRIP = "would_trip"
    FALLBACK_ACTIVE = "fallback_active"
    PROBING = "probing"
    PROBE_FAILED = "probe_failed"
    RECOVERED = "recovered"
    OVERRIDE_SET = "override_set"
    OVERRIDE_CLEARED = "override_cleared"
    RESET = "reset"
    ALL_PROVIDERS_DOWN = "all_providers_down"
    MISCONFIGURED = "misconfigured"
    STATE_LOST = "state_lost"
    PUMP_LAGGING = "pump_lagging"


class MidCallAction(StrEnum):
    """What a route asks of a call whose provider fails in the middle."""

    SWAP = "swap"
    END = "end"


class LastResort(StrEnum):
    """Whom a call gets when nobody admits it: the first in the chain, or whoever is back first."""

    PRIMARY = "primary"
    SOONEST = "soonest"


class NextAction(StrEnum):
    """What the agent should do after the outcome it reported."""

    CONTINUE = "continue"
    SWAP = "swap"
    END = "end"


BREAKER_ACTOR = "breaker"  # the actor of every transition that no person ordered

LIMITS: Mapping[str, int] = {
    # What bounds the shared state. The script and the machine read the same numbers.
    "events": 20_000,  # entries of one event stream, about 300 bytes each
    "evidence": 1_000,  # failures remembered for one provider
    "rate_slices": 30,  # slices of a rate window; a window is exact to one slice
    "call_entries": 100,  # decisions and outcomes remembered for one call
    "announcements": 500,  # subjects of announcements remembered for "not again so soon"
    "tolerance_ms": 2_000,  # how far in the future a stored time may lie before it is re-based
    "quiet_call_ms": 15 * 60_000,  # an uneventful call: long enough to know a resent outcome
    "call_ms": 24 * 3_600_000,  # a diverted, probed, bypassed or failed call
    "evidence_ttl_ms": 3_600_000,  # garbage collection of evidence, on top of its window
    "notice_ms": 1_000,  # at most one failure notice per provider in this time past the threshold
    "age_ms": 3_600_000,  # an outcome older than this is taken as this old
}


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """What one reason counts: a weight from 0 to 10, or a trip at once; its own open time."""

    weight: int = 1
    trips_at_once: bool = False
    open_duration_s: int | None = None

    @property
    def is_neutral(self) -> bool:
        """Neither a failure nor a success: it frees a lease and decides nothing."""
        return self.weight == 0 and not self.trips_at_once


DEFAULT_WHAT_COUNTS: Mapping[str, ReasonRule] = {
    Reason.CONNECTION: ReasonRule(),
    Reason.TIMEOUT: ReasonRule(),
    Reason.SERVER_ERROR: ReasonRule(),
    Reason.STREAM: ReasonRule(),
    Reason.STALL: ReasonRule(),
    Reason.UNKNOWN: ReasonRule(),
    Reason.RATE_LIMIT: ReasonRule(open_duration_s=15),
    Reason.AUTH: ReasonRule(trips_at_once=True, open_duration_s=300),
    Reason.QUOTA: ReasonRule(trips_at_once=True, open_duration_s=300),
    Reason.BAD_REQUEST: ReasonRule(weight=0),
    Reason.CANCELLED: ReasonRule(weight=0),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds a breaker obeys. 0 switches a rule off. Defaults: the contract's."""

    failure_threshold: int = 2
    failure_window_s: int = 240
    failure_rate_percent: int = 0
    minimum_calls: int = 20
    rate_window_s: int = 60
    slow_rate_percent: int = 0
    slow_after_ms: int = 3000
    distinct_hosts: int = 1
    distinct_calls_for_stall: int = 2
    open_duration_s: int = 1800
    open_backoff: float = 1.0
    open_duration_max_s: int = 7200
    recovery: Recovery = Recovery.PROBE
    probe_slots: int = 1
    probe_lease_s: int = 120
    probe_successes: int = 1
    retrip_threshold: int = 1
    shadow: bool = False
    what_counts: Mapping[str, ReasonRule] = field(default_factory=lambda: DEFAULT_WHAT_COUNTS)

    def rule(self, reason: str) -> ReasonRule:
        """Return what `reason` counts; one that the table does not name counts as `unknown`."""
        return self.what_counts.get(reason) or self.what_counts.get(Reason.UNKNOWN) or ReasonRule()

    @property
    def samples_calls(self) -> bool:
        """Whether calls must be sampled at all: only a rate rule needs that."""
        return self.failure_rate_percent > 0 or self.slow_rate_percent > 0


@dataclass(slots=True)
class Lease:
    """The right to be a probe, until `at_ms` + the policy's `probe_lease_s`."""

    call: str
    at_ms: int


@dataclass(slots=True)
class Override:
    """An operator's order. `until_ms` None: until somebody clears it."""

    state: State
    by: str
    reason: str
    at_ms: int
    until_ms: int | None = None


@dataclass(slots=True)
class Breaker:
    """One provider's breaker as it is stored: facts only, no deadline (those are computed)."""

    state: State = State.CLOSED
    since_ms: int = 0
    sequence: int = 0  # events written about this breaker, the middle part of an event id
    trips: int = 0  # consecutive trips with no proof of health between
    cause: str = ""  # of the last transition
    reason: str = ""  # the failure that tripped it, or the operator's words
    retry_after_ms: int = 0  # the open time a provider asked for with its rate limit
    evidence: dict[str, Any] = field(default_factory=dict)  # of the last trip
    evidence_since_ms: int = 0  # older failures say nothing about this spell
    successes: int = 0  # of this half-open spell
    failed_probes: int = 0  # of this half-open spell
    leases: dict[str, Lease] = field(default_factory=dict)
    override: Override | None = None
    incident: str = ""  # the id of the event that opened it; empty when there is none
    diverted: int = 0  # calls of this incident
    hurt: int = 0
    saved: int = 0
    all_down_told: bool = False
    would_trip_ms: int = 0  # when shadow last said so
    noticed_ms: int = 0  # when a failure was last told


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the event stream: a transition, or a notice where `before` equals `after`."""

    id: str
    name: str
    kind: str
    provider: str
    before: str
    after: str
    at_ms: int
    cause: str
    actor: str
    reason: str
    incident: str
    evidence: Mapping[str, Any]
    version: int = 0

    @property
    def is_transition(self) -> bool:
        """Whether a breaker moved, or an operator's order to it changed."""
        return self.before != self.after or self.name in {
            EventName.OVERRIDE_SET,
            EventName.OVERRIDE_CLEARED,
            EventName.RESET,
        }


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


@dataclass(frozen=True, slots=True)
class Provider:
    """A speech service that agents can be sent to. `languages` empty: any."""

    slug: str
    kind: Kind
    name: str
    enabled: bool
    languages: tuple[str, ...]
    settings: Mapping[str, Any]
    credential_hint: str
    policy_name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One provider in a route's chain; `settings` are merged: the step's win over its own."""

    provider: Provider
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """A named, ordered chain of providers of one kind."""

    slug: str
    name: str
    kind: Kind
    fallback_enabled: bool
    on_mid_call_failure: MidCallAction
    last_resort: LastResort
    steps: tuple[Step, ...]


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


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator tells a breaker: an override (`state`, `for_ms`; 0: until cleared), its end,
    or a reset."""

    action: str  # override | clear | reset
    provider: str
    by: str
    reason: str
    state: State | None = None
    for_ms: int = 0


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


NO_POLICY = "no_policy"  # nothing was taken: the breakers have not been configured yet


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
class Snapshot:
    """Every breaker of one kind at one moment."""

    views: "tuple[BreakerView, ...]"
    version: int
    revision: int | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class BreakerView:
    """One breaker as a reader sees it now, deadlines and counts included."""

    provider: str
    kind: Kind
    breaker: Breaker
    until_ms: int | None
    failures: int  # weighted, in the window
    last_reasons: Mapping[str, int]
    leases: int
