"""What trips a breaker, for how long, and what brings it back: each rule at its exact edge.

Told to the machine and to the scripts on a real Redis alike, and compared after each step.
"""

from collections.abc import Callable

import pytest
import redis

from fallback.domain import DEFAULT_WHAT_COUNTS, LIMITS, Policy, ReasonRule, State
from tests.scenes import CHAIN, Story, outcome
from tests.twins import Twins

Tell = Callable[..., Story]


@pytest.fixture
def tell(redis_client: redis.Redis) -> Tell:
    """Return what begins a story under a policy."""
    return lambda **policy: Story(Twins(redis_client), **policy)


def heard(story: Story, call: str, latency_ms: int = 100) -> str:
    seen = outcome(call, "soniox", "first_transcript", latency_ms=latency_ms)
    return story.twins.record(seen).effect


@pytest.mark.parametrize(("after_s", "effect"), [(9.999, "tripped"), (10, "counted")])
def test_the_count_window_slides_exactly(tell: Tell, after_s: float, effect: str) -> None:
    story = tell(failure_window_s=10)
    story.fail("one")
    story.wait(after_s)

    assert story.fail("two") == effect


def test_weights_add_up(tell: Tell) -> None:
    counts = {"timeout": ReasonRule(weight=3), "connection": ReasonRule(weight=2)}
    story = tell(failure_threshold=5, what_counts=counts)
    effects = [story.fail("one", reason="timeout"), story.fail("two", reason="connection")]

    assert effects == ["counted", "tripped"]


@pytest.mark.parametrize("reason", ["bad_request", "cancelled"])
def test_neutral_reasons_count_nothing(tell: Tell, reason: str) -> None:
    story = tell(failure_threshold=1)

    assert story.fail("one", reason=reason) == "none"


def test_failures_of_one_host_do_not_reach_a_quorum_of_two(tell: Tell) -> None:
    story = tell(distinct_hosts=2)
    effects = [story.fail(f"call-{number}", host="pod-7") for number in range(5)]

    assert set(effects) == {"counted"}
    assert story.fail("other", host="pod-8") == "tripped"


def test_one_pod_with_a_bad_key_takes_nobody_off_a_provider(tell: Tell) -> None:
    story = tell(distinct_hosts=2, failure_threshold=100)
    effects = [story.fail(f"call-{number}", reason="auth", host="pod-7") for number in range(5)]

    assert set(effects) == {"counted"}
    assert story.fail("other", reason="auth", host="pod-8") == "tripped"


@pytest.mark.parametrize("reason", ["auth", "quota"])
def test_auth_and_quota_trip_at_once_for_their_own_time(tell: Tell, reason: str) -> None:
    story = tell(failure_threshold=100)
    effect = story.fail("one", reason=reason)
    story.wait(299.999)
    before = story.state()
    story.wait(0.001)

    assert (effect, before, story.state()) == ("tripped", State.OPEN, State.HALF_OPEN)


def test_a_stall_of_one_call_says_nothing_and_of_two_says_both(tell: Tell) -> None:
    story = tell(failure_threshold=2, distinct_calls_for_stall=3)
    effects = [story.fail(f"c{n}", kind="stall", reason="stall") for n in range(3)]

    assert effects == ["counted", "counted", "tripped"]


def test_a_rate_trips_at_its_limit_and_not_below_the_minimum(tell: Tell) -> None:
    story = tell(failure_threshold=0, failure_rate_percent=50, minimum_calls=4)
    effects = [story.fail("f1"), story.fail("f2"), heard(story, "h1"), heard(story, "h2")]

    assert effects == ["counted", "counted", "none", "tripped"]


def test_a_rate_below_its_limit_trips_nothing(tell: Tell) -> None:
    story = tell(failure_threshold=0, failure_rate_percent=51, minimum_calls=4)
    effects = [story.fail("f1"), story.fail("f2"), heard(story, "h1"), heard(story, "h2")]

    assert effects[-1] == "none"


def test_a_call_that_was_heard_and_then_failed_is_one_call(tell: Tell) -> None:
    story = tell(failure_threshold=0, failure_rate_percent=100, minimum_calls=2)
    heard(story, "one")

    assert story.fail("one", kind="mid_call_failure") == "counted"


@pytest.mark.parametrize(("latency_ms", "effect"), [(3000, "none"), (3001, "tripped")])
def test_slow_calls_trip_at_their_share(tell: Tell, latency_ms: int, effect: str) -> None:
    story = tell(slow_rate_percent=50, minimum_calls=2)
    heard(story, "quick")

    assert heard(story, "slow", latency_ms) == effect


def test_slow_calls_leave_the_rate_window(tell: Tell) -> None:
    story = tell(slow_rate_percent=50, minimum_calls=2, rate_window_s=60)
    heard(story, "slow", 9000)
    story.wait(61)
    heard(story, "quick")

    assert heard(story, "quick-too") == "none"


def test_a_rate_limit_opens_for_as_long_as_the_provider_asked(tell: Tell) -> None:
    story = tell(failure_threshold=1)
    story.fail("one", reason="rate_limit", retry_after_s=42)
    story.wait(41.999)
    before = story.state()
    story.wait(0.001)

    assert (before, story.state()) == (State.OPEN, State.HALF_OPEN)


def test_the_open_time_grows_with_each_trip_in_a_row_up_to_its_cap(tell: Tell) -> None:
    story = tell(failure_threshold=1, open_duration_s=10, open_backoff=2.0, open_duration_max_s=35)
    lasted = []
    story.fail("first")
    for number in range(4):
        view = story.twins.snapshot(CHAIN).views[0]
        assert view.until_ms is not None
        lasted.append((view.until_ms - view.breaker.since_ms) // 1000)
        story.wait(lasted[-1])
        story.fail(f"p{number}", lease=story.decide(f"p{number}").lease)

    assert lasted == [10, 20, 35, 35]


def test_proof_makes_the_next_open_time_short_again(tell: Tell) -> None:
    story = tell(failure_threshold=1, open_duration_s=10, open_backoff=2.0)
    story.fail("first")
    story.wait(10)
    story.fail("p1", lease=story.decide("p1").lease)
    story.wait(20)
    story.hear("p2", lease=story.decide("p2").lease)

    assert story.twins.snapshot(CHAIN).views[0].breaker.trips == 0


def test_failures_while_open_do_not_make_it_longer(tell: Tell) -> None:
    story = tell(open_duration_s=100)
    story.trip()
    story.wait(99)
    effects = {story.fail(f"late-{number}") for number in range(20)}
    story.wait(1)

    assert effects == {"none"}
    assert story.state() == State.HALF_OPEN


def test_a_lost_probe_gives_its_slot_back_when_its_lease_ends(tell: Tell) -> None:
    story = tell(probe_lease_s=20)
    story.trip()
    story.wait(1800)
    first = story.decide("lost").lease
    story.wait(19.999)
    busy = story.decide("waiting").lease
    story.wait(0.001)

    assert (bool(first), busy, bool(story.decide("next").lease)) == (True, "", True)


def test_a_success_with_a_lease_that_ended_proves_nothing(tell: Tell) -> None:
    story = tell(probe_lease_s=20)
    story.trip()
    story.wait(1800)
    lease = story.decide("slow").lease
    story.wait(20)

    assert story.hear("slow", lease=lease) == "none"


def test_as_many_probes_must_succeed_as_asked(tell: Tell) -> None:
    story = tell(probe_successes=2)
    story.trip()
    story.wait(1800)
    effects = [story.hear(call, lease=story.decide(call).lease) for call in ("p1", "p2")]

    assert effects == ["probe_succeeded", "recovered"]


def test_a_call_that_asks_again_holds_the_same_lease(tell: Tell) -> None:
    story = tell()
    story.trip()
    story.wait(1800)

    assert story.decide("probe").lease == story.decide("probe").lease != ""


def test_shadow_says_what_it_would_have_done_and_diverts_nobody(tell: Tell) -> None:
    story = tell(shadow=True)
    effects = [story.fail("one"), story.fail("two"), story.fail("three")]

    assert effects == ["counted", "would_trip", "counted"]
    assert story.given("next") == "soniox"


def test_timer_recovery_needs_no_probe(tell: Tell) -> None:
    story = tell(recovery="timer", open_duration_s=30)
    story.trip()
    story.wait(30)

    assert story.state() == State.CLOSED
    assert not story.decide("next").lease


def test_an_override_ends_at_its_end(tell: Tell) -> None:
    story = tell()
    story.order("override", State.FORCED_OPEN, for_s=60)
    story.wait(59.999)
    before = story.given("during")
    story.wait(0.001)

    assert (before, story.state()) == ("deepgram", State.HALF_OPEN)
    assert story.names()[-1] == "override_cleared"


def test_forced_closed_counts_and_does_not_trip(tell: Tell) -> None:
    story = tell()
    story.order("override", State.FORCED_CLOSED)
    effects = [story.fail(f"call-{number}") for number in range(3)]

    assert effects == ["counted"] * 3
    story.order("clear")
    assert story.fail("after") == "tripped"  # what was seen meanwhile still counts


def test_an_old_report_of_before_the_recovery_counts_nothing(tell: Tell) -> None:
    story = tell(failure_threshold=1, open_duration_s=10)
    story.fail("one")
    story.wait(10)
    story.hear("p", lease=story.decide("p").lease)
    story.wait(5)

    assert story.fail("late", age_ms=5001) == "none"
    assert story.fail("fresh", age_ms=4999) == "tripped"


def test_the_seventh_tenth_and_hundredth_failure_are_told_sparingly(tell: Tell) -> None:
    story = tell(failure_threshold=2, distinct_hosts=9)
    for number in range(100):
        story.fail(f"call-{number}", host="pod-1")
        story.wait(0.1)

    assert 10 <= story.names().count("provider_failure") <= 14


def test_the_defaults_are_those_of_the_contract() -> None:
    policy = Policy()

    assert (policy.failure_threshold, policy.failure_window_s, policy.open_duration_s) == (
        2, 240, 1800,
    )  # fmt: skip
    assert {reason for reason, rule in DEFAULT_WHAT_COUNTS.items() if rule.trips_at_once} == {
        "auth", "quota",
    }  # fmt: skip


# --- whose failures: S2


def test_s2_one_key_alone_does_not_reach_a_quorum_of_two_keys(tell: Tell) -> None:
    story = tell(distinct_keys=2)
    effects = [story.fail(f"call-{number}", key="eu") for number in range(5)]

    assert set(effects) == {"counted"}
    assert story.fail("other", key="us") == "tripped"


@pytest.mark.parametrize("reason", ["auth", "quota"])
def test_s2_one_key_alone_trips_nothing_at_once_either(tell: Tell, reason: str) -> None:
    story = tell(distinct_keys=2, failure_threshold=100)
    effects = [story.fail(f"call-{number}", reason=reason, key="eu") for number in range(5)]

    assert set(effects) == {"counted"}
    assert story.fail("other", reason=reason, key="us") == "tripped"


@pytest.mark.parametrize(
    "policy",
    [
        {"failure_rate_percent": 50, "minimum_calls": 3, "failure_threshold": 0},
        {"slow_rate_percent": 50, "minimum_calls": 3, "failure_threshold": 0},
    ],
    ids=["failed", "slow"],
)
def test_s2_one_key_alone_trips_no_rate(tell: Tell, policy: dict[str, object]) -> None:
    story = tell(distinct_keys=2, **policy)

    def see(call: str, key: str) -> str:
        if "failure_rate_percent" in policy:
            return story.fail(call, key=key)
        slow = outcome(call, "soniox", "first_transcript", latency_ms=9000, key=key)
        return story.twins.record(slow).effect

    effects = {see(f"call-{number}", "eu") for number in range(6)}

    assert effects <= {"counted", "none"}
    assert see("other", "us") == "tripped"


def test_s2_a_deployment_with_one_key_trips_as_ever_and_says_whose_it_was(tell: Tell) -> None:
    story = tell()
    story.fail("one", key="eu")
    recorded = story.twins.record(
        outcome("two", "soniox", "init_failure", key="eu", reason="timeout"), CHAIN
    )
    tripped = story.twins.machine.fleet.events[-1]

    assert (recorded.effect, recorded.keys) == ("tripped", {"eu": 2})
    assert (tripped.evidence["key"], tripped.evidence["keys"]) == ("eu", {"eu": 2})


def test_s2_what_a_missing_quorum_of_keys_holds_back_is_told(tell: Tell) -> None:
    story = tell(distinct_keys=2)
    for number in range(4):
        story.wait(2)  # a storm is told sparingly
        story.fail(f"call-{number}", key="eu")
    told = story.twins.machine.fleet.events[-1]
    view = story.twins.snapshot(CHAIN).views[0]

    assert (told.name, told.evidence["distinct_keys"]) == ("provider_failure", 2)
    assert (view.failures, view.keys) == (4, {"eu": 4})


def test_s2_only_the_busiest_keys_are_named_in_evidence(tell: Tell) -> None:
    story = tell(failure_threshold=100)
    for number in range(25):
        story.fail(f"call-{number}", key=f"key-{number:02}")
    story.fail("again", key="key-24")
    keys = story.twins.snapshot(CHAIN).views[0].keys

    assert (len(keys), keys["key-24"], "key-23" in keys) == (LIMITS["keys_told"], 2, False)


@pytest.mark.parametrize(("wanted", "effect"), [(1, "tripped"), (2, "counted")])
def test_s2_failures_of_before_keys_were_remembered_are_nobodys(
    tell: Tell, redis_client: redis.Redis, wanted: int, effect: str
) -> None:
    """An upgrade in the middle of a window: they count, and are no key beside the one told."""
    story = tell(distinct_keys=wanted)
    key = story.twins.breakers.key("stt", "failures:soniox")
    redis_client.zadd(key, {"connection\x1fpod-1\x1fbefore": story.twins.now_ms})
    before = ("connection", "pod-1", "before", "")
    story.twins.machine.fleet.failures["soniox"] = {before: story.twins.now_ms}

    assert story.fail("after", key="eu") == effect
    if wanted == 2:
        assert story.fail("other", key="us") == "tripped"


@pytest.mark.parametrize("reason", ["auth", "quota", "connection"])
def test_s2_a_time_to_come_back_is_taken_from_a_rate_limit_alone(tell: Tell, reason: str) -> None:
    story = tell(failure_threshold=1, open_duration_s=60)
    story.fail("one", reason=reason, retry_after_s=86_400)
    [view, _] = story.twins.snapshot(CHAIN).views

    assert view.until_ms - story.twins.now_ms == (60_000 if reason == "connection" else 300_000)


def test_s2_a_time_to_come_back_is_obeyed_for_300_s_at_most(tell: Tell) -> None:
    story = tell(failure_threshold=1)
    story.fail("one", reason="rate_limit", retry_after_s=86_400)
    [view, _] = story.twins.snapshot(CHAIN).views

    assert view.until_ms - story.twins.now_ms == LIMITS["retry_after_ms"] == 300_000


def test_s2_a_failed_probe_keeps_it_out_no_longer_either(tell: Tell) -> None:
    story = tell(failure_threshold=1, open_duration_s=60)
    story.fail("one")
    story.wait(60)
    story.decide("probe")
    story.fail("probe", reason="auth", retry_after_s=86_400, key="eu")
    [view, _] = story.twins.snapshot(CHAIN).views

    assert view.breaker.state == State.OPEN
    assert view.until_ms - story.twins.now_ms == 300_000
