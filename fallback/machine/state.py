"""A breaker's state: how time and orders move it, and the only place it changes.

The twin of lua/state.lua. `Fleet` is all that is stored of one kind; a `Turn` is one operation on
it, at one moment.
"""

from dataclasses import dataclass, field
from typing import Any

from fallback.domain import (
    ADMITTING_STATES,
    BREAKER_ACTOR,
    LIMITS,
    OVERRIDE_STATES,
    Breaker,
    Cause,
    Event,
    EventName,
    Memory,
    Override,
    Policy,
    Reason,
    Recovery,
    State,
)
from fallback.machine.calls import Call


@dataclass
class Fleet:
    """Everything stored of one kind, as plain values."""

    kind: str = "stt"
    breakers: dict[str, Breaker] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    failures: dict[str, dict[tuple[str, str, str, str], int]] = field(default_factory=dict)
    samples: dict[str, dict[tuple[int, int], list[int]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    version: int | None = None
    revision: int | None = None
    incarnation: str = ""
    has_room: bool = True  # else Redis is full: breakers go on, calls are not remembered


@dataclass
class Turn:
    """One operation: the fleet, the time in ms, and a fresh id."""

    fleet: Fleet
    now_ms: int
    request: str
    is_changed: bool = False

    @property
    def next_version(self) -> int:
        """The version this turn writes: it rises even after the data was lost."""
        return max((self.fleet.version or 0) + 1, self.now_ms * 1000)

    @property
    def version_now(self) -> int:
        """What a reader is told: never lower than what was told before."""
        if self.is_changed or self.fleet.version is None:
            return self.next_version
        return self.fleet.version

    def remembers(self, memory: Memory) -> bool:
        """Whether a call is written that is to be remembered so."""
        return self.fleet.has_room and memory != Memory.NONE

    def policy(self, name: str) -> Policy:
        """Return the policy of one provider; the default one where none is known."""
        return self.fleet.policies.get(name) or Policy()

    def keep(self, name: str, breaker: Breaker) -> None:
        """Store a breaker that changed."""
        self.fleet.breakers[name] = breaker
        self.is_changed = True

    def finish(self) -> None:
        """Write the version that tells every reader of a change. The last step of every verb."""
        if self.is_changed:
            self.fleet.version = self.next_version
            self.fleet.incarnation = self.fleet.incarnation or self.request[:8]
            self.is_changed = False


def load(turn: Turn, name: str) -> Breaker:
    """Return a provider's breaker, brought up to now."""
    breaker = turn.fleet.breakers.get(name) or Breaker()
    settle(turn, name, breaker)
    return breaker


def append(turn: Turn, event_id: str, name: str, provider: str, **fields: Any) -> None:
    """Append one event; the fields not given are empty, the time is now."""
    values: dict[str, Any] = {
        "before": "", "after": "", "at_ms": turn.now_ms, "cause": "", "actor": BREAKER_ACTOR,
        "reason": "", "incident": "", "evidence": {}, "version": turn.next_version,
    } | fields  # fmt: skip
    turn.fleet.events.append(
        Event(id=event_id, name=name, kind=turn.fleet.kind, provider=provider, **values)
    )


def next_event_id(turn: Turn, name: str, breaker: Breaker) -> str:
    """Return an id that is unique for ever: a retry repeats it, a fork or lost data does not."""
    breaker.sequence += 1
    incarnation = turn.fleet.incarnation or turn.request[:8]
    return f"{incarnation}-{name}-{breaker.sequence}-{turn.request}"


def notice(turn: Turn, name: str, breaker: Breaker, event: str, **fields: Any) -> None:
    """Tell something that moves nothing."""
    event_id = next_event_id(turn, name, breaker)
    state = breaker.state
    append(
        turn, event_id, event, name,
        before=state, after=state, incident=breaker.incident, **fields,
    )  # fmt: skip
    turn.keep(name, breaker)


def transition_name(before: State, after: State) -> EventName:
    """Return the event that a move from `before` to `after` is."""
    if after in OVERRIDE_STATES:
        return EventName.OVERRIDE_SET
    if before in OVERRIDE_STATES:
        return EventName.OVERRIDE_CLEARED
    if after == State.OPEN:
        return EventName.PROBE_FAILED if before == State.HALF_OPEN else EventName.TRIPPED
    return EventName.PROBING if after == State.HALF_OPEN else EventName.RECOVERED


def transition(
    turn: Turn,
    name: str,
    breaker: Breaker,
    after: State,
    *,
    cause: str,
    at_ms: int | None = None,
    actor: str = BREAKER_ACTOR,
    reason: str = "",
    evidence: dict[str, Any] | None = None,
    hurt: int = 0,
) -> None:
    """Move a breaker: the only writer of its state, and no move without its event."""
    before, at = breaker.state, turn.now_ms if at_ms is None else at_ms
    event_id = next_event_id(turn, name, breaker)
    if before in ADMITTING_STATES and after not in ADMITTING_STATES:
        breaker.incident, breaker.diverted, breaker.hurt, breaker.saved = event_id, 0, hurt, 0
    proof = dict(evidence or {}) | {
        "diverted": breaker.diverted, "hurt": breaker.hurt, "saved": breaker.saved,
        "trips": breaker.trips,
    }  # fmt: skip
    append(
        turn, event_id, transition_name(before, after), name,
        before=before, after=after, at_ms=at, cause=cause, actor=actor, reason=reason,
        incident=breaker.incident, evidence=proof,
    )  # fmt: skip
    breaker.state, breaker.since_ms, breaker.cause, breaker.reason = after, at, cause, reason
    breaker.leases, breaker.successes, breaker.failed_probes = {}, 0, 0
    breaker.all_down_told = False
    if after == State.OPEN:
        breaker.evidence = proof
    elif after in ADMITTING_STATES:
        breaker.incident, breaker.evidence = "", {}
        # What was seen before the breaker admitted again says nothing about now.
        if before not in ADMITTING_STATES:
            breaker.evidence_since_ms = at
    turn.keep(name, breaker)


def open_ms(breaker: Breaker, policy: Policy) -> int:
    """Return how long this open spell lasts under the policy of now, in ms.

    A provider whose rate limit said when to come back is taken at its word for a while; else the
    reason's own time or the policy's, longer with each trip in a row, capped.
    """
    cap = policy.open_duration_max_s * 1000
    if breaker.retry_after_ms > 0 and breaker.reason == Reason.RATE_LIMIT:
        return min(breaker.retry_after_ms, LIMITS["retry_after_ms"], cap)
    own = policy.rule(breaker.reason).open_duration_s
    duration = (policy.open_duration_s if own is None else own) * 1000
    for _ in range(min(breaker.trips, 64) - 1):
        if duration >= cap:
            break
        duration = int(duration * policy.open_backoff)
    return min(duration, cap)


def until_ms(breaker: Breaker, policy: Policy) -> int | None:
    """Return when this state ends by itself; None: not by itself."""
    if breaker.state == State.OPEN:
        return breaker.since_ms + open_ms(breaker, policy)
    return breaker.override.until_ms if breaker.override else None


def override_evidence(override: Override) -> dict[str, Any]:
    """Return what an event tells of an order beside its author and reason: its end, if any."""
    return {} if override.until_ms is None else {"until_ms": override.until_ms}


def settle(
    turn: Turn, name: str, breaker: Breaker, *, cause: str = "", actor: str = "", reason: str = ""
) -> None:
    """Bring a breaker up to now: the first step of every verb, so that it matters to nobody who
    looks when. `cause`, `actor`, `reason`: who ended an override, where somebody did."""
    policy = turn.policy(name)
    _rebase(turn, name, breaker)
    _drop_dead_leases(turn, name, breaker, policy)
    _obey(turn, name, breaker, policy, cause=cause, actor=actor, reason=reason)
    deadline = until_ms(breaker, policy)
    if breaker.state == State.OPEN and deadline is not None and turn.now_ms >= deadline:
        after = State.CLOSED if policy.recovery == Recovery.TIMER else State.HALF_OPEN
        transition(turn, name, breaker, after, cause=Cause.TIME_UP, at_ms=deadline)
    elif breaker.state == State.HALF_OPEN and policy.recovery == Recovery.TIMER:
        transition(turn, name, breaker, State.CLOSED, cause=Cause.POLICY, actor="policy")


def _rebase(turn: Turn, name: str, breaker: Breaker) -> None:
    """A host clock that was stepped back leaves times in the future: they are now."""
    latest = turn.now_ms + LIMITS["tolerance_ms"]
    for past in ("since_ms", "evidence_since_ms", "would_trip_ms", "noticed_ms"):
        if getattr(breaker, past) > latest:
            setattr(breaker, past, turn.now_ms)
            turn.keep(name, breaker)
    override = breaker.override
    if override and override.at_ms > latest:
        if override.until_ms is not None:
            override.until_ms += turn.now_ms - override.at_ms
        override.at_ms = turn.now_ms
        turn.keep(name, breaker)


def _drop_dead_leases(turn: Turn, name: str, breaker: Breaker, policy: Policy) -> None:
    for token, lease in list(breaker.leases.items()):
        age_ms = turn.now_ms - lease.at_ms
        if not -LIMITS["tolerance_ms"] <= age_ms < policy.probe_lease_s * 1000:
            del breaker.leases[token]
            turn.keep(name, breaker)


def _obey(
    turn: Turn, name: str, breaker: Breaker, policy: Policy, *, cause: str, actor: str, reason: str
) -> None:
    """An operator's order, or a policy in shadow, goes before what the breaker found itself."""
    end: dict[str, Any] = {"cause": Cause.POLICY, "actor": "policy"}
    if cause:
        end = {"cause": cause, "actor": actor, "reason": reason}
    override = breaker.override
    if override and override.until_ms is not None and override.until_ms <= turn.now_ms:
        end = {"cause": Cause.OVERRIDE_ENDED, "at_ms": override.until_ms}
        breaker.override = override = None
        turn.keep(name, breaker)
    if override:
        if override.state != breaker.state:
            transition(
                turn, name, breaker, override.state,
                cause=Cause.OVERRIDE, actor=override.by, reason=override.reason,
                evidence=override_evidence(override),
            )  # fmt: skip
    elif policy.shadow:
        if breaker.state != State.SHADOW:
            transition(turn, name, breaker, State.SHADOW, **end)
    elif breaker.state in OVERRIDE_STATES:
        probes = breaker.state == State.FORCED_OPEN and policy.recovery == Recovery.PROBE
        transition(turn, name, breaker, State.HALF_OPEN if probes else State.CLOSED, **end)
