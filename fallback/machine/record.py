"""What one outcome means for its provider's breaker, and what its call should do now.

The twin of lua/record.lua.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fallback.domain import (
    ADMITTING_STATES,
    FAILURE_KINDS,
    LIMITS,
    NO_POLICY,
    Breaker,
    Cause,
    Effect,
    EventName,
    Mode,
    Outcome,
    OutcomeKind,
    Policy,
    Reason,
    ReasonRule,
    Recorded,
    State,
    Status,
)
from fallback.machine import calls
from fallback.machine.calls import Call
from fallback.machine.decide import rank
from fallback.machine.evidence import SLOW, add_failure, add_sample, conclude, window_ms
from fallback.machine.state import Turn, load, notice, transition


@dataclass
class Report:
    """One outcome being taken: the call, the breaker it is about, and what came of it so far."""

    turn: Turn
    outcome: Outcome
    steps: Sequence[str]
    call: Call
    breaker: Breaker
    policy: Policy
    effect: Effect = Effect.NONE
    counted: bool = False
    loaded: dict[str, Breaker] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        """The provider that the outcome names: only this one is charged."""
        return self.outcome.provider

    @property
    def happened_ms(self) -> int:
        """When it was seen."""
        return self.turn.now_ms - max(0, min(self.outcome.age_ms, LIMITS["age_ms"]))

    @property
    def retry_after_ms(self) -> int:
        """The open time that the provider asked for; 0: none."""
        return round((self.outcome.retry_after_s or 0) * 1000)

    @property
    def lease(self) -> str | None:
        """The token of the lease that this call holds."""
        held = self.breaker.leases.items()
        return next((token for token, lease in held if lease.call == self.outcome.call_id), None)

    def breaker_of(self, name: str) -> Breaker:
        """Return another provider's breaker, brought up to now once."""
        if name not in self.loaded:
            self.loaded[name] = load(self.turn, name)
        return self.loaded[name]

    def keep(self) -> None:
        """Store the breaker."""
        self.turn.keep(self.provider, self.breaker)

    def seen(self) -> dict[str, Any]:
        """Return the outcome as evidence of an event."""
        outcome = self.outcome
        return {
            "call": outcome.call_id, "host": outcome.host, "key": outcome.key,
            "outcome": outcome.kind,
            "reason": outcome.reason, "code": outcome.code, "message": outcome.message,
            "route": outcome.route,
        }  # fmt: skip


def record(turn: Turn, outcome: Outcome, steps: Sequence[str]) -> Recorded:
    """Take one outcome."""
    if outcome.provider not in turn.fleet.policies:
        return _recorded(turn, NO_POLICY)
    call = calls.recall(
        turn.fleet.calls, outcome.call_id, turn.now_ms, is_kept=turn.remembers(outcome.memory)
    )
    report = Report(turn, outcome, steps, call, Breaker(), turn.policy(outcome.provider))
    is_failure = outcome.kind in FAILURE_KINDS
    if _is_repeat(call, outcome):
        target = _swap_target(report) if is_failure else ""
        return _recorded(turn, Status.DUPLICATE, swap_to=target)
    if call.is_full:
        most, size = LIMITS["call_entries"], LIMITS["call_bytes"]
        detail = f"this call has reported {most} times or {size} bytes: no more is taken"
        return _recorded(turn, Status.INVALID, detail=detail)
    report.breaker = report.breaker_of(outcome.provider)
    _take(report)
    swap_to = ""
    if is_failure and outcome.reason != Reason.CANCELLED:
        swap_to = _swap_target(report)
        call.provider = swap_to or call.provider
    _remember(report, swap_to)
    keys = report.breaker.evidence.get("keys") if report.effect == Effect.TRIPPED else None
    return _recorded(
        turn, Status.ACCEPTED, counted=report.counted, effect=report.effect, swap_to=swap_to,
        keys=keys,
    )  # fmt: skip


def _is_repeat(call: Call, outcome: Outcome) -> bool:
    if outcome.id in call.ids:
        return True
    if outcome.kind in FAILURE_KINDS:
        return outcome.provider in call.failed
    return outcome.kind == OutcomeKind.FIRST_TRANSCRIPT and outcome.provider in call.heard


def _take(report: Report) -> None:
    kind = report.outcome.kind
    if kind in FAILURE_KINDS:
        report.effect = _on_failure(report)
    elif kind == OutcomeKind.FIRST_TRANSCRIPT:
        report.effect = _on_transcript(report)
    elif kind == OutcomeKind.CALL_END:
        report.effect = _release_lease(report)
    elif kind == OutcomeKind.STARTED:
        report.call.provider = report.provider


def _swap_target(report: Report) -> str:
    """Whom the call should swap to: where it was sent already, else the best of the chain it has
    not failed on. No lease is spent: a probe starts with a decision."""
    best, best_rank = "", 4
    for name in report.steps:
        place = rank(report.breaker_of(name), name in report.call.failed)
        if place == 1 and report.call.provider == name:
            return name
        if place < best_rank:
            best, best_rank = name, place
    return best


def _on_failure(report: Report) -> Effect:
    breaker, reason = report.breaker, report.outcome.reason
    rule = report.policy.rule(reason)
    if reason != Reason.CANCELLED:
        report.call.failed.add(report.provider)
    if rule.is_neutral:
        return _release_lease(report)
    if breaker.state == State.HALF_OPEN and report.lease:
        return _fail_probe(report, rule)
    if breaker.state in ADMITTING_STATES:
        return _count_failure(report)
    # Open, forced open, or half open without the lease: calls of before. They move nothing, so a
    # storm of them cannot make the open time longer, but they were hurt.
    _count_hurt(report)
    return Effect.NONE


def _release_lease(report: Report) -> Effect:
    """Inconclusive: the slot is free for the next probe."""
    if report.lease is None:
        return Effect.NONE
    del report.breaker.leases[report.lease]
    report.keep()
    return Effect.PROBE_RELEASED


def _count_hurt(report: Report) -> None:
    if report.breaker.incident:
        report.breaker.hurt += 1
        report.keep()


def _fail_probe(report: Report, rule: ReasonRule) -> Effect:
    breaker, policy = report.breaker, report.policy
    del breaker.leases[report.lease or ""]
    breaker.failed_probes += 1
    _count_hurt(report)
    report.keep()
    report.counted = True
    if breaker.failed_probes >= policy.retrip_threshold or rule.trips_at_once:
        breaker.trips += 1
        breaker.retry_after_ms = report.retry_after_ms
        evidence = report.seen() | {
            "failed_probes": breaker.failed_probes, "retrip_threshold": policy.retrip_threshold,
        }  # fmt: skip
        transition(
            report.turn, report.provider, breaker, State.OPEN,
            cause=Cause.PROBE_FAILURE, reason=report.outcome.reason, evidence=evidence,
        )  # fmt: skip
    return Effect.PROBE_FAILED


def _count_failure(report: Report) -> Effect:
    """A breaker that admits remembers the failure and is judged by it."""
    turn, policy, outcome, name = report.turn, report.policy, report.outcome, report.provider
    happened = report.happened_ms
    if happened < report.breaker.evidence_since_ms or happened <= turn.now_ms - window_ms(policy):
        return Effect.NONE
    report.counted = True
    add_failure(turn, name, policy, outcome, outcome.reason, happened)
    if policy.samples_calls:
        new_calls = 0 if name in report.call.heard else 1
        add_sample(turn, name, policy, happened, calls=new_calls, failures=1, slow=0)
    report.keep()
    effect, proof = conclude(
        turn, name, report.breaker, policy,
        reason=outcome.reason, retry_after_ms=report.retry_after_ms, seen=report.seen(),
    )  # fmt: skip
    if effect is None and proof is not None:
        _tell_failure(report, proof)
    return effect or Effect.COUNTED


def _tell_failure(report: Report, proof: dict[str, Any]) -> None:
    """Past the threshold (a quorum is missing, or only a rate rule is on) a storm is told
    sparingly."""
    breaker, turn = report.breaker, report.turn
    is_soon = turn.now_ms - breaker.noticed_ms < LIMITS["notice_ms"]
    if proof["failures"] > report.policy.failure_threshold and is_soon:
        return
    breaker.noticed_ms = turn.now_ms
    notice(
        turn, report.provider, breaker, EventName.PROVIDER_FAILURE,
        reason=report.outcome.reason, evidence=report.seen() | proof,
    )  # fmt: skip


def _count_saved(report: Report) -> None:
    """A call that failed on another provider and is heard on this one was saved."""
    for other in sorted(report.call.failed - report.call.saved - {report.provider}):
        breaker = report.breaker_of(other)
        if breaker.incident:
            breaker.saved += 1
            report.turn.keep(other, breaker)
            report.call.saved.add(other)


def _on_transcript(report: Report) -> Effect:
    breaker, turn = report.breaker, report.turn
    report.call.heard.add(report.provider)
    _count_saved(report)
    if breaker.state == State.HALF_OPEN:
        lease = breaker.leases.get(report.outcome.lease)
        is_proof = lease is not None and lease.call == report.outcome.call_id
        return _prove(report) if is_proof else Effect.NONE
    is_old = report.happened_ms < breaker.evidence_since_ms
    if breaker.state not in ADMITTING_STATES or is_old:
        return Effect.NONE
    if breaker.trips and breaker.state == State.CLOSED:  # back by the timer; here is the proof
        breaker.trips = 0
        turn.keep(report.provider, breaker)
    return _sample(report) if report.policy.samples_calls else Effect.NONE


def _prove(report: Report) -> Effect:
    """Only a transcript with the live lease of this half-open spell is proof."""
    breaker, outcome = report.breaker, report.outcome
    del breaker.leases[outcome.lease]
    breaker.successes += 1
    report.keep()
    if breaker.successes < report.policy.probe_successes:
        return Effect.PROBE_SUCCEEDED
    evidence: dict[str, Any] = {"call": outcome.call_id, "successes": breaker.successes}
    if outcome.latency_ms is not None:
        evidence["latency_ms"] = outcome.latency_ms
    breaker.trips = breaker.retry_after_ms = 0
    transition(
        report.turn, report.provider, breaker, State.CLOSED,
        cause=Cause.PROBE_SUCCESS, evidence=evidence,
    )  # fmt: skip
    return Effect.RECOVERED


def _sample(report: Report) -> Effect:
    turn, policy, outcome, name = report.turn, report.policy, report.outcome, report.provider
    is_slow = bool(policy.slow_rate_percent) and (outcome.latency_ms or 0) > policy.slow_after_ms
    happened = report.happened_ms
    if happened > turn.now_ms - policy.rate_window_s * 1000:
        add_sample(turn, name, policy, happened, calls=1, failures=0, slow=int(is_slow))
        if is_slow:
            add_failure(turn, name, policy, outcome, SLOW, happened)
    effect, _ = conclude(turn, name, report.breaker, policy)
    return effect or Effect.NONE


def _remember(report: Report, swap_to: str) -> None:
    turn, outcome, call = report.turn, report.outcome, report.call
    is_failure = outcome.kind in FAILURE_KINDS
    is_note = is_failure or outcome.kind == OutcomeKind.RECOVERED
    is_note = is_note or (outcome.kind == OutcomeKind.STARTED and outcome.mode != Mode.PRIMARY)
    is_quiet = (call.is_quiet or call.touched_ms == 0) and not is_note
    call.ids.add(outcome.id)
    call.weigh(outcome)
    call.route = outcome.route or call.route
    call.add_entry(
        type="outcome", at_ms=report.happened_ms, id=outcome.id, provider=outcome.provider,
        kind=outcome.kind, reason=outcome.reason if is_failure else None, code=outcome.code,
        message=outcome.message, latency_ms=outcome.latency_ms, mode=outcome.mode,
        source=outcome.source, host=outcome.host, key=outcome.key or None, counted=report.counted,
        effect=report.effect, swap_to=swap_to or None,
    )  # fmt: skip
    if not turn.remembers(outcome.memory):
        return
    calls.write(
        turn.fleet.calls, outcome.call_id, call, now_ms=turn.now_ms, is_quiet=is_quiet,
        memory=outcome.memory,
    )  # fmt: skip


def _recorded(
    turn: Turn,
    status: str,
    *,
    detail: str = "",
    counted: bool = False,
    effect: Effect = Effect.NONE,
    swap_to: str = "",
    keys: Mapping[str, int] | None = None,
) -> Recorded:
    recorded = Recorded(
        status=status, detail=detail, counted=counted, effect=effect, swap_to=swap_to,
        now_ms=turn.now_ms, version=turn.version_now, revision=turn.fleet.revision,
        keys=dict(keys or {}),
    )  # fmt: skip
    turn.finish()
    return recorded
