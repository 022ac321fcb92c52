"""What a breaker means, made executable: decide, record, order, configure, snapshot.

Pure Python on plain values, with the time and the request id passed in. It is the specification
that the Lua is held against, the judge of a rehearsal, and what a process runs on while Redis is
away. Each module here is the twin of a Lua file and changes in the same commit:

state.py     lua/state.lua     how time and orders move a breaker; `transition`
evidence.py  lua/evidence.lua  what failures and samples prove
calls.py     lua/call.lua      what is remembered of one call
decide.py    lua/decide.lua    who takes a call
record.py    lua/record.lua    what an outcome means
orders.py    lua/order.lua, lua/configure.lua, lua/snapshot.lua, lua/release.lua
"""

from collections.abc import Sequence

from fallback.domain import Asked, Order, Outcome, Override, Policy, Recorded, Snapshot, Walk
from fallback.machine.decide import decide as decide_call
from fallback.machine.orders import carry_out, configure, read, release
from fallback.machine.record import record as record_outcome
from fallback.machine.state import Fleet, Turn

__all__ = ["Fleet", "Machine"]


class Machine:
    """All breakers of one kind. Not safe for threads: its owner holds a lock."""

    def __init__(self, fleet: Fleet | None = None) -> None:
        self.fleet = fleet or Fleet()

    def decide(self, asked: Asked, *, now_ms: int, request: str) -> Walk:
        """Walk the chain for one call; a lease, where one is due, has the token `request`."""
        return decide_call(Turn(self.fleet, now_ms, request), asked)

    def record(
        self, outcome: Outcome, steps: Sequence[str], *, now_ms: int, request: str
    ) -> Recorded:
        """Take one outcome; `steps` are the providers a failed call may swap to."""
        return record_outcome(Turn(self.fleet, now_ms, request), outcome, steps)

    def order(self, order: Order, *, now_ms: int, request: str) -> bool:
        """Carry out an operator's order; False when there was nothing to clear."""
        return carry_out(Turn(self.fleet, now_ms, request), order)

    def configure(
        self,
        revision: int,
        policies: dict[str, Policy],
        *,
        now_ms: int,
        request: str,
        overrides: dict[str, Override] | None = None,
        is_known: bool = False,
    ) -> str:
        """Judge by these policies from now on: "applied", or "same" or "stale" when not newer."""
        turn = Turn(self.fleet, now_ms, request)
        return configure(turn, revision, policies, overrides or {}, is_known)

    def snapshot(self, names: Sequence[str], *, now_ms: int, request: str) -> Snapshot:
        """Bring every breaker up to now and read it."""
        return read(Turn(self.fleet, now_ms, request), names)

    def release(self, lease: str, names: Sequence[str], *, now_ms: int, request: str) -> bool:
        """Take back a lease that was never given to anybody; False if there is none."""
        return release(Turn(self.fleet, now_ms, request), lease, names)
