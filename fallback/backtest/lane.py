"""A lane: one policy through one provider's past, judged by `machine` and by nothing else.

The machine hears everything that can matter to a breaker: each failure, each order, each call that
asks while it is out, each proof. What provably moves nothing is left out, because a month holds
millions of it: a call that a closed breaker admits, and a transcript under a policy that samples
no calls or whose evidence is too thin to trip.

Where the lane differs from what happened, calls differ too. One that took the provider then and is
sent elsewhere here is *away*: what it met there is counted, and not told to the breaker. One that
was sent elsewhere then and takes the provider here meets what `fates` infers.
"""

import heapq
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fallback.backtest.fates import Fates
from fallback.domain import (
    ADMITTING_STATES,
    Asked,
    Breaker,
    Event,
    EventName,
    Order,
    Outcome,
    OutcomeKind,
    Policy,
    State,
)
from fallback.machine import Machine
from fallback.machine.calls import Call
from fallback.machine.evidence import add_sample, least_bad_calls, rate_span_ms, samples_in
from fallback.machine.state import Turn, until_ms
from fallback.messages.events import told_by
from fallback.past import NOBODY, Failure, Flag, Reporter, Sighting, Slot, What

ELSEWHERE: Final = "-"  # stands for the rest of the chain; no slug, so no provider
CALL_MS: Final = 3_600_000  # how long a call is waited for
CALLS_MAX: Final = 2_000  # calls remembered by the machine
HEARD_MAX: Final = 100_000  # calls known to have been heard, twice this and two slots at most
HEARD_AFTER_MS: Final = 2_000  # when a call of inferred health is heard
FLAP_MS: Final = 600_000  # a trip so soon after the recovery is a flap

_ASKED, _HEARD = int(What.ASKED), int(What.HEARD)
_TAKEN, _MAY_PROBE = int(Flag.TAKEN), int(Flag.MAY_PROBE)
_PROBE, _LAST_RESORT = int(Flag.PROBE), int(Flag.LAST_RESORT)


@dataclass(slots=True)
class Counts:
    """What a lane did to calls."""

    hurt: int = 0  # the provider failed in them
    diverted: int = 0  # sent elsewhere because it was out
    diverted_healthy: int = 0  # of those: it would have heard them
    avoided: int = 0  # of those: it would have failed them
    flaps: int = 0


@dataclass
class Lane:
    """One policy at work on one provider. Feed it in the order of time, then `finish`."""

    provider: str
    policy: Policy
    fates: Fates
    start_ms: int
    has_orders: bool = False
    counts: Counts = field(default_factory=Counts)
    moves: list[Event] = field(default_factory=list)  # its transitions
    told: Counter[tuple[str, ...]] = field(default_factory=Counter)  # by the templates that may
    is_calm: bool = True  # it admits, and waits for nobody
    is_deaf: bool = True  # nor does it need to know who is heard

    def __post_init__(self) -> None:
        self.machine = Machine()
        self.machine.configure(
            1, {self.provider: self.policy}, now_ms=self.start_ms, request="rehearse"
        )
        self._requests = 0
        self._away: dict[int, int] = {}  # call -> when it was sent elsewhere
        self._probes: dict[int, tuple[str, bool]] = {}  # call -> lease, and whether it was one then
        self._expected: list[tuple[int, int, bool]] = []  # (at_ms, call, fails): inferred
        self._bad: deque[int] = deque()  # when failures and slow calls of the rate window were
        self._heard_calls: set[int] = set()
        self._heard_before: set[int] = set()
        self._recovered_ms = -FLAP_MS
        self._rate_span_ms = rate_span_ms(self.policy)
        self._samples = self.policy.samples_calls
        self._least_bad = least_bad_calls(self.policy)
        self._settle()

    def meet(self, sighting: Sighting, slot: Slot) -> bool:
        """Meet one sighting of a slot; return whether the lane may be calm or deaf now."""
        at_ms, call, value, age_ms, host, what, flags = sighting
        if self._pass_quickly(at_ms, call, value, age_ms, what, flags):
            return False
        self._meet_expected(at_ms)
        if what == _ASKED:
            self._asked(at_ms, call, flags)
        elif what == _HEARD:
            self._heard_then(
                at_ms, call, self._heard(call, value, age_ms, slot.reporters[host]), flags
            )
        elif what == What.FAILED:
            failed = self._failed(call, slot.failures[value], age_ms, slot.reporters[host])
            self._failed_then(at_ms, call, failed)
        elif what == What.STARTED:
            self._started(at_ms, call, flags)
        elif call in self._probes:  # RELEASED
            self._record(at_ms, self._outcome(call, OutcomeKind.CALL_END))
        self._settle()
        return True

    def may_pass(self, slot: Slot, position: int) -> bool:
        """Whether quick transcripts from here on can only be sampled."""
        return self._is_sampling and not self._may_trip(slot[position].at_ms)

    def pass_over(self, slot: Slot, heard: list[int], end_ms: int) -> None:
        """Meet all of a stretch at once: calls that were taken, and those that were `heard`
        quickly, by position. Of those only what lies in the rate window before `end_ms` is sampled.
        """
        times, calls, ages = (slot.columns[name] for name in ("at", "call", "age"))
        self._remember_heard(calls[position] for position in heard)
        begin = slot.position(end_ms - self._rate_span_ms)
        for position in heard[bisect_left(heard, begin) :]:
            at_ms = slot.start_ms + times[position]
            self._sample(at_ms, at_ms - ages[position])

    @property
    def slow_ms(self) -> int:
        """What is slow to this policy; 0 if nothing is."""
        return self.policy.slow_after_ms if self.policy.slow_rate_percent else 0

    def ordered(self, at_ms: int, order: Order) -> None:
        """An operator gave an order."""
        self._meet_expected(at_ms)
        self.machine.order(order, now_ms=at_ms, request=self._request())
        self._take_events()
        self._settle()

    def finish(self, at_ms: int) -> None:
        """Let time pass until the end of the span."""
        self._meet_expected(at_ms)
        self._look(at_ms)
        self._settle()

    def forget(self, at_ms: int) -> None:
        """Forget calls of long ago; to be called now and then, it keeps a lane small."""
        old_ms = at_ms - CALL_MS
        self._away = {call: since for call, since in self._away.items() if since > old_ms}
        if self._samples:
            samples_in(Turn(self.machine.fleet, at_ms, ""), self.provider, self.policy)
        known = self.machine.fleet.calls
        if len(known) > CALLS_MAX:
            for call_id in list(known)[: CALLS_MAX // 2]:
                del known[call_id]
        self._settle()

    def _pass_quickly(
        self, at_ms: int, call: int, value: int, age_ms: int, what: int, flags: int
    ) -> bool:
        """Do what is plain and common with no more than it needs: a call that a breaker surely
        keeps out, or a transcript that can only be sampled. Return whether that was all."""
        if what == _ASKED and at_ms < self._out_until_ms and not flags & _LAST_RESORT:
            if call not in self._away:
                self._breaker.diverted += 1
                self._send_away(at_ms, call, flags)
            return True
        if what != _HEARD:
            return False
        if self._is_sampling and value <= self.policy.slow_after_ms and not self._may_trip(at_ms):
            self._remember_heard((call,))
            self._sample(at_ms, at_ms - age_ms)
            return True
        if at_ms < self._out_until_ms:
            if self._away.pop(call, None) is not None:
                self.counts.diverted_healthy += 1
            elif self._samples:
                self._remember_heard((call,))
            return True
        return False

    # --- what happened then

    def _asked(self, at_ms: int, call: int, flags: int) -> None:
        if self._breaker.state in ADMITTING_STATES:
            self._admit(at_ms, call, flags)
        else:
            self._ask(at_ms, call, flags)

    def _started(self, at_ms: int, call: int, flags: int) -> None:
        """Its agent decided alone: such a call is never a probe."""
        self._look_if_due(at_ms)
        if self._breaker.state in ADMITTING_STATES:
            self._admit(at_ms, call, flags)
        elif call not in self._away:
            self._send_away(at_ms, call, flags)

    def _heard_then(self, at_ms: int, call: int, heard: Outcome, flags: int) -> None:
        if self._away.pop(call, None) is not None:
            self.counts.diverted_healthy += 1
        else:
            self._hear(at_ms, call, heard, has_shown_lease=bool(flags & _PROBE))

    def _failed_then(self, at_ms: int, call: int, failed: Outcome) -> None:
        if self._away.pop(call, None) is not None:
            self.counts.avoided += 1
        else:
            self._fail(at_ms, call, failed)

    # --- what it means here

    @property
    def _breaker(self) -> Breaker:
        return self.machine.fleet.breakers.get(self.provider) or _CLOSED

    def _look(self, at_ms: int) -> None:
        """Let time pass."""
        self.machine.snapshot([self.provider], now_ms=at_ms, request=self._request())
        self._take_events()

    def _look_if_due(self, at_ms: int) -> None:
        end_ms = until_ms(self._breaker, self.policy)
        if end_ms is not None and at_ms >= end_ms:
            self._look(at_ms)

    def _ask(self, at_ms: int, call: int, flags: int) -> None:
        is_last_resort = bool(flags & _LAST_RESORT)
        steps = ((self.provider, False),) + (() if is_last_resort else ((ELSEWHERE, False),))
        request = self._request()
        asked = Asked(_name(call), "", steps, may_probe=bool(flags & _MAY_PROBE))
        if known := self.machine.fleet.calls.get(asked.call_id):
            known.provider = ""  # it asks for this one: where it was before has failed it
        walk = self.machine.decide(asked, now_ms=at_ms, request=request)
        self._take_events()
        if walk.chosen:
            if call not in self._away:
                self._send_away(at_ms, call, flags)
            return
        if walk.lease:
            self._probes[call] = walk.lease, bool(flags & _PROBE)
        self._admit(at_ms, call, flags)

    def _admit(self, at_ms: int, call: int, flags: int) -> None:
        self._away.pop(call, None)  # it may have been elsewhere before
        if flags & _TAKEN:
            return  # what it met then is yet to come
        is_sick = self.fates.is_sick(at_ms)
        heapq.heappush(self._expected, (at_ms + (0 if is_sick else HEARD_AFTER_MS), call, is_sick))

    def _send_away(self, at_ms: int, call: int, flags: int) -> None:
        self.counts.diverted += 1
        if flags & _TAKEN:
            self._away[call] = at_ms
        elif self.fates.is_known(at_ms):
            if self.fates.is_sick(at_ms):
                self.counts.avoided += 1
            else:
                self.counts.diverted_healthy += 1

    def _meet_expected(self, at_ms: int) -> None:
        """Have the inferred outcomes happen that are due."""
        while self._expected and self._expected[0][0] <= at_ms:
            due_ms, call, is_sick = heapq.heappop(self._expected)
            if is_sick:
                failure, reporter = self.fates.failure(due_ms, call)
                self._fail(due_ms, call, self._failed(call, failure, 0, reporter))
            else:
                self._hear(due_ms, call, self._heard(call, 0, 0, NOBODY), has_shown_lease=True)

    def _hear(self, at_ms: int, call: int, heard: Outcome, *, has_shown_lease: bool) -> None:
        if self._samples:
            self._remember_heard((call,))
        lease, was_probe = self._probes.get(call, ("", False))
        if lease:
            is_shown = has_shown_lease or not was_probe
            self._record(at_ms, replace(heard, lease=lease) if is_shown else heard)
            return
        self._look_if_due(at_ms)
        breaker = self._breaker
        if breaker.state not in ADMITTING_STATES:
            return
        is_slow = self._samples and (heard.latency_ms or 0) > self.policy.slow_after_ms
        if is_slow:
            self._bad.append(at_ms)
        if breaker.trips or is_slow or self._may_trip(at_ms):
            self._record(at_ms, heard)
        elif self._samples:
            self._sample(at_ms, at_ms - heard.age_ms)

    def _sample(self, at_ms: int, happened_ms: int) -> None:
        """Count a quick transcript, as the machine does where it cannot trip."""
        since_ms = self._breaker.evidence_since_ms
        if happened_ms >= since_ms and happened_ms > at_ms - self.policy.rate_window_s * 1000:
            turn, policy = Turn(self.machine.fleet, at_ms, ""), self.policy
            add_sample(turn, self.provider, policy, happened_ms, calls=1, failures=0, slow=0)

    def _may_trip(self, at_ms: int) -> bool:
        """Whether a transcript could trip the breaker: enough bad calls lie in the window."""
        if self.has_orders:  # failures may have gathered while an order kept it closed
            return self._samples
        oldest_ms = at_ms - self._rate_span_ms
        while self._bad and self._bad[0] < oldest_ms:
            self._bad.popleft()
        return len(self._bad) >= self._least_bad

    def _fail(self, at_ms: int, call: int, failed: Outcome) -> None:
        if not self.policy.rule(failed.reason).is_neutral:
            self.counts.hurt += 1
        if self._samples:
            self._bad.append(at_ms)
            if call in self._heard_calls or call in self._heard_before:
                known = Call(touched_ms=at_ms, is_quiet=True)
                known = self.machine.fleet.calls.setdefault(failed.call_id, known)
                known.heard.add(self.provider)
        self._record(at_ms, failed)

    def _remember_heard(self, calls: Iterable[int]) -> None:
        """So that a call which fails later is not sampled twice."""
        if len(self._heard_calls) >= HEARD_MAX:
            self._heard_before, self._heard_calls = self._heard_calls, set()
        self._heard_calls.update(calls)

    def _record(self, at_ms: int, outcome: Outcome) -> None:
        self.machine.record(outcome, (), now_ms=at_ms, request=self._request())
        self._take_events()

    # --- outcomes, as the machine is told them

    def _heard(self, call: int, latency_ms: int, age_ms: int, by: Reporter) -> Outcome:
        kind = OutcomeKind.FIRST_TRANSCRIPT
        return self._outcome(call, kind, latency_ms=latency_ms, age_ms=age_ms, by=by)

    def _failed(self, call: int, failure: Failure, age_ms: int, by: Reporter) -> Outcome:
        return self._outcome(
            call, OutcomeKind(failure.kind), reason=failure.reason, age_ms=age_ms, by=by,
            retry_after_s=failure.retry_after_ms / 1000,
        )  # fmt: skip

    def _outcome(
        self, call: int, kind: OutcomeKind, *, by: Reporter = NOBODY, **seen: Any
    ) -> Outcome:
        return Outcome(
            f"{call:x}:{kind}", _name(call), self.provider, kind, host=by.host, key=by.key, **seen
        )

    # --- book-keeping

    def _request(self) -> str:
        self._requests += 1
        return f"{self._requests:08x}"

    def _take_events(self) -> None:
        events = self.machine.fleet.events
        if not events:
            return
        for event in events:
            self.told[told_by(event)] += 1
            if event.name == EventName.TRIPPED:
                self.counts.flaps += event.at_ms - self._recovered_ms < FLAP_MS
            elif event.name == EventName.RECOVERED:
                self._recovered_ms = event.at_ms
            if event.is_transition:
                self._probes.clear()  # no lease outlives its spell
                self.moves.append(event)
        events.clear()

    def _settle(self) -> None:
        breaker = self._breaker
        is_admitting = breaker.state in ADMITTING_STATES
        self.is_calm = is_admitting and not (self._expected or self._away)
        self.is_deaf = self.is_calm and not (self._samples or breaker.trips)
        self._is_sampling = (
            self.is_calm and self._samples and not breaker.trips and not self.has_orders
        )
        is_told = breaker.state == State.OPEN and breaker.diverted and not self._expected
        self._out_until_ms = (until_ms(breaker, self.policy) or 0) if is_told else 0


_CLOSED: Final = Breaker()  # what a breaker is of which nothing is stored; never written to


def _name(call: int) -> str:
    return f"{call:08x}"
