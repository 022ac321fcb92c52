"""A breaker as it is stored and as it is read, the orders to it, and its events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fallback.domain.policy import Policy
from fallback.domain.words import EventName, Kind, State


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
class BreakerView:
    """One breaker as a reader sees it now, deadlines and counts included."""

    provider: str
    kind: Kind
    breaker: Breaker
    until_ms: int | None
    failures: int  # weighted, in the window
    last_reasons: Mapping[str, int]
    leases: int
    keys: Mapping[str, int] = field(default_factory=dict)  # those failures by API key


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every breaker of one kind at one moment."""

    views: tuple[BreakerView, ...]
    version: int
    revision: int | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """All that is stored of some breakers of one kind, as it stood at one moment.

    Failures are keyed by (reason, host, call, API key) and hold a time; samples by (width of a
    slice in ms, slice) and hold [calls, failures, slow calls]: as `machine` has them.
    """

    kind: Kind
    now_ms: int
    version: int | None
    revision: int | None
    incarnation: str
    breakers: Mapping[str, Breaker]
    policies: Mapping[str, Policy]
    failures: Mapping[str, Mapping[tuple[str, str, str, str], int]]
    samples: Mapping[str, Mapping[tuple[int, int], list[int]]]
