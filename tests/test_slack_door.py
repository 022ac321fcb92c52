"""Who comes in from Slack, and who does not: hostile headers, other workspaces, the same again."""

import json
import time

import pytest
from django.test import Client
from slack_sdk.signature import SignatureVerifier
from structlog.testing import capture_logs

from fallback.domain import State
from fallback.models import AlertThread, IdempotentRequest
from fallback.slack import door
from tests.fake_slack import shown
from tests.processes import eventually
from tests.test_slack import SECRET, command_body, out, override, post, press, slack, soniox

__all__ = ["out", "slack", "soniox"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_is_known():
    """Begin as a process does that has not asked Slack yet."""
    door._found.clear()
    door._ask.forget()


# --- headers: S15


@pytest.mark.parametrize(
    ("stamp", "signature"),
    [
        ("nan", "v0=1"), ("9" * 400, "v0=1"), ("9" * 5000, "v0=1"), ("-1", "v0=1"), ("", ""),
        ("1e3", "v0=1"), ("\u0661", "v0=1"), (None, "v0=\u00e9"), (None, "v0=" + "f" * 64),
    ],
    ids=["nan", "400", "5000", "minus", "none", "float", "arabic", "not-ascii", "wrong"],
)  # fmt: skip
def test_s15_hostile_times_and_signatures_are_401(soniox, stamp, signature):
    answer = Client(raise_request_exception=False).post(
        "/slack/events", "text=help", content_type="application/x-www-form-urlencoded",
        headers={"X-Slack-Signature": signature,
                 "X-Slack-Request-Timestamp": str(int(time.time())) if stamp is None else stamp},
    )  # fmt: skip

    assert answer.status_code == 401


def test_s15_a_body_that_is_no_text_is_401(soniox):
    stamp = str(int(time.time()))
    signed = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body="x")
    answer = Client(raise_request_exception=False).post(
        "/slack/events", b"\xff\xfe", content_type="application/x-www-form-urlencoded",
        headers={"X-Slack-Signature": signed, "X-Slack-Request-Timestamp": stamp},
    )  # fmt: skip

    assert answer.status_code == 401


# --- the same again: S18


def same(body: dict[str, str], times: int) -> list[str]:
    """Send one signed request several times, byte by byte; return what is answered."""
    return [shown(json.loads(post(body).content)) for _ in range(times)]


@pytest.mark.parametrize("trigger", ["1337.42.abcd", ""], ids=["trigger", "signature"])
def test_s18_a_signed_order_sent_again_is_carried_out_once(soniox, trigger, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # so that it is signed alike
    order = command_body("open soniox 5m bad audio", "U0ANA", trigger_id=trigger)
    back = command_body("auto soniox", "U0ANA")
    done = same(order, 1)
    ended = same(back, 1)
    again = same(order, 2)

    assert "soniox is forced open for 5 min" in done[0]
    assert "obeys its policy again" in ended[0]
    assert all("Not done again" in one for one in again)
    assert override() is None


def test_s18_the_same_order_given_twice_by_a_person_is_done_twice(soniox):
    for _ in range(2):
        [said] = same(command_body("open soniox 5m bad audio", "U0ANA"), 1)
        assert "soniox is forced open for 5 min" in said


def test_s18_a_question_may_be_asked_again(soniox):
    first, second = same(command_body("soniox", "U0ANYONE"), 2)

    assert first == second
    assert IdempotentRequest.objects.count() == 0


def test_s18_a_stranger_s_request_does_not_use_up_an_order(soniox):
    body = command_body("open soniox 5m why", "U0STRANGER")
    same(body, 1)

    assert IdempotentRequest.objects.count() == 0


def test_s18_what_was_carried_out_is_forgotten_once_its_signature_is_too_old(soniox):
    same(command_body("open soniox 5m why", "U0ANA"), 1)
    old = door.timezone.now() - door.KEPT
    IdempotentRequest.objects.update(created_at=old)
    same(command_body("auto soniox", "U0ANA"), 1)

    assert IdempotentRequest.objects.count() == 1


# --- other workspaces: S18


@pytest.mark.parametrize("text", ["open soniox 5m why", "soniox", ""])
def test_s18_another_workspace_with_the_same_member_gets_nothing(soniox, text):
    body = command_body(text, "U0ANA", team_id="TEVIL")
    with capture_logs() as logs:
        answer = json.loads(post(body).content)

    assert answer == {"response_type": "ephemeral", "text": door.NOT_OURS}
    assert override() is None
    assert "slack_request_refused" in [one["event"] for one in logs]


def test_s18_a_button_pressed_in_another_workspace_does_nothing(out, slack, settings):
    settings.SLACK_TEAM_ID = "T0OTHER"
    payload = {
        "type": "block_actions", "user": {"id": "U0ANA"}, "team": {"id": "T1"},
        "response_url": slack.url.replace("/api/", "/response/1"), "trigger_id": "1",
        "actions": [{"action_id": "stt_force_open", "value": out["stt_force_open"],
                     "type": "button", "block_id": "b"}],
    }  # fmt: skip

    assert post({"payload": json.dumps(payload)}).status_code == 200
    assert eventually(lambda: slack.responses)
    assert slack.responses[0]["text"] == door.NOT_OURS
    assert override() is None


def test_s18_no_order_is_taken_while_our_workspace_is_not_known(soniox, slack):
    slack.faults["auth.test"].append("500")
    body = command_body("open soniox 5m why", "U0ANA")
    [refused] = same(body, 1)
    [shown_] = same(command_body("soniox", "U0ANA"), 1)
    door._ask.forget()
    [done] = same(body, 1)

    assert "which Slack workspace is ours is not known" in refused
    assert "soniox: closed" in shown_
    assert "soniox is forced open" in done


def test_s18_our_workspace_is_asked_for_once(soniox, slack):
    for _ in range(3):
        same(command_body("soniox", "U0ANA"), 1)

    assert slack.count("auth.test") == 1


@pytest.mark.parametrize(
    ("ours", "team", "organisation", "is_ours"),
    [("T1", "T1", "", True), ("T1", "T2", "E1", False), ("E1", "T2", "E1", True),
     ("E1", "T1", "E2", False), ("T1", "", "", False)],
)  # fmt: skip
def test_a_workspace_or_an_organisation_can_be_set(settings, ours, team, organisation, is_ours):
    settings.SLACK_TEAM_ID = ours

    assert (door.origin({"user_id": "U1"}, team, organisation, "").doubt == "") is is_ours


# --- where the answer goes: S18


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/actions/T1/1/x", "https://evil.example/actions/T1/1/x",
        "https://hooks.slack.com.evil.example/x", "https://hooks.slack.com@evil.example/x",
        "https://hooks.slack.com\\@evil.example/x", "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd", "https://hooks.slack.com:8080/x", "//hooks.slack.com/x", "https://[::1",
    ],
)  # fmt: skip
def test_s18_an_answer_is_posted_to_slack_and_nowhere_else(out, slack, url):
    payload = {
        "type": "block_actions", "user": {"id": "U0ANA"}, "team": {"id": "T1"},
        "response_url": url, "trigger_id": "1",
        "actions": [{"action_id": "stt_acknowledge", "value": out["stt_acknowledge"],
                     "type": "button", "block_id": "b"}],
    }  # fmt: skip

    assert post({"payload": json.dumps(payload)}).status_code == 400
    assert AlertThread.objects.get().acknowledged_by == ""


@pytest.mark.parametrize(
    "url", ["https://hooks.slack.com/actions/T1/123/aBc-_9", "https://hooks.slack-gov.com/x/y"]
)
def test_slack_s_own_hooks_are_taken(url):
    assert door.is_slacks(url)


def test_a_button_is_answered_at_the_server_that_is_set(out, slack):
    assert "is yours" in press(slack, "stt_acknowledge", out["stt_acknowledge"])


# --- what is said: S21


def test_s21_control_characters_of_a_reason_are_dropped_at_the_door(soniox):
    reason = "bad\x1b]0;pwn\x07 au\u202edio\x1b[2J\x00"
    with capture_logs() as logs:
        same(command_body(f"open soniox 5m {reason}", "U0ANA"), 1)

    assert override() == (State.FORCED_OPEN, "slack:ana", "bad]0;pwn audio[2J")
    assert [one["reason"] for one in logs if one["event"] == "order"] == ["bad]0;pwn audio[2J"]
