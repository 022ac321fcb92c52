"""What is counted, under which labels, and what a scrape costs."""

import socket
import threading
import time

import httpx
import pytest
from django.test import Client
from prometheus_client import REGISTRY

from fallback import catalog, exporter, metrics, status
from fallback.domain import Kind
from tests.configuration import make_provider, make_route
from tests.rest import api, outcome

CONTRACT = {
    "stt_decisions_total",
    "stt_decision_seconds",
    "stt_outcomes_total",
    "stt_breaker_state",
    "stt_transitions_total",
    "stt_calls_diverted_total",
    "stt_alerts_total",
    "stt_alert_delay_seconds",
    "stt_event_lag_seconds",
    "stt_feed_clients",
    "stt_degraded_total",
}


def value(name: str, **labels: str) -> float:
    """Return what a metric stands at, 0 where nothing was counted."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def names():
    """Let soniox and breeze-buddy be label values, whatever is configured."""
    metrics.configured(routes=["breeze-buddy"], providers=["soniox"])


@pytest.fixture
def hanging():
    """Return a call that hangs until the test is over, so that no thread outlives it."""
    over = threading.Event()
    yield lambda: over.wait(10)
    over.set()


@pytest.fixture
def collector():
    """Return a collector that has looked at nothing yet."""
    return exporter.BreakerCollector()


def states(collector) -> dict[tuple[str, str], float]:
    """Return what the collector says, by provider and state."""
    gauge, _ = collector.collect()
    return {
        (sample.labels["provider"], sample.labels["state"]): sample.value
        for sample in gauge.samples
    }


@pytest.mark.django_db(transaction=True)
def test_every_metric_of_the_contract_is_served():
    text = Client().get("/metrics").content.decode()

    served = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert CONTRACT - served == set()


def test_a_decision_is_counted_with_its_time(names):
    labels = {"route": "breeze-buddy", "provider": "soniox", "mode": "primary"}
    before = value("stt_decisions_total", **labels), value("stt_decision_seconds_sum")

    metrics.decided("breeze-buddy", "soniox", "primary", 0.25)

    after = value("stt_decisions_total", **labels), value("stt_decision_seconds_sum")
    assert after == (before[0] + 1, pytest.approx(before[1] + 0.25))


def test_names_that_are_not_configured_share_one_series(names):
    labels = {"provider": "other", "kind": "other", "reason": "other", "effect": "other"}
    before = value("stt_outcomes_total", **labels)

    for number in range(100):
        metrics.outcome(f"provider-{number}", f"kind-{number}", f"r-{number}", f"e-{number}")

    assert value("stt_outcomes_total", **labels) == before + 100


def test_an_outcome_without_a_failure_has_no_reason(names):
    labels = {"provider": "soniox", "kind": "call_end", "reason": "", "effect": "none"}
    before = value("stt_outcomes_total", **labels)

    metrics.outcome("soniox", "call_end", "", "none")

    assert value("stt_outcomes_total", **labels) == before + 1


def test_transitions_diversions_and_lesser_answers_are_counted(names):
    transition = {"provider": "soniox", "to": "open", "cause": "failure_threshold"}
    before = [
        value("stt_transitions_total", **transition),
        value("stt_calls_diverted_total", provider="soniox"),
        value("stt_degraded_total", what="test"),
    ]

    metrics.transition("soniox", "open", "failure_threshold")
    metrics.diverted("soniox")
    metrics.degraded("test")

    assert [
        value("stt_transitions_total", **transition),
        value("stt_calls_diverted_total", provider="soniox"),
        value("stt_degraded_total", what="test"),
    ] == [count + 1 for count in before]


def test_an_alert_is_counted_with_its_delay_only_when_it_was_delivered():
    before = value("stt_alert_delay_seconds_count")

    metrics.alerted("slack", "failed")
    metrics.alerted("slack", "sent", 1.5)

    assert value("stt_alert_delay_seconds_count") == before + 1


@pytest.mark.django_db(transaction=True)
def test_the_state_of_a_breaker_is_one_and_the_others_are_nought(collector):
    make_route()
    api().report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))

    found = states(collector)

    assert found["soniox", "open"] == found["deepgram", "closed"] == 1
    assert sum(found.values()) == 2
    assert len(found) == 2 * 6


@pytest.mark.django_db(transaction=True)
def test_a_slug_in_two_kinds_is_two_series(collector):
    make_provider("openai")
    make_provider("openai", kind=Kind.TTS.value)
    catalog.reload()

    assert {provider for provider, _ in states(collector)} == {"openai", "openai (tts)"}


@pytest.mark.django_db(transaction=True)
def test_two_scrapes_in_a_second_make_one_look(collector, redis_client):
    make_route()
    catalog.reload()
    states(collector)
    redis_client.config_resetstat()

    states(collector)

    assert "cmdstat_evalsha" not in redis_client.info("commandstats")


def test_a_look_that_hangs_costs_a_scrape_its_budget_and_no_more(collector, hanging, monkeypatch):
    monkeypatch.setattr(status, "build", hanging)
    began = time.monotonic()

    found = states(collector)

    assert found == {}
    assert time.monotonic() - began < exporter.BUDGET_S + 0.5


def test_with_a_token_only_its_holder_reads(settings):
    settings.METRICS_TOKEN = "s3cret"

    def read(**headers: str) -> int:
        return Client().get("/metrics", headers=headers).status_code

    assert read() == 401
    assert read(authorization="Bearer wrong") == 401
    assert read(authorization="Bearer s3crét") == 401
    assert read(authorization="Bearer s3cret") == 200


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("10.0.0.7", {}, 403),
        ("192.0.2.1", {"authorization": "Bearer "}, 403),
        ("", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.1"}, 403),
        ("127.0.0.1", {"forwarded": "for=192.0.2.1"}, 403),
    ],
)
def test_s29_without_a_token_only_this_machine_reads(address, headers, status):
    answer = Client(REMOTE_ADDR=address).get("/metrics", headers=headers)

    assert answer.status_code == status
    assert (b"METRICS_TOKEN" in answer.content) == (status == 403)


def test_s29_whoever_opens_it_has_it_open(settings):
    settings.METRICS_OPEN = True

    assert Client(REMOTE_ADDR="10.0.0.7").get("/metrics").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_how_far_the_pumps_are_behind_is_read_at_each_scrape_pump_or_no_pump(collector):
    make_route()
    api().report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))
    time.sleep(0.05)
    status._board._known.lag_at_s = float("-inf")

    [_, lag] = collector.collect()

    assert lag.samples[0].value >= 0.05


def test_a_pump_serves_its_own_counts_on_a_port_with_the_same_token(settings):
    settings.METRICS_TOKEN = "s3cret"
    server = exporter.serve("127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.server_port}"

    def read(path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{url}{path}", headers=headers, trust_env=False)

    try:
        assert read("/metrics").status_code == 401
        assert read("/else", authorization="Bearer s3cret").status_code == 404
        assert "stt_transitions_total" in read("/metrics", authorization="Bearer s3cret").text
    finally:
        server.shutdown()
        server.server_close()


def test_a_port_that_is_taken_stops_no_pump():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        assert exporter.serve("127.0.0.1", taken.getsockname()[1]) is None
