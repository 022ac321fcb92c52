"""Slack as people use it: really signed requests to /slack/events, and Socket Mode."""

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from django.test import Client
from slack_sdk.signature import SignatureVerifier
from structlog.testing import capture_logs
from websockets.sync.server import serve

from fallback import alerts, breaker, catalog, history, services
from fallback.alerts.sender import Sender
from fallback.domain import Kind, Outcome, OutcomeKind, Reason, State
from fallback.models import AlertDestination, AlertThread, ConfigRevision, Incident, SlackOperator
from fallback.slack import listening, orders
from fallback.slack.commands import COMMANDS
from tests.configuration import make_route
from tests.events import event
from tests.fake_slack import TOKEN, FakeSlack, shown
from tests.processes import clean_environment, eventually

pytestmark = pytest.mark.django_db(transaction=True)  # Bolt listens in threads of its own

SECRET = "the-fake-s-signing-secret"


@pytest.fixture
def slack(settings) -> Iterator[FakeSlack]:
    fake = FakeSlack()
    settings.SLACK_API_URL, settings.SLACK_BOT_TOKEN = fake.url, TOKEN
    settings.SLACK_SIGNING_SECRET = SECRET
    settings.PUBLIC_URL = "https://stt.example.com"
    listening.app.cache_clear()
    yield fake
    listening.app.cache_clear()
    fake.close()


@pytest.fixture
def soniox(redis_client, slack) -> None:
    """Configure soniox and deepgram on the route breeze-buddy; ana may give orders."""
    make_route("breeze-buddy", "soniox", "deepgram")
    SlackOperator.objects.create(slack_user="U0ANA", name="ana")
    SlackOperator.objects.create(slack_user="U0BEN", name="ben")
    with transaction.atomic():
        ConfigRevision.bump()
    catalog.reload()
    services.publish_configuration()


def post(body: dict[str, str], *, secret: str = SECRET, age_s: float = 0, **headers: str):
    """Send what Slack would, signed as Slack does."""
    text, stamp = urlencode(body), str(int(time.time() - age_s))
    signed = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=text)
    return Client().post(
        "/slack/events", text, content_type="application/x-www-form-urlencoded",
        headers={"X-Slack-Signature": signed, "X-Slack-Request-Timestamp": stamp, **headers},
    )  # fmt: skip


def command_body(text: str, user: str, **other: str) -> dict[str, str]:
    return {"command": "/stt-status", "text": text, "user_id": user, "team_id": "T1",
            "channel_id": "C0ALERTS", "trigger_id": uuid.uuid4().hex,
            "response_url": "https://hooks.slack.com/commands/T1/1/x", **other}  # fmt: skip


def command(text: str = "", user: str = "U0ANYONE") -> dict:
    """Return the answer to `/stt-status text`."""
    answer = post(command_body(text, user))
    assert answer.status_code == 200
    return json.loads(answer.content)


def said(text: str = "", user: str = "U0ANYONE") -> str:
    return shown(command(text, user))


def press(slack: FakeSlack, action: str, value: str, user: str = "U0ANA") -> str:
    """Press a button and return what its presser is told."""
    payload = {
        "type": "block_actions", "user": {"id": user}, "team": {"id": "T1"},
        "response_url": slack.url.replace("/api/", "/response/1"), "trigger_id": uuid.uuid4().hex,
        "actions": [{"action_id": action, "value": value, "type": "button", "block_id": "b"}],
    }  # fmt: skip
    before = len(slack.responses)
    assert post({"payload": json.dumps(payload)}).status_code == 200
    assert eventually(lambda: len(slack.responses) > before)
    return shown(slack.responses[-1])


def override() -> tuple[State, str, str] | None:
    order = breaker.snapshot(Kind.STT, ["soniox"]).views[0].breaker.override
    return order and (order.state, order.by, order.reason)


@pytest.fixture
def out(soniox, slack, redis_client) -> dict[str, str]:
    """Have soniox really trip, and its message posted; return its buttons' values by action."""
    AlertDestination.objects.create(name="slack", channel="C0ALERTS")
    from django.core.management import call_command  # beside the only use

    call_command("seed", verbosity=0, stdout=open("/dev/null", "w"))  # noqa: SIM115 - a sink
    services.publish_configuration()
    services.report_outcomes([failure("one"), failure("two")])
    pump()
    Sender().turn()
    (row,) = [block for block in slack.roots()[0]["blocks"] if block["type"] == "actions"]
    return {one["action_id"]: one["value"] for one in row["elements"]}


def failure(call: str) -> Outcome:
    return Outcome(id=f"{call}:soniox", call_id=call, provider="soniox", route="breeze-buddy",
                   kind=OutcomeKind.INIT_FAILURE, reason=Reason.CONNECTION)  # fmt: skip


def pump() -> None:
    """Carry what is in the stream."""
    from fallback.pump import Pump  # beside the only use

    Pump("one").turn()


# --- who may come in


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"secret": "another"}, 401), ({"age_s": 400}, 401), ({}, 200)],
)
def test_requests_badly_signed_or_old_are_refused(soniox, wrong, status):
    body = {"command": "/stt-status", "text": "help", "user_id": "U1", "team_id": "T1"}

    assert post(body, **wrong).status_code == status


def test_a_request_without_a_signature_is_refused_and_logged(soniox):
    with capture_logs() as logs:
        answer = Client().post("/slack/events", {"command": "/stt-status"})

    assert answer.status_code == 401
    assert "slack_request_refused" in [one["event"] for one in logs]


def test_a_changed_body_is_refused(soniox):
    stamp = str(int(time.time()))
    signed = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body="text=help")
    answer = Client().post(
        "/slack/events", "text=open", content_type="application/x-www-form-urlencoded",
        headers={"X-Slack-Signature": signed, "X-Slack-Request-Timestamp": stamp},
    )  # fmt: skip

    assert answer.status_code == 401


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"", b"[" * 100_000, b"payload=[]"], ids=["bytes", "none", "deep", "list"]
)
def test_a_stranger_s_body_is_not_even_read(soniox, body):
    answer = Client().post("/slack/events", body, content_type="application/json")

    assert answer.status_code == 401


def test_without_a_signing_secret_the_endpoint_says_what_is_missing(slack, settings):
    settings.SLACK_SIGNING_SECRET = ""

    answer = Client().post("/slack/events", {"command": "/stt-status"})
    assert answer.status_code == 503
    assert b"SLACK_SIGNING_SECRET" in answer.content


# --- reading


def test_the_summary_has_every_breaker_and_a_button_to_the_dashboard(soniox):
    answer = command()
    text = shown(answer)

    assert "Healthy" in text
    assert "● soniox: closed" in text
    assert "breeze-buddy: soniox → deepgram" in text
    assert answer["blocks"][-1]["elements"][0]["url"] == "https://stt.example.com/"
    assert answer["response_type"] == "ephemeral"


def test_an_answer_takes_less_than_a_second(soniox):
    command()
    began = time.monotonic()
    command("soniox")

    assert time.monotonic() - began < 1


def test_one_provider_has_its_state_its_failures_and_its_history(soniox):
    services.report_outcomes([failure("one"), failure("two")])
    pump()
    time.sleep(0.3)
    text = said("soniox")

    assert "■ soniox: open since" in text
    assert "Failures: 2 of 2 in 240 s" in text
    assert "Last errors: connection 2" in text
    assert "closed → open (failure threshold)" in text
    assert f"Incident #{Incident.objects.get().pk}" in text


def test_one_route_has_its_order_and_its_breakers(soniox):
    text = said("breeze-buddy")

    assert "breeze-buddy: soniox → deepgram" in text
    assert "● deepgram: closed" in text


def test_explain_says_why_a_call_got_what_it_got(soniox):
    services.report_outcomes([failure("CA1")])
    text = said("explain CA1")

    assert "Call CA1" in text
    assert "soniox init_failure connection" in text


def test_incidents_are_listed_with_how_long_and_which_calls(soniox):
    history.record([event(1)])

    assert "soniox: still going on; 0 diverted, 2 hurt, 0 saved" in said("incidents")


def test_help_names_every_command(soniox):
    text = said("help")

    assert all(f"/stt-status {name}".strip() in text for name in COMMANDS)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("sonyox", "Did you mean soniox?"),
        ("explain", "Say which call"),
        ("explain nobody", "Nothing is known of call"),
        ("open", "Say which provider"),
        ("open nobody 5m why", "There is no provider"),
        ("<!channel> {x}", "There is no provider"),
        ("x" * 9000, "There is no provider"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_not_understood_is_answered_with_what_would_be(soniox, text, answer):
    assert answer in said(text, "U0ANA")


# --- orders


@pytest.mark.parametrize(
    ("text", "state", "length"),
    [
        ("open soniox 5m bad audio", State.FORCED_OPEN, "for 5 min"),
        ("close soniox 1h30m trust us", State.FORCED_CLOSED, "for 1 h 30 min"),
        ("shadow soniox watch it", State.SHADOW, "for 30 min"),
        ("open soniox forever contract ended", State.FORCED_OPEN, "until somebody clears it"),
    ],
)
def test_an_operator_s_order_is_done_and_the_answer_names_who(soniox, text, state, length):
    answer = command(text, "U0ANA")

    assert override()[:2] == (state, "slack:ana")
    assert f"soniox is {state.replace('_', ' ')} {length}, ordered by slack:ana" in shown(answer)
    assert answer["response_type"] == "in_channel"


@pytest.mark.parametrize("text", ["open soniox 5m why", "auto soniox", "reset soniox why"])
def test_a_stranger_s_order_is_refused_and_logged(soniox, text):
    with capture_logs() as logs:
        answer = said(text, "U0STRANGER")

    assert "orders are for Slack operators" in answer
    assert override() is None
    refused = [one for one in logs if one["event"] == "slack_order_refused"]
    assert refused[0]["user"] == "U0STRANGER"


def test_an_operator_who_was_switched_off_is_a_stranger(soniox):
    SlackOperator.objects.update(enabled=False)

    assert "orders are for Slack operators" in said("open soniox why", "U0ANA")


def test_no_order_is_given_without_a_reason(soniox):
    assert "A reason is required" in said("open soniox 5m", "U0ANA")
    assert override() is None


def test_auto_and_reset_end_an_override(soniox):
    said("open soniox 5m why", "U0ANA")
    first = said("auto soniox", "U0BEN")
    said("open soniox 5m why", "U0ANA")
    second = said("reset soniox all is well", "U0BEN")

    assert "obeys its policy again, ordered by slack:ben" in first
    assert "was reset by slack:ben: “all is well”" in second
    assert override() is None
    assert "is automatic already" in said("auto soniox", "U0ANA")


# --- buttons


def test_a_button_does_what_it_says_and_tells_its_presser(out, slack):
    told = press(slack, "stt_force_open", out["stt_force_open"])
    pump()

    number = Incident.objects.get().pk
    assert "soniox is forced open for 30 min, ordered by slack:ana" in told
    assert override() == (State.FORCED_OPEN, "slack:ana", f"button on incident #{number}")
    assert slack.responses[-1]["response_type"] == "ephemeral"


@pytest.mark.parametrize("second", ["stt_force_open", "stt_force_closed", "stt_auto"])
def test_of_two_who_press_one_acts_and_the_other_is_told_who_was_first(out, slack, second):
    press(slack, "stt_force_open", out["stt_force_open"], "U0ANA")
    told = press(slack, second, out[second], "U0BEN")

    assert "Already done by slack:ana" in told
    assert override()[:2] == (State.FORCED_OPEN, "slack:ana")


def test_the_first_to_acknowledge_is_named_to_the_second(out, slack):
    first = press(slack, "stt_acknowledge", out["stt_acknowledge"], "U0ANA")
    second = press(slack, "stt_acknowledge", out["stt_acknowledge"], "U0BEN")

    assert "is yours" in first
    assert "Already done by slack:ana" in second
    assert AlertThread.objects.get().acknowledged_by == "slack:ana"


@pytest.mark.parametrize("action", ["stt_force_open", "stt_acknowledge"])
def test_a_stranger_s_button_does_nothing(out, slack, action):
    told = press(slack, action, out[action], "U0STRANGER")

    assert "orders are for Slack operators" in told
    assert override() is None
    assert AlertThread.objects.get().acknowledged_by == ""


@pytest.mark.parametrize("value", ["", "{}", '{"thread": 999999, "seen": ""}', "[]", "{{{"])
def test_a_button_of_long_ago_says_so(out, slack, value):
    assert "too old for its buttons" in press(slack, "stt_force_open", value)


def test_a_button_of_an_incident_that_is_over_does_nothing(out, slack):
    services.reset_breaker(Kind.STT, "soniox", reason="over", by="admin:ana")
    pump()

    assert "This incident is over" in press(slack, "stt_force_open", out["stt_force_open"])
    assert override() is None


def test_two_operators_at_once_get_one_effect_and_one_already_done(soniox):
    told: list[str] = []

    def order(by: str) -> None:
        try:
            told.append(orders.force(Kind.STT, "soniox", State.FORCED_OPEN, by=by,
                                     reason="both", for_s=60, seen=""))  # fmt: skip
        except Exception as error:
            told.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=order, args=(f"slack:{name}",)) for name in ("ana", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum("is forced open for 1 min" in one for one in told) == 1
    assert sum(one.startswith("Already done by slack:") for one in told) == 1


# --- Socket Mode


@pytest.mark.slow
def test_socket_mode_answers_the_same_and_ends_when_told(slack, redis_url, tmp_path):
    answers: list[dict] = []

    def talk(socket) -> None:
        body = {"command": "/stt-status", "text": "help", "user_id": "U1", "team_id": "T1"}
        socket.send(json.dumps({"type": "hello", "num_connections": 1}))
        envelope = {"type": "slash_commands", "envelope_id": "e1", "payload": body,
                    "accepts_response_payload": True}  # fmt: skip
        socket.send(json.dumps(envelope))
        for message in socket:
            answers.append(json.loads(message))

    with serve(talk, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        slack.socket_url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        process = subprocess.Popen(
            [sys.executable, "manage.py", "slack_socket"],
            cwd=django_settings.BASE_DIR,
            env=clean_environment(
                tmp_path, SLACK_APP_TOKEN="xapp-test", SLACK_BOT_TOKEN=TOKEN,
                SLACK_API_URL=slack.url, REDIS_URL=redis_url, LOG_LEVEL="error",
            ),
        )  # fmt: skip
        try:
            assert eventually(lambda: answers, within_s=30)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
            server.shutdown()

    assert answers[0]["envelope_id"] == "e1"
    assert "/stt-status explain" in answers[0]["payload"]["text"]


def test_alerts_say_what_is_missing_of_slack(settings):
    settings.SLACK_BOT_TOKEN = settings.SLACK_SIGNING_SECRET = settings.SLACK_APP_TOKEN = ""

    assert [line.split()[0] for line in alerts.missing()] == [
        "SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET",
    ]  # fmt: skip
