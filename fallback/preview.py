"""What a policy that is not saved yet would do now: to the breakers that obey it, and to routes.

The breakers are read as they stand in Redis, and `machine` does with a copy what lua/configure.lua
does with them on save: first what is due under the old policy, then judged by the new one. Nothing
is written and nothing is told.
"""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fallback import breaker, catalog, decision, status
from fallback.catalog import Catalog
from fallback.domain import (
    BreakerView,
    Event,
    EventName,
    Held,
    Kind,
    Policy,
    Snapshot,
    State,
)
from fallback.machine import Fleet, Machine

REQUEST = "0" * 16  # of a turn that is never written: no lease and no event id leaves it


@dataclass(frozen=True, slots=True)
class BreakerPreview:
    """One breaker as it is now, and as it would be were the policy saved now."""

    before: BreakerView
    after: BreakerView
    policy: Policy
    events: tuple[Event, ...]  # what saving would tell
    now_ms: int

    @property
    def moves(self) -> bool:
        """Whether its state would be another one."""
        return self.before.breaker.state != self.after.breaker.state

    @property
    def is_changed(self) -> bool:
        """Whether anything that an operator sees of it would be otherwise."""
        return self.moves or self.before.until_ms != self.after.until_ms or bool(self.events)

    def sentence(self) -> str:
        """Say it in one line, times in UTC."""
        name, state = self.after.provider, _spoken(self.after.breaker.state)
        if self.moves:
            was = _spoken(self.before.breaker.state)
            until = f",{self._until()}," if self.after.until_ms is not None else ""
            return f"{name} would be {state} now{until} instead of {was}{self._why()}"
        if any(event.name == EventName.WOULD_TRIP for event in self.events):
            return f"{name} stays {state}, and would say now that it would trip{self._proof()}"
        if self.before.until_ms != self.after.until_ms:
            was = _clock(self.before.until_ms, self.now_ms)
            return f"{name} stays {state}{self._until()} instead of {was}{self._why()}"
        return f"{name} stays {state}{self._until()}{self._count()}"

    def _until(self) -> str:
        until_ms = self.after.until_ms
        return "" if until_ms is None else f" until {_clock(until_ms, self.now_ms)}"

    def _why(self) -> str:
        why = decision.describe(self.after.breaker)
        return f": {why}" if why else ""

    def _proof(self) -> str:
        proof = self.events[-1].evidence
        counts = f"{proof.get('failures', '?')} failures in {self.policy.failure_window_s} s"
        return f": {counts}" if "failures" in proof else ""

    def _count(self) -> str:
        if self.after.breaker.state not in {State.CLOSED, State.SHADOW}:
            return self._why()
        policy = self.policy
        of = f" of {policy.failure_threshold}" if policy.failure_threshold else ""
        return f": {self.after.failures}{of} failures in {policy.failure_window_s} s"


@dataclass(frozen=True, slots=True)
class RoutePreview:
    """The providers of one route in the order that calls take them, now and then."""

    route: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def starts_elsewhere(self) -> bool:
        """Whether new calls would begin on another provider."""
        return self.before[:1] != self.after[:1]


@dataclass(frozen=True, slots=True)
class Preview:
    """What saving would do. `routes`: those alone whose order would be another one."""

    now_ms: int
    breakers: tuple[BreakerPreview, ...]
    routes: tuple[RoutePreview, ...]


def preview(policy: Policy, subjects: Collection[tuple[Kind, str]]) -> Preview:
    """Return what would happen now if `policy` were saved for these (kind, slug).

    Raises BreakerUnavailable.
    """
    config = catalog.newest()
    parts = [
        _of_kind(kind, policy, [slug for of, slug in subjects if of == kind], config)
        for kind in sorted({kind for kind, _ in subjects})
    ]
    return Preview(
        now_ms=max((part.now_ms for part in parts), default=0),
        breakers=tuple(one for part in parts for one in part.breakers),
        routes=tuple(one for part in parts for one in part.routes),
    )


def _of_kind(kind: Kind, policy: Policy, slugs: Sequence[str], config: Catalog) -> Preview:
    names = sorted({slug for of, slug in config.providers if of == kind} | set(slugs))
    held = breaker.look(kind, names)
    before = _read(Machine(_fleet(held)), names, held)
    saved = Machine(_fleet(held))
    policies = {name: config.policies.get((kind, name), Policy()) for name in names}
    saved.snapshot(names, now_ms=held.now_ms, request=REQUEST)
    known = len(saved.fleet.events)  # what is due without any change of ours
    saved.configure(1, policies | dict.fromkeys(slugs, policy), now_ms=held.now_ms, request=REQUEST)
    events = saved.fleet.events[known:]
    after = _read(saved, names, held)
    return Preview(
        held.now_ms,
        tuple(
            BreakerPreview(
                before=old,
                after=new,
                policy=policy,
                events=tuple(event for event in events if event.provider == new.provider),
                now_ms=held.now_ms,
            )
            for old, new in zip(before.views, after.views, strict=True)
            if new.provider in slugs
        ),
        _routes(kind, config, before, after),
    )


def _fleet(held: Held) -> Fleet:
    """Return what is stored as the machine has it, for it to change as it likes.

    The revision is left out: whatever is saved next is newer than what the breakers judge by.
    """
    return copy.deepcopy(
        Fleet(
            kind=held.kind,
            breakers=dict(held.breakers),
            policies=dict(held.policies),
            failures={name: dict(rows) for name, rows in held.failures.items()},
            samples={name: dict(rows) for name, rows in held.samples.items()},
            version=held.version,
            incarnation=held.incarnation,
        )
    )


def _read(machine: Machine, names: Sequence[str], held: Held) -> Snapshot:
    return machine.snapshot(names, now_ms=held.now_ms, request=REQUEST)


def _routes(
    kind: Kind, config: Catalog, before: Snapshot, after: Snapshot
) -> tuple[RoutePreview, ...]:
    old, new = ({(kind, view.provider): view for view in it.views} for it in (before, after))
    found = [
        RoutePreview(
            route.slug,
            tuple(step.provider.slug for step in status.order_now(route, old)),
            tuple(step.provider.slug for step in status.order_now(route, new)),
        )
        for route in config.routes.values()
        if route.kind == kind
    ]
    return tuple(one for one in found if one.before != one.after)


def _spoken(state: str) -> str:
    return state.replace("_", " ")


def _clock(ms: int | None, now_ms: int) -> str:
    """Write a time of day, with its date unless that is today's."""
    if ms is None:
        return "an operator ends it"
    at, now = (datetime.fromtimestamp(it / 1000, UTC) for it in (ms, now_ms))
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S} UTC"
