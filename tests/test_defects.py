"""What went wrong in the predecessor, each impossible here, on a real Redis.

The names are the rows of the defect table. Everything is told to the machine too: `Twins` compares
answers, state and events after each step. Defects of alerts (16, 17, 21) have their tests with
the alerts, those of the agents' side (18, 22) with the agents' client.
"""

import pytest
import redis

from fallback import decision
from fallback.breaker import Breakers
from fallback.domain import (
    Kind,
    LastResort,
    MidCallAction,
    Mode,
    Policy,
    Provider,
    Question,
    Route,
    State,
    Step,
    Verdict,
)
from fallback.errors import BreakerUnavailable
from tests.scenes import CHAIN, Story, asked, outcome
from tests.twins import Twins


@pytest.fixture
def story(redis_client: redis.Redis) -> Story:
    """The predecessor's own thresholds: 2 failures in 240 s, out for 1800 s, one probe."""
    return Story(Twins(redis_client))


def provider(slug: str, *, enabled: bool = True) -> Provider:
    return Provider(slug, Kind.STT, slug, enabled, (), {"endpointing": slug}, "", "default")


def route(*providers: Provider) -> Route:
    steps = tuple(Step(one, one.settings) for one in providers)
    last, swap = LastResort.PRIMARY, MidCallAction.SWAP
    return Route("breeze-buddy", "Breeze", Kind.STT, True, swap, last, steps)


def test_01_no_counter_lives_without_an_end(story: Story) -> None:
    story.fail("one")

    assert story.twins.endless_keys() == {"breakers", "policies", "events"}


def test_02_a_failed_script_has_no_second_path(redis_client: redis.Redis, redis_url: str) -> None:
    redis_client.acl_setuser(
        "noscripts", enabled=True, nopass=True, keys=["*"],
        commands=["-eval", "-evalsha"], categories=["+@all"],
    )  # fmt: skip
    pool = redis.ConnectionPool.from_url(redis_url, protocol=2, username="noscripts", password="x")
    breakers = Breakers(connect=lambda: redis.Redis(connection_pool=pool), namespace="twins")
    for call in (
        lambda: breakers.decide(Kind.STT, asked("one")),
        lambda: breakers.record(Kind.STT, [(outcome("one", "soniox", "init_failure"), CHAIN)]),
    ):
        with pytest.raises(BreakerUnavailable):
            call()

    assert redis_client.dbsize() == 0  # no other command wrote in the script's place


def test_03_fallback_ends_when_its_time_is_up_whatever_keys_do(story: Story) -> None:
    story.trip()
    key = story.twins.breakers.key("stt", "breakers")
    assert story.twins.client.ttl(key) == -1  # nothing expires, and it ends all the same
    story.wait(1800)

    assert story.state() == State.HALF_OPEN


@pytest.mark.parametrize("looked_every_s", [7, 61, 1799])
def test_04_the_open_time_is_measured_from_the_trip(story: Story, looked_every_s: int) -> None:
    story.trip()
    tripped_ms = story.twins.now_ms
    while story.state() == State.OPEN:
        story.wait(looked_every_s)

    probing = story.twins.machine.fleet.events[-1]
    assert (probing.name, probing.at_ms - tripped_ms) == ("probing", 1_800_000)


@pytest.mark.parametrize("recovery", ["probe", "timer"])
def test_05_a_recovery_always_has_its_event(redis_client: redis.Redis, recovery: str) -> None:
    story = Story(Twins(redis_client), recovery=recovery)
    story.trip()
    story.wait(5000)
    lease = story.decide("probe").lease
    story.hear("probe", lease=lease)

    assert story.names()[-1] == "recovered"
    assert story.state() == State.CLOSED


def test_06_ten_pods_failing_at_once_make_one_trip(story: Story) -> None:
    effects = [story.fail(f"call-{pod}", host=f"pod-{pod}") for pod in range(10)]

    assert effects.count("tripped") == 1
    assert story.names().count("tripped") == 1


def test_07_a_failed_probe_opens_again_at_the_retrip_threshold(redis_client: redis.Redis) -> None:
    story = Story(Twins(redis_client), retrip_threshold=2)
    story.trip()
    story.wait(1800)
    effects = []
    for call in ("p1", "p2"):
        lease = story.decide(call).lease
        effects.append((story.fail(call, lease=lease), story.state()))

    assert effects == [("probe_failed", "half_open"), ("probe_failed", "open")]


def test_08_a_caller_who_says_nothing_proves_nothing(story: Story) -> None:
    story.trip()
    story.wait(1800)
    story.decide("silent")

    assert story.end("silent") == "probe_released"
    assert story.state() == State.HALF_OPEN
    assert story.decide("next").lease  # the slot is free at once


def test_09_a_success_of_before_the_trip_closes_nothing(story: Story) -> None:
    story.decide("early")
    story.trip()
    story.wait(1800)
    story.decide("probe")

    assert story.hear("early") == "none"
    assert story.hear("early-too", lease="made-up") == "none"
    assert story.state() == State.HALF_OPEN


def test_10_a_failed_fallback_is_charged_to_the_fallback(story: Story) -> None:
    story.fail("one")
    story.fail("one", "deepgram")
    failures = {view.provider: view.failures for view in story.twins.snapshot(CHAIN).views}

    assert failures == {"soniox": 1, "deepgram": 1}
    assert story.state("soniox") == State.CLOSED


def test_11_every_key_carries_namespace_and_kind_as_one_tag(story: Story) -> None:
    story.trip()
    story.decide("one")
    keys = [key.decode() for key in story.twins.client.keys("*")]

    assert keys
    assert all(key.startswith("{twins:stt}:") for key in keys)


def test_12_the_configuration_is_live(story: Story) -> None:
    story.fail("one")
    story.twins.configure(2, dict.fromkeys(CHAIN, Policy(failure_threshold=1)))

    assert story.state() == State.OPEN  # what the window holds is judged by the new threshold


def test_13_any_chain_of_any_providers_is_protected(redis_client: redis.Redis) -> None:
    twins = Twins(redis_client)
    chain = ("sarvam", "google", "openai", "deepgram", "soniox")
    twins.configure(1, dict.fromkeys(chain, Policy(failure_threshold=1)))
    for name in chain[:-1]:
        twins.record(outcome(f"call-{name}", name, "init_failure"), chain)

    walk = twins.decide(asked("next", chain))
    assert [finding.verdict for finding in walk.findings] == ["open"] * 4 + ["admitted"]


def test_14_an_unusable_fallback_is_skipped_and_said(story: Story) -> None:
    chain = route(provider("soniox"), provider("sarvam", enabled=False), provider("deepgram"))
    question = Question(route="breeze-buddy", call_id="one")
    story.trip()
    walk = story.twins.decide(decision.ask(question, chain))
    made = decision.conclude(question, chain, walk)

    assert made.provider == "deepgram"
    assert [line.verdict for line in made.why] == ["open", "disabled", "admitted"]


def test_15_an_agent_is_sent_only_where_it_has_credentials() -> None:
    chain = route(provider("soniox"), provider("deepgram"))
    question = Question(route="breeze-buddy", call_id="one", can_use=("deepgram",))
    asked_of_breakers = decision.ask(question, chain)

    assert asked_of_breakers.steps == (("deepgram", False),)
    assert asked_of_breakers.excluded == (("soniox", Verdict.NOT_USABLE),)


def test_19_a_call_fails_a_provider_once(story: Story) -> None:
    effects = [
        story.fail("one", kind=kind) for kind in ("init_failure", "mid_call_failure", "stall")
    ]

    assert effects == ["counted", "none", "none"]
    assert story.state() == State.CLOSED


def test_20_half_open_ends_only_by_proof_probe_or_person(story: Story) -> None:
    story.trip()
    story.wait(1800)
    story.decide("lost")  # a probe that is never heard of again
    story.wait(30 * 24 * 3600)

    assert story.state() == State.HALF_OPEN
    assert story.decide("next").lease


def test_22_a_swap_brings_the_settings_of_the_next_provider(story: Story) -> None:
    chain = route(provider("soniox"), provider("deepgram"))
    question = Question(route="breeze-buddy", call_id="one")
    story.trip()
    made = decision.conclude(question, chain, story.twins.decide(decision.ask(question, chain)))

    assert [(step.provider.slug, step.settings) for step in made.order] == [
        ("deepgram", {"endpointing": "deepgram"}),
        ("soniox", {"endpointing": "soniox"}),
    ]


def test_a_diverted_call_is_not_moved_back(story: Story) -> None:
    story.trip()
    assert story.given("call") == "deepgram"
    story.order("reset")

    assert story.given("call") == "deepgram"
    assert story.given("another") == "soniox"


def test_the_walk_never_refuses_a_call(story: Story) -> None:
    for name in CHAIN:
        for call in ("first", "second"):
            story.fail(f"{call}-{name}", name)
    walk = story.decide("unlucky")

    assert (walk.given, walk.chosen) == (Mode.LAST_RESORT, 0)
    assert story.names().count("all_providers_down") == 1
