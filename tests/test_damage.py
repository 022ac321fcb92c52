"""Whatever stands in Redis, no call is refused, nothing raises, and health comes back."""

import json

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import HealthCheck, given, settings

from fallback.domain import Kind, Policy, State
from fallback.errors import BreakerUnavailable
from tests.scenes import CHAIN, asked, outcome
from tests.twins import KIND, START_MS, VIRTUAL_CLOCK, VirtualBreakers

OPEN_S = 2

json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(
        ("state", "since_ms", "trips", "leases", "override", "evidence", "incident", "sequence")
    ),
    json_values | st.sampled_from((*map(str, State), START_MS * 2, 1e308, -1e308)),
)
damage = st.one_of(
    st.just(
        b'open {"state": "open", "since_ms": 1e999, "trips": -1e999, "evidence": {"x": 1e999}}'
    ),
    st.just(b'half_open {"state": "half_open", "leases": {"t": {"call": "c", "at_ms": 1e999}}}'),
    st.binary(max_size=30),
    fields.map(lambda values: f"open {json.dumps(values)}".encode()),
    fields.map(lambda values: f"half_open {json.dumps(values)}".encode()),
    json_values.map(lambda value: f"closed {json.dumps(value)}".encode()),
)

calls = st.dictionaries(st.text(max_size=9), st.text(), max_size=4)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    soniox=damage, policy=damage, call=st.dictionaries(st.text(max_size=9), st.text(), max_size=4)
)
def test_from_any_contents_a_healthy_provider_is_closed_again(
    redis_client: redis.Redis, soniox: bytes, policy: bytes, call: dict[str, str]
) -> None:
    redis_client.flushdb()
    breakers = VirtualBreakers(connect=lambda: redis_client, namespace="d", clock=VIRTUAL_CLOCK)
    redis_client.hset(breakers.key(KIND, "breakers"), "soniox", soniox)
    redis_client.hset(breakers.key(KIND, "policies"), "soniox", policy)
    for name, value in call.items():
        redis_client.hset(
            breakers.key(KIND, "call:one"), name.encode("utf-8", "replace"),
            value.encode("utf-8", "replace"),
        )  # fmt: skip

    assert breakers.decide(KIND, asked("one")).findings
    quick = Policy(open_duration_s=OPEN_S, open_duration_max_s=OPEN_S, probe_lease_s=1)
    breakers.configure(KIND, 1, dict.fromkeys(CHAIN, quick))
    for turn in range(4):  # whatever stood there is over after one open time and one probe
        breakers.now_ms += 1000 * OPEN_S
        walk = breakers.decide(KIND, asked(f"call-{turn}"))
        heard = outcome(f"call-{turn}", "soniox", "first_transcript", lease=walk.lease)
        breakers.record(KIND, [(heard, ())])
    state = breakers.snapshot(KIND, ("soniox",)).views[0].breaker

    assert state.state == State.CLOSED or (state.override and state.override.until_ms != 0)


@pytest.mark.parametrize(
    "name", ["breakers", "policies", "call:one", "failures:soniox", "samples:soniox"]
)
def test_a_key_of_a_foreign_type_is_refused_whole(redis_client: redis.Redis, name: str) -> None:
    breakers = VirtualBreakers(connect=lambda: redis_client, namespace="d", clock=VIRTUAL_CLOCK)
    breakers.configure(KIND, 1, dict.fromkeys(CHAIN, Policy()))
    redis_client.delete(breakers.key(KIND, name))
    redis_client.set(breakers.key(KIND, name), "something else")
    before = {key: redis_client.dump(key) for key in redis_client.keys("*")}
    with pytest.raises(BreakerUnavailable):
        breakers.record(Kind.STT, [(outcome("one", "soniox", "init_failure"), CHAIN)])

    assert {key: redis_client.dump(key) for key in redis_client.keys("*")} == before
