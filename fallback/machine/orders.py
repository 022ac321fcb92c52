"""Orders and configuration: what people tell the breakers, and how they are read.

The twin of lua/order.lua, lua/configure.lua, lua/snapshot.lua and lua/release.lua.
"""

import copy
from collections.abc import Mapping, Sequence

from fallback.domain import (
    Breaker,
    BreakerView,
    Cause,
    EventName,
    Kind,
    Order,
    Override,
    Policy,
    Snapshot,
    State,
)
from fallback.machine.evidence import conclude, failures_in, tally, told_keys
from fallback.machine.state import (
    Turn,
    append,
    load,
    notice,
    override_evidence,
    settle,
    transition,
    until_ms,
)


def carry_out(turn: Turn, order: Order) -> bool:
    """Carry out an operator's order; False when there was nothing to clear."""
    breaker = load(turn, order.provider)
    if order.action == "override":
        _set_override(turn, order, breaker)
        done = True
    elif order.action == "clear":
        done = _clear_override(turn, order, breaker)
    else:
        _reset(turn, order, breaker)
        done = True
    turn.finish()
    return done


def _forget_evidence(turn: Turn, name: str) -> None:
    turn.fleet.failures.pop(name, None)
    turn.fleet.samples.pop(name, None)


def _set_override(turn: Turn, order: Order, breaker: Breaker) -> None:
    if order.state is None:
        raise ValueError("an override needs a state")
    breaker.override = Override(
        state=order.state, by=order.by, reason=order.reason, at_ms=turn.now_ms,
        until_ms=turn.now_ms + order.for_ms if order.for_ms > 0 else None,
    )  # fmt: skip
    turn.keep(order.provider, breaker)
    if breaker.state == order.state:  # a new end or reason is an order too
        notice(
            turn, order.provider, breaker, EventName.OVERRIDE_SET,
            cause=Cause.OVERRIDE, actor=order.by, reason=order.reason,
            evidence=override_evidence(breaker.override),
        )  # fmt: skip
    settle(turn, order.provider, breaker)
    if breaker.state == State.FORCED_OPEN:
        _forget_evidence(turn, order.provider)


def _clear_override(turn: Turn, order: Order, breaker: Breaker) -> bool:
    if breaker.override is None:
        return False
    breaker.override = None
    turn.keep(order.provider, breaker)
    end = {"cause": Cause.OVERRIDE_CLEARED, "actor": order.by, "reason": order.reason}
    if turn.policy(order.provider).shadow and breaker.state == State.SHADOW:
        notice(turn, order.provider, breaker, EventName.OVERRIDE_CLEARED, **end)
    settle(turn, order.provider, breaker, **end)
    return True


def _reset(turn: Turn, order: Order, breaker: Breaker) -> None:
    breaker.override = None
    breaker.trips = breaker.retry_after_ms = breaker.would_trip_ms = breaker.noticed_ms = 0
    turn.keep(order.provider, breaker)
    name, policy = order.provider, turn.policy(order.provider)
    if breaker.state == State.CLOSED or (policy.shadow and breaker.state == State.SHADOW):
        notice(
            turn, name, breaker, EventName.RESET,
            cause=Cause.RESET, actor=order.by, reason=order.reason,
        )  # fmt: skip
    else:
        transition(
            turn, name, breaker, State.CLOSED,
            cause=Cause.RESET, actor=order.by, reason=order.reason,
        )  # fmt: skip
    breaker.evidence_since_ms = turn.now_ms
    settle(turn, name, breaker)
    _forget_evidence(turn, name)


def release(turn: Turn, lease: str, names: Sequence[str]) -> bool:
    """Take back a lease that was never given to anybody; False if there is none."""
    is_found = False
    for name in names:
        breaker = load(turn, name)
        if breaker.leases.pop(lease, None):
            turn.keep(name, breaker)
            is_found = True
    turn.finish()
    return is_found


def configure(
    turn: Turn,
    revision: int,
    policies: Mapping[str, Policy],
    overrides: Mapping[str, Override],
    is_known: bool,
) -> str:
    """Judge by these policies from now on.

    A breaker is first brought up to now under the policy it had, then judged by the new one.
    `overrides` stand if this data is new; `is_known`: there was data before, so it was lost.
    Returns "applied", or "same" or "stale" when `revision` is not newer.
    """
    fleet = turn.fleet
    if fleet.revision is not None and fleet.revision >= revision:
        return "same" if fleet.revision == revision else "stale"
    for name in sorted(fleet.breakers):
        load(turn, name)
    if not fleet.incarnation:
        _begin(turn, policies, overrides, is_known)
    for name in sorted(fleet.breakers):
        if name not in policies:
            _remove(turn, name)
    old_policies, fleet.policies = fleet.policies, dict(policies)
    turn.is_changed = True
    for name, policy in policies.items():
        breaker = fleet.breakers.get(name) or Breaker()
        settle(turn, name, breaker)
        if name in old_policies and old_policies[name] != policy:
            conclude(turn, name, breaker, policy)
    fleet.revision = revision
    turn.finish()
    return "applied"


def _begin(
    turn: Turn, policies: Mapping[str, Policy], overrides: Mapping[str, Override], is_known: bool
) -> None:
    """This data has no past. Operators' orders outlive it: history knows them."""
    turn.is_changed = True
    if is_known:
        append(turn, f"{turn.request[:8]}--0-{turn.request}", EventName.STATE_LOST, "")
    for name, override in overrides.items():
        if name in policies:
            breaker = turn.fleet.breakers.get(name) or Breaker()
            breaker.override = copy.deepcopy(override)
            turn.keep(name, breaker)


def _remove(turn: Turn, name: str) -> None:
    """A provider that is gone leaves no breaker behind, and no incident open."""
    breaker = turn.fleet.breakers[name]
    if breaker.state != State.CLOSED:
        transition(
            turn, name, breaker, State.CLOSED,
            cause=Cause.POLICY, actor="policy", reason="provider removed",
        )  # fmt: skip
    del turn.fleet.breakers[name]


def read(turn: Turn, names: Sequence[str]) -> Snapshot:
    """Bring every breaker up to now and read it."""
    views = []
    for name in names:
        breaker, policy = load(turn, name), turn.policy(name)
        from_ms = turn.now_ms - policy.failure_window_s * 1000
        found = tally(failures_in(turn, name, from_ms), policy, from_ms)
        views.append(
            BreakerView(
                provider=name, kind=Kind(turn.fleet.kind), breaker=copy.deepcopy(breaker),
                until_ms=until_ms(breaker, policy), failures=found.weight,
                last_reasons=found.reasons, keys=told_keys(found.keys),
                leases=len(breaker.leases),
            )
        )  # fmt: skip
    turn.finish()
    return Snapshot(tuple(views), turn.version_now, turn.fleet.revision, turn.now_ms)
