"""The verbs: what an agent and an operator can do, and what happens while Redis is away."""

from dataclasses import replace

import pytest
import redis
from django.core.management import call_command

from fallback import breaker, catalog, services
from fallback.domain import (
    Effect,
    Kind,
    Mode,
    NextAction,
    Outcome,
    OutcomeKind,
    Question,
    Reason,
    State,
    Status,
)
from fallback.errors import BreakerUnavailable, Invalid, NotFound, NoUsableProvider
from fallback.models import ConfigRevision, Provider, Route
from tests.configuration import make_route

pytestmark = pytest.mark.django_db(transaction=True)
ASKED = Question(route="breeze-buddy", call_id="one")


@pytest.fixture(autouse=True)
def seeded() -> None:
    call_command("seed", verbosity=0)
    catalog.reload()
    services.publish_configuration()


def outcome(call: str = "one", provider: str = "soniox", **values: object) -> Outcome:
    fields = {
        "id": f"{call}:{provider}:{values.get('kind', 'init_failure')}", "call_id": call,
        "provider": provider, "kind": OutcomeKind.INIT_FAILURE, "reason": Reason.CONNECTION,
        "host": "pod-1", "route": "breeze-buddy",
    }  # fmt: skip
    return Outcome(**(fields | values))  # type: ignore[arg-type]


def trip() -> None:
    services.report_outcomes([outcome("first"), outcome("second")])


def break_redis(client: redis.Redis) -> None:
    """Damage the key that every script reads first."""
    key = breaker.key(Kind.STT, "breakers")
    client.delete(key)
    client.set(key, "not ours")


def test_an_unknown_route_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="breeze-buddy"):
        services.make_decision(replace(ASKED, route="breeze-budy"))


def test_a_healthy_decision_writes_nothing(redis_client: redis.Redis) -> None:
    before = {key: redis_client.dump(key) for key in redis_client.keys("*")}
    made = services.make_decision(ASKED)

    assert (made.provider, made.mode, made.degraded) == ("soniox", Mode.PRIMARY, False)
    assert {key: redis_client.dump(key) for key in redis_client.keys("*")} == before


def test_new_calls_go_to_the_fallback_at_once() -> None:
    trip()
    made = services.make_decision(ASKED)

    assert (made.provider, made.mode) == ("deepgram", Mode.FALLBACK)
    assert [step.provider.slug for step in made.order] == ["deepgram", "soniox"]


def test_a_failed_call_is_told_where_to_go() -> None:
    [result], version = services.report_outcomes([outcome()])

    assert (result.status, result.counted, result.effect) == ("accepted", True, Effect.COUNTED)
    assert result.next
    assert (result.next.action, result.next.provider) == ("swap", "deepgram")
    assert version > 0


def test_a_route_may_end_a_call_that_fails_in_the_middle() -> None:
    route = Route.objects.get(slug="breeze-buddy")
    route.on_mid_call_failure = "end"
    route.save()
    catalog.reload()
    [result], _ = services.report_outcomes([outcome(kind=OutcomeKind.MID_CALL_FAILURE)])

    assert result.next
    assert result.next.action == NextAction.END


def test_a_failure_without_a_route_swaps_on_the_only_route_of_its_provider() -> None:
    [result], _ = services.report_outcomes([outcome(route="")])

    assert result.next
    assert result.next.provider == "deepgram"


def test_the_bad_one_of_a_batch_is_named_and_the_others_count() -> None:
    results, _ = services.report_outcomes([outcome(), outcome("two", "soniocks")])

    assert [result.status for result in results] == [Status.ACCEPTED, Status.INVALID]
    assert "soniox" in results[1].detail


def test_the_same_outcome_again_is_a_duplicate() -> None:
    services.report_outcomes([outcome()])
    [result], _ = services.report_outcomes([outcome()])

    assert (result.status, result.counted) == (Status.DUPLICATE, False)


def test_a_new_redis_is_configured_by_the_first_outcome(redis_client: redis.Redis) -> None:
    redis_client.flushdb()
    [result], _ = services.report_outcomes([outcome()])

    assert result.counted


def test_decisions_go_on_from_the_last_known_state(redis_client: redis.Redis) -> None:
    trip()
    services.make_decision(ASKED)
    break_redis(redis_client)
    made = services.make_decision(replace(ASKED, call_id="two"))

    assert (made.provider, made.degraded) == ("deepgram", True)


def test_what_must_be_remembered_is_refused_without_redis(redis_client: redis.Redis) -> None:
    break_redis(redis_client)

    with pytest.raises(BreakerUnavailable):
        services.report_outcomes([outcome()])
    with pytest.raises(BreakerUnavailable):
        services.reset_breaker(Kind.STT, "soniox", reason="why", by="ana")


def test_a_route_changed_elsewhere_holds_for_the_next_decision() -> None:
    assert services.make_decision(ASKED).provider == "soniox"
    Route.objects.filter(slug="breeze-buddy").update(fallback_enabled=False)
    old = catalog.current()
    revision = old.revision + 1_000_000  # as another process tells the breakers, on its commit
    policies = {slug: policy for (_, slug), policy in old.policies.items()}
    breaker.configure(Kind.STT, revision, policies)
    ConfigRevision.objects.update(number=revision)

    assert services.make_decision(ASKED).mode == Mode.BYPASS


def test_a_disabled_step_is_skipped_and_told_once(redis_client: redis.Redis) -> None:
    make_route("half-off", "soniox", "deepgram")  # a process tells each route once in a while
    Provider.objects.filter(slug="soniox").update(enabled=False)
    catalog.reload()
    asked = [replace(ASKED, route="half-off", call_id=str(number)) for number in range(3)]
    made = [services.make_decision(question) for question in asked]
    events = redis_client.xrange(breaker.key(Kind.STT, "events"))

    assert {one.provider for one in made} == {"deepgram"}
    assert [fields[b"name"] for _, fields in events].count(b"misconfigured") == 1


def test_a_call_that_nobody_can_take_is_a_conflict_that_says_why() -> None:
    with pytest.raises(NoUsableProvider, match="deepgram: not_usable"):
        services.make_decision(replace(ASKED, can_use=("acme",)))


def test_an_order_moves_calls_at_once_and_ends_by_itself_when_cleared() -> None:
    order = {"reason": "red status page", "for_s": 60, "by": "ana"}
    view = services.set_override(Kind.STT, "soniox", state=State.FORCED_OPEN, **order)
    assert (view.breaker.state, services.make_decision(ASKED).provider) == (
        State.FORCED_OPEN,
        "deepgram",
    )
    view = services.clear_override(Kind.STT, "soniox", reason="green again", by="ana")

    assert view.breaker.state == State.HALF_OPEN


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"state": State.OPEN}, "state"),
        ({"for_s": 0}, "for_s"),
        ({"for_s": 10**9}, "for_s"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(values: dict[str, object], field: str) -> None:
    order = {"state": State.FORCED_OPEN, "reason": "why", "for_s": 60, "by": "ana"} | values
    with pytest.raises(Invalid) as refused:
        services.set_override(Kind.STT, "soniox", **order)  # type: ignore[arg-type]

    assert [problem.field for problem in refused.value.problems] == [field]


def test_a_call_is_explained_by_its_decisions_and_outcomes() -> None:
    trip()
    services.make_decision(ASKED)
    services.report_outcomes([outcome(provider="deepgram")])
    told = services.explain_call("one")

    assert [(entry["type"], entry["provider"]) for entry in told["entries"]] == [
        ("decision", "deepgram"),
        ("outcome", "deepgram"),
    ]
    assert told["entries"][0]["mode"] == "fallback"
    assert told["entries"][0]["verdicts"][0] == {"provider": "soniox", "verdict": "open"}


def test_an_uneventful_call_has_no_record() -> None:
    services.make_decision(ASKED)

    with pytest.raises(NotFound, match="uneventful"):
        services.explain_call("one")
