"""A route or a provider that agents name and nobody configured is said once, loudly, and shown."""

import json
import re
from contextlib import contextmanager
from unittest import mock

import pytest
from django.db import OperationalError
from django.test import Client
from prometheus_client import REGISTRY

from fallback import breaker, catalog, services, status
from fallback.domain import LIMITS, Kind, Named
from fallback.models import ConfigRevision, Provider, Route
from fallback.services import unknown
from tests.configuration import make_provider, make_route
from tests.rest import Api, api, make_key, outcome
from tests.serving import heard, listen, serving

pytestmark = pytest.mark.django_db(transaction=True)

SETTLED_WITHIN_S = 5.0
NEW = "soniox2"


@pytest.fixture
def agent() -> Api:
    """Configure breeze-buddy over soniox and deepgram; return an agent's client."""
    make_route()
    return api(name="my-agents")


def settled() -> None:
    """Return once all that was named in vain is looked into."""
    unknown._namings.join(SETTLED_WITHIN_S)


def told(client, kind: Kind = Kind.STT) -> list[tuple[str, str]]:
    """Return what was announced as misconfigured: subjects with their details."""
    events = [fields for _, fields in client.xrange(breaker.key(kind, "events"))]
    return [
        (fields[b"reason"].decode(), json.loads(fields[b"evidence"])["detail"])
        for fields in events
        if fields[b"name"] == b"misconfigured"
    ]


def shown() -> list[str]:
    """Return the unknown names that GET status shows."""
    settled()
    return [one["name"] for one in status.build()["unknown_names"]]


@contextmanager
def by_another_process():
    """Change the configuration in the block, and let this process not hear of it."""
    with mock.patch("fallback.changes.watching.announce"):
        yield
    ConfigRevision.bump()


# --- what is said, and where


def test_a_provider_that_is_not_configured_is_told_and_shown(agent, redis_client):
    agent.decide(can_use=["deepgram", NEW], host="pod-7")
    settled()

    [(subject, detail)] = told(redis_client)
    assert subject == 'agents name the provider "soniox2"'
    assert detail == (
        "named by pod-7 on the route breeze-buddy with the key my-agents: no provider has this"
        " slug: calls with it run unprotected; add it, or correct can_use in the agents"
    )
    [row] = agent.get("/api/v1/status").json()["unknown_names"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", row.pop("last_seen"))
    assert row == {
        "what": "provider", "name": NEW, "route": "breeze-buddy", "host": "pod-7",
        "by": "api:my-agents",
    }  # fmt: skip


def test_a_provider_that_is_said_to_have_failed_is_one_too(agent):
    agent.decide(failed=[NEW])

    assert shown() == [NEW]


def test_an_agent_that_can_use_nothing_else_is_refused_and_told(agent, redis_client):
    answer = agent.decide(can_use=[NEW])
    settled()

    assert answer.status_code == 409
    assert 'agents name the provider "soniox2"' in dict(told(redis_client))


def test_a_route_that_does_not_exist_is_told_and_shown(agent, redis_client):
    answer = agent.decide(route="breze", host="pod-7")
    settled()

    assert answer.status_code == 404
    [(subject, detail)] = told(redis_client)
    assert subject == 'agents name the route "breze"'
    assert detail.startswith("named by pod-7 with the key my-agents: there is no such route")
    assert shown() == ["breze"]


def test_an_outcome_of_an_unknown_provider_is_refused_and_told(agent, redis_client):
    answer = agent.report(outcome(provider=NEW, host="pod-7"), outcome(call_id="CA2"))
    settled()

    assert [row["status"] for row in answer.json()["results"]] == ["invalid", "accepted"]
    assert [subject for subject, _ in told(redis_client)] == ['agents name the provider "soniox2"']


def test_an_outcome_on_an_unknown_route_counts_and_is_told(agent, redis_client):
    answer = agent.report(outcome(route="breze", reason="connection"))
    settled()

    assert answer.json()["results"][0]["counted"]
    assert [subject for subject, _ in told(redis_client)] == ['agents name the route "breze"']


def test_a_name_on_a_route_of_another_kind_is_told_among_that_kind_s_events(redis_client):
    make_route("voices", make_provider("elevenlabs", kind="tts"), kind="tts")
    api().decide(route="voices", can_use=["elevenlabs", "elevenlab"])

    assert shown() == ["elevenlab"]
    assert told(redis_client) == []
    assert len(told(redis_client, Kind.TTS)) == 1


def test_the_dashboard_says_it(agent, admin_client):
    agent.decide(can_use=["deepgram", NEW], host="pod-7")
    agent.decide(route="breze")
    settled()
    page = admin_client.get("/").content.decode()
    [said] = re.findall(r'<p id="unknown-names" role="status">(.*?)</p>', page)

    assert said == (
        "Agents name providers that are not configured: soniox2 (from pod-7)."
        " Agents name routes that are not configured: breze. Calls with them run unprotected."
    )


def test_the_admin_opens_on_it(agent, admin_client):
    agent.decide(can_use=["deepgram", NEW], host="pod-7")
    settled()

    assert "not configured: soniox2 (from pod-7)" in admin_client.get("/admin/").content.decode()


def test_the_dashboard_says_nothing_where_all_names_are_known(agent, admin_client):
    agent.decide()

    assert '<p id="unknown-names" role="status" hidden></p>' in (
        admin_client.get("/").content.decode()
    )


def test_a_name_brings_no_markup(agent, admin_client):
    agent.decide(can_use=["deepgram", "<script>x"], host="<b>\u202eh")
    settled()
    page = admin_client.get("/").content.decode()

    assert "configured: &lt;script&gt;x (from &lt;b&gt;h)" in page
    assert "<script>x" not in re.sub(r'<script id="held".*?</script>', "", page, flags=re.S)


def test_a_name_that_is_no_text_is_said_all_the_same(agent):
    agent.decide(can_use=["deepgram", "\u202e"])

    assert shown() == ["(unreadable)"]


async def test_the_feed_tells_it(redis_client):
    def prepare() -> str:
        make_route()
        made = make_key("agent")
        catalog.reload()
        services.publish_configuration()
        return made

    def name_it() -> None:
        Api(key).decide(can_use=["deepgram", NEW])

    from asgiref.sync import sync_to_async  # beside the only use

    key = await sync_to_async(prepare)()
    async with serving() as address, listen(address, key) as feed:
        first = await heard(feed, "snapshot")
        await sync_to_async(name_it)()
        change = await heard(feed, "change")

    assert first["unknown_names"] == []
    assert [one["name"] for one in change["unknown_names"]] == [NEW]
    assert change["version"] > first["version"]


# --- who is innocent


def test_what_is_configured_is_not_unknown_whatever_else_it_is(agent, redis_client):
    Provider.objects.filter(slug="deepgram").update(enabled=False)
    make_provider("sarvam")
    make_provider("elevenlabs", kind="tts")
    catalog.reload()
    answer = agent.decide(can_use=["soniox", "deepgram", "sarvam", "elevenlabs"])
    agent.report(outcome(provider="sarvam"))

    assert answer.status_code == 200
    assert shown() == []
    assert unknown._namings._noted == {}
    assert not redis_client.exists(breaker.key(Kind.STT, "unknown"))


def test_a_decision_that_names_nothing_unknown_costs_one_turn_as_ever(agent, redis_client):
    agent.decide(call_id="CA0")
    redis_client.config_resetstat()
    agent.decide(can_use=["soniox", "deepgram"], failed=["deepgram"], host="pod-7")

    assert redis_client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    assert unknown._namings._worker is None
    assert unknown._namings._noted == {}


def test_a_provider_made_elsewhere_a_moment_ago_is_known(agent, redis_client):
    with by_another_process():
        make_provider(NEW)
    agent.decide(can_use=["deepgram", NEW])
    settled()

    assert told(redis_client) == []
    assert shown() == []


def test_an_outcome_of_a_provider_made_elsewhere_a_moment_ago_counts(agent, redis_client):
    with by_another_process():
        make_route("new-route", NEW)
    bad = outcome(provider="nobody", call_id="CA2")
    answer = agent.report(outcome(provider=NEW, route="new-route", reason="connection"), bad)
    settled()

    assert [row["status"] for row in answer.json()["results"]] == ["accepted", "invalid"]
    assert shown() == ["nobody"]


def test_nothing_is_said_of_a_configuration_that_cannot_be_read(agent, redis_client, monkeypatch):
    def away(held):
        raise OperationalError("no route to host")

    with monkeypatch.context() as broken:
        broken.setattr(catalog._cache, "_load", away)
        agent.decide(can_use=["deepgram", NEW])
        settled()
        before = told(redis_client)
    agent.decide(can_use=["deepgram", NEW])
    settled()

    assert before == []
    assert len(told(redis_client)) == 1


def test_redis_away_costs_a_decision_nothing_and_it_is_said_later(agent, redis_client, monkeypatch):
    agent.decide()
    with monkeypatch.context() as away:
        away.setattr(breaker.shared.link, "_misses", 3)
        away.setattr(breaker.shared.link, "_look_again_at", float("inf"))
        answer = agent.decide(can_use=["deepgram", NEW])
        settled()
    agent.decide(can_use=["deepgram", NEW])
    settled()

    assert answer.json()["degraded"]
    assert len(told(redis_client)) == 1


# --- once, and bounded


def another_process() -> None:
    """Forget what this process has looked into, as another one would not know it."""
    settled()
    unknown._namings = unknown.Namings()


def test_s11_names_of_one_key_leave_room_for_others(agent, redis_client):
    other = api("agent", name="others")
    for number in range(30):
        agent.decide(call_id=f"CA{number}", can_use=["deepgram", f"made-up-{number}"])
    settled()
    other.decide(call_id="CA99", can_use=["deepgram", NEW])
    settled()

    assert NEW in shown()
    assert len(shown()) == LIMITS["unknown_by_one"] + 1


def test_it_is_told_once_for_all_processes_and_calls(agent, redis_client):
    for number in range(3):
        agent.decide(call_id=f"CA{number}", can_use=["deepgram", NEW], host=f"pod-{number}")
        another_process()

    assert len(told(redis_client)) == 1
    assert shown() == [NEW]


def test_names_without_end_are_bounded_and_the_rest_is_told_once(agent, redis_client):
    others = [api("agent", name=f"others-{number}") for number in range(2)]
    for number in range(60):
        one = [agent, *others][number % 3]
        one.decide(call_id=f"CA{number}", can_use=["deepgram", f"made-up-{number}"])
        if number % 7 == 6:
            another_process()
    settled()
    subjects = [subject for subject, _ in told(redis_client)]
    body = status.build()

    assert len(body["unknown_names"]) == LIMITS["unknown_names"]
    assert body["more_unknown_names"]
    assert len(subjects) == LIMITS["unknown_names"] + 1
    assert subjects[-1].startswith("agents name more unknown providers and routes than")
    assert redis_client.hlen(breaker.key(Kind.STT, "unknown")) == LIMITS["unknown_names"] + 1


def test_one_process_looks_into_a_bounded_number_of_names_and_counts_the_rest(monkeypatch):
    def counted() -> float:
        return REGISTRY.get_sample_value("stt_unknown_names_total", {"what": "provider"}) or 0

    looked_into, before = [], counted()
    monkeypatch.setattr(unknown, "_look_into", lambda batch: looked_into.extend(batch) or True)
    now_s = 0.0
    namings = unknown.Namings(clock=lambda: now_s)
    for number in range(500):
        namings.add(unknown.UnknownName(Named.PROVIDER, f"made-up-{number}"))
    namings.join(SETTLED_WITHIN_S)
    first = len(looked_into)
    now_s = unknown.AGAIN_S + 1
    namings.add(unknown.UnknownName(Named.PROVIDER, "made-up-0"))
    namings.join(SETTLED_WITHIN_S)

    assert (first, len(looked_into)) == (unknown.NAMES_MAX, unknown.NAMES_MAX + 1)
    assert counted() == before + 501


def test_a_failure_of_ours_ends_no_saying_of_others(agent, redis_client, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(unknown, "_tell", lambda *_: 1 / 0)
        agent.decide(can_use=["deepgram", NEW])
        settled()
    agent.decide(can_use=["deepgram", NEW])

    assert shown() == [NEW]


def test_a_name_that_is_configured_is_forgotten_and_told_again_once_it_is_gone(agent, redis_client):
    agent.decide(can_use=["deepgram", NEW])
    before = shown()
    made = make_provider(NEW)
    known = shown()
    another_process()
    agent.decide(can_use=["deepgram", NEW])
    made.delete()
    another_process()
    agent.decide(can_use=["deepgram", NEW])

    assert (before, known, shown()) == ([NEW], [], [NEW])
    assert len(told(redis_client)) == 2


def test_a_name_made_known_elsewhere_is_not_shown(agent):
    agent.decide(route="breze")
    before = shown()
    Route.objects.create(slug="breze", name="Breze")

    assert (before, shown()) == (["breze"], [])


def stored(client) -> dict[str, dict]:
    """Return what Redis remembers, by field."""
    rows = client.hgetall(breaker.key(Kind.STT, "unknown"))
    return {field.decode(): json.loads(raw) for field, raw in rows.items()}


def test_what_is_remembered_ends_by_itself_and_a_name_not_used_for_a_day_is_forgotten(
    agent, redis_client
):
    key = breaker.key(Kind.STT, "unknown")
    agent.decide(can_use=["deepgram", NEW])
    settled()
    row = stored(redis_client)[f"provider:{NEW}"]
    ends_in_ms = redis_client.pttl(key)
    row["at_ms"] -= LIMITS["unknown_ms"] + 1
    redis_client.hset(key, f"provider:{NEW}", json.dumps(row))
    later = shown()
    agent.decide(route="breze")
    settled()

    assert 0 < ends_in_ms <= LIMITS["unknown_ms"]
    assert later == []
    assert list(stored(redis_client)) == ["route:breze"]


@pytest.mark.parametrize(
    "raw", ["", "{", "[]", '"x"', '{"at_ms": 1e999}', '{"at_ms": 99999999999999}', "null"]
)
def test_damage_is_forgotten_and_costs_nothing(agent, redis_client, raw):
    redis_client.hset(breaker.key(Kind.STT, "unknown"), "provider:x", raw)
    agent.decide(can_use=["deepgram", NEW])

    assert shown() == [NEW]
    assert list(stored(redis_client)) == [f"provider:{NEW}"]


def test_a_key_of_another_type_costs_the_status_nothing_but_the_names(agent, redis_client):
    redis_client.set(breaker.key(Kind.STT, "unknown"), "not ours")
    agent.decide(can_use=["deepgram", NEW])
    settled()
    services.publish_configuration()
    body = status.build()

    assert (body["degraded"], body["verdict"], body["unknown_names"]) == (False, "healthy", [])


def test_when_it_was_last_named_is_kept_current_without_a_write_for_each_call(agent, redis_client):
    key = breaker.key(Kind.STT, "unknown")
    agent.decide(can_use=["deepgram", NEW], host="pod-1")
    another_process()
    agent.decide(call_id="CA2", can_use=["deepgram", NEW], host="pod-2")
    another_process()
    row = stored(redis_client)[f"provider:{NEW}"]
    redis_client.hset(key, f"provider:{NEW}", json.dumps({**row, "at_ms": row["at_ms"] - 60_000}))
    agent.decide(call_id="CA3", can_use=["deepgram", NEW], host="pod-3")
    settled()
    newer = stored(redis_client)[f"provider:{NEW}"]

    assert (row["host"], newer["host"]) == ("pod-1", "pod-3")
    assert newer["at_ms"] >= row["at_ms"]
    assert len(told(redis_client)) == 1


def test_strangers_without_a_key_tell_nothing(agent, redis_client):
    body = {"route": "breze", "call_id": "CA1", "can_use": [NEW]}
    Client().post("/api/v1/decisions", body, content_type="application/json")

    assert shown() == []
