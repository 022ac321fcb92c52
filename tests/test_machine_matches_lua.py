"""The Lua and the machine mean the same, whatever happens to them in whatever order."""

import os

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallback.domain import (
    Asked,
    Kind,
    LastResort,
    Memory,
    Order,
    Outcome,
    OutcomeKind,
    Override,
    Policy,
    Reason,
    ReasonRule,
    Recovery,
    State,
    Verdict,
)
from tests.twins import Twins

PROVIDERS = ("soniox", "deepgram", "sarvam")
CALLS = tuple(f"call-{number}" for number in range(6))
HOSTS = ("pod-1", "pod-2", "")
KEYS = ("eu", "us", "")  # API keys; the last as of before keys were remembered
FAILURES = (OutcomeKind.INIT_FAILURE, OutcomeKind.MID_CALL_FAILURE, OutcomeKind.STALL)

rules = st.builds(
    ReasonRule,
    weight=st.integers(0, 3),
    trips_at_once=st.booleans(),
    open_duration_s=st.none() | st.integers(1, 50),
)
policies = st.builds(
    Policy,
    failure_threshold=st.integers(0, 4),
    failure_window_s=st.sampled_from((1, 10, 60, 240)),
    failure_rate_percent=st.sampled_from((0, 0, 1, 50, 100)),
    minimum_calls=st.integers(1, 4),
    rate_window_s=st.sampled_from((1, 7, 60, 300)),
    slow_rate_percent=st.sampled_from((0, 0, 30, 100)),
    slow_after_ms=st.sampled_from((1, 500)),
    distinct_hosts=st.integers(1, 2),
    distinct_keys=st.integers(1, 2),
    distinct_calls_for_stall=st.integers(1, 3),
    open_duration_s=st.sampled_from((1, 5, 30)),
    open_backoff=st.sampled_from((1.0, 1.5, 2.0, 1.1)),
    open_duration_max_s=st.sampled_from((30, 100)),
    recovery=st.sampled_from((Recovery.PROBE, Recovery.PROBE, Recovery.TIMER)),
    probe_slots=st.integers(1, 2),
    probe_lease_s=st.sampled_from((1, 20)),
    probe_successes=st.integers(1, 2),
    retrip_threshold=st.integers(1, 2),
    shadow=st.sampled_from((False, False, False, True)),
    what_counts=st.dictionaries(st.sampled_from(list(Reason)), rules, max_size=5),
)
chains = st.lists(st.sampled_from(PROVIDERS), min_size=1, max_size=3, unique=True)


class Equivalence(RuleBasedStateMachine):
    """Random policies, calls, outcomes, orders and times."""

    client: redis.Redis

    @initialize(first=st.dictionaries(st.sampled_from(PROVIDERS), policies))
    def begin(self, first: dict[str, Policy]) -> None:
        self.client.config_set("maxmemory", "0")
        self.client.flushdb()
        self.twins = Twins(self.client)
        self.revision = 1
        self.leases: list[tuple[str, str, str]] = []  # provider, call, token
        self.ids = 0
        self.twins.configure(1, {name: Policy() for name in PROVIDERS} | first)

    @rule(policy=policies, name=st.sampled_from(PROVIDERS), step=st.integers(-1, 2))
    def configure(self, policy: Policy, name: str, step: int) -> None:
        held = dict(self.twins.machine.fleet.policies)
        self.twins.configure(self.revision + step, held | {name: policy})
        self.revision = max(self.revision, self.revision + step)

    @rule(gone=st.sampled_from(PROVIDERS))
    def remove_and_put_back(self, gone: str) -> None:
        held = dict(self.twins.machine.fleet.policies)
        self.revision += 2
        self.twins.configure(self.revision - 1, {name: held[name] for name in held if name != gone})
        self.twins.configure(self.revision, held | {gone: Policy()})

    @rule(
        by_ms=st.sampled_from((1, 20, 999, 1000, 1001, 4999, 5000, 30_000, 60_000, 240_000))
        | st.integers(0, 90_000)
    )
    def wait(self, by_ms: int) -> None:
        self.twins.now_ms += by_ms

    @rule(data=st.data(), off_ms=st.sampled_from((-1, 0, 1)))
    def wait_for_a_deadline(self, data: st.DataObject, off_ms: int) -> None:
        """Exactly when something ends, or one millisecond beside it."""
        fleet = self.twins.machine.fleet
        times = [self.twins.now_ms]
        for name, breaker in fleet.breakers.items():
            policy = fleet.policies[name]
            starts = [breaker.since_ms, *(lease.at_ms for lease in breaker.leases.values())]
            times += [at + policy.open_duration_s * 1000 for at in starts]
            times += [at + policy.probe_lease_s * 1000 for at in starts]
            times += [
                at + policy.failure_window_s * 1000 for at in fleet.failures.get(name, {}).values()
            ]
            if breaker.override and breaker.override.until_ms:
                times.append(breaker.override.until_ms)
        due = [at for at in times if at >= self.twins.now_ms]
        self.twins.now_ms = max(self.twins.now_ms, data.draw(st.sampled_from(due)) + off_ms)

    @rule(by_ms=st.sampled_from((1500, 2000, 2001, 3_600_000)))
    def step_the_clock_back(self, by_ms: int) -> None:
        self.twins.now_ms -= by_ms

    @rule(by_ms=st.sampled_from((15 * 60_000, 24 * 3_600_000, 26 * 3_600_000)))
    def wait_until_calls_are_forgotten(self, by_ms: int) -> None:
        self.twins.now_ms += by_ms

    @rule(
        call=st.sampled_from(CALLS),
        chain=chains,
        failed=st.sets(st.sampled_from(PROVIDERS), max_size=1),
        may_probe=st.booleans(),
        last_resort=st.sampled_from(LastResort),
        bypass=st.sampled_from((False, False, False, True)),
        keep=st.booleans(),
        memory=st.sampled_from((*Memory, Memory.FULL, Memory.FULL)),
    )
    def decide(
        self,
        call: str,
        chain: list[str],
        failed: set[str],
        may_probe: bool,
        last_resort: LastResort,
        bypass: bool,
        keep: bool,
        memory: Memory,
    ) -> None:
        excluded = (("google", Verdict.DISABLED),) if keep else ()
        steps = tuple((name, name in failed) for name in chain)
        asked = Asked(
            call_id=call, route="main", steps=steps, excluded=excluded, may_probe=may_probe,
            last_resort=last_resort, bypass=bypass, keep=keep, host="pod-1", memory=memory,
        )  # fmt: skip
        walk = self.twins.decide(asked)
        if walk.lease:
            self.leases.append((walk.findings[walk.chosen].provider, call, walk.lease))

    @rule(
        call=st.sampled_from(CALLS),
        provider=st.sampled_from(PROVIDERS),
        kind=st.sampled_from(OutcomeKind),
        reason=st.sampled_from(Reason),
        host=st.sampled_from(HOSTS),
        key=st.sampled_from(KEYS),
        age_ms=st.sampled_from((0, 0, 0, 1, 999, 5000, 10_000, 7_200_000)),
        latency_ms=st.sampled_from((None, 1, 400, 9000)),
        retry_after_s=st.sampled_from((None, None, 0.5, 7, 1e6)),
        chain=chains,
        is_resent=st.booleans(),
        mode=st.sampled_from(("", "primary", "fallback")),
        memory=st.sampled_from((*Memory, Memory.FULL, Memory.FULL)),
    )
    def record(
        self,
        call: str,
        provider: str,
        kind: OutcomeKind,
        reason: Reason,
        host: str,
        key: str,
        age_ms: int,
        latency_ms: int | None,
        retry_after_s: float | None,
        chain: list[str],
        is_resent: bool,
        mode: str,
        memory: Memory,
    ) -> None:
        self.ids += 1
        outcome = Outcome(
            id=f"{call}:{provider}:{kind}" if is_resent else f"id-{self.ids}", call_id=call,
            provider=provider, kind=kind, reason=reason, host=host, key=key, age_ms=age_ms,
            latency_ms=latency_ms, retry_after_s=retry_after_s, message="{oops} <!channel>",
            mode=mode, route="main", memory=memory,
        )  # fmt: skip
        self.twins.record(outcome, chain if kind in FAILURES else ())

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        kind=st.sampled_from(
            (
                OutcomeKind.FIRST_TRANSCRIPT,
                OutcomeKind.FIRST_TRANSCRIPT,
                *FAILURES,
                OutcomeKind.CALL_END,
            )
        ),
        reason=st.sampled_from(Reason),
    )
    def answer_a_probe(self, data: st.DataObject, kind: OutcomeKind, reason: Reason) -> None:
        provider, call, token = data.draw(st.sampled_from(self.leases[-4:]))
        self.ids += 1
        outcome = Outcome(
            id=f"id-{self.ids}", call_id=call, provider=provider, kind=kind, reason=reason,
            lease=token, host="pod-1", latency_ms=200,
        )  # fmt: skip
        self.twins.record(outcome, PROVIDERS if kind in FAILURES else ())

    @rule(
        name=st.sampled_from(PROVIDERS),
        action=st.sampled_from(("override", "override", "clear", "reset")),
        state=st.sampled_from((State.FORCED_OPEN, State.FORCED_CLOSED, State.SHADOW)),
        for_ms=st.sampled_from((0, 1, 10_000, 60_000)),
    )
    def order(self, name: str, action: str, state: State, for_ms: int) -> None:
        self.twins.order(Order(action, name, "ana", "because", state, for_ms))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release_what_nobody_heard(self, data: st.DataObject) -> None:
        _, _, token = data.draw(st.sampled_from(self.leases[-4:]))
        self.twins.release(token, PROVIDERS)

    @rule()
    def snapshot(self) -> None:
        self.twins.snapshot(PROVIDERS)

    @rule(is_full=st.booleans())
    def fill_redis(self, is_full: bool) -> None:
        """Full: not a byte more, for those who ask."""
        self.client.config_set("maxmemory", "1" if is_full else "0")
        self.twins.machine.fleet.has_room = not is_full

    @rule()
    def lose_all_data(self) -> None:
        fleet = self.twins.machine.fleet
        standing = {
            name: Override(State.FORCED_OPEN, "ana", "still out", self.twins.now_ms - 5)
            for name in list(fleet.policies)[:1]
        }
        held = fleet.policies
        self.client.flushdb()
        self.twins.machine.fleet = type(fleet)(kind=Kind.STT, has_room=fleet.has_room)
        self.revision += 1
        self.leases.clear()
        self.twins.configure(self.revision, held, standing, is_known=True)

    @invariant()
    def every_key_has_a_bound(self) -> None:
        if hasattr(self, "twins"):
            assert self.twins.endless_keys() <= {"breakers", "policies", "events"}

    @invariant()
    def leases_never_outnumber_slots(self) -> None:
        fleet = self.twins.machine.fleet if hasattr(self, "twins") else None
        for name, breaker in fleet.breakers.items() if fleet else ():
            assert not breaker.leases or breaker.state == State.HALF_OPEN
            assert len(breaker.leases) <= 2 or name not in fleet.policies


@pytest.mark.timeout(1800)  # a failure takes long to shrink
def test_the_script_and_the_machine_agree_after_every_step(redis_client: redis.Redis) -> None:
    class WithRedis(Equivalence):
        client = redis_client

    thorough = bool(os.environ.get("TEST_THOROUGH"))  # about five minutes
    WithRedis.TestCase.settings = settings(
        max_examples=1500 if thorough else 120,
        stateful_step_count=60 if thorough else 40,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        WithRedis.TestCase("runTest").runTest()
    finally:
        redis_client.config_set("maxmemory", "0")
