"""What this process decides with while Redis is away: the machine, from the last known state.

It remembers the breakers that went by while Redis answered. It counts nothing of its own, since
outcomes are refused meanwhile, and what it moved is forgotten when Redis is back.
"""

import copy
import dataclasses
import secrets
import threading
import time
from collections.abc import Iterable, Mapping

from fallback.domain import Asked, Breaker, Kind, Policy, Walk
from fallback.machine import Fleet, Machine

CALLS = 10_000  # remembered during one outage, so that a call asking again stays where it is


class StandIn:
    """Decides for one process. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Kind, str], Breaker] = {}
        self.version = 0
        self._redis_ahead_ms = 0.0  # of this process's monotonic clock
        self._machines: dict[Kind, Machine] = {}

    def remember(
        self, kind: Kind, breakers: Iterable[tuple[str, Breaker]], *, now_ms: int, version: int
    ) -> None:
        """Take what Redis just answered as the last known state."""
        with self._lock:
            self._known.update({(kind, name): breaker for name, breaker in breakers})
            self.version = max(self.version, version)
            self._redis_ahead_ms = now_ms - time.monotonic() * 1000
            self._machines.clear()

    def decide(self, kind: Kind, asked: Asked, policies: Mapping[str, Policy]) -> Walk:
        """Walk the chain as the breakers were last known, time passing. Never fails."""
        with self._lock:
            machine = self._machines.get(kind) or self._begin(kind)
            machine.fleet.policies = dict(policies)
            walk = machine.decide(asked, now_ms=self._now_ms(), request=secrets.token_hex(8))
            machine.fleet.events.clear()
            if len(machine.fleet.calls) > CALLS:
                machine.fleet.calls.clear()
            return dataclasses.replace(walk, version=self.version, revision=None)

    def _begin(self, kind: Kind) -> Machine:
        known = {name: breaker for (of, name), breaker in self._known.items() if of == kind}
        fleet = Fleet(kind=kind, breakers=copy.deepcopy(known), version=self.version)
        machine = self._machines[kind] = Machine(fleet)
        return machine

    def _now_ms(self) -> int:
        """Redis's clock as it was last told, carried on by ours: deadlines keep their length."""
        if not self._redis_ahead_ms:
            return int(time.time() * 1000)
        return int(time.monotonic() * 1000 + self._redis_ahead_ms)


shared = StandIn()  # this process's own
