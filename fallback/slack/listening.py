"""The Bolt app and its HTTP endpoint. Importing this opens no connection."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from slack_bolt import App, BoltContext, BoltRequest, BoltResponse
from slack_bolt.adapter.django import SlackRequestHandler
from slack_bolt.authorization import AuthorizeResult
from slack_sdk import WebClient

from fallback.messages.alerts import ACKNOWLEDGE, AUTO, FORCE_CLOSED, FORCE_OPEN
from fallback.slack import buttons, commands, door

COMMAND = "/stt-status"

log = structlog.get_logger(__name__)


@cache
def app() -> App:
    """Return this process's Bolt app, made from the settings on first use."""
    made = App(
        logger=logging.getLogger("fallback.slack.bolt"),
        signing_secret=settings.SLACK_SIGNING_SECRET or "socket mode checks none",
        client=WebClient(base_url=settings.SLACK_API_URL, timeout=3),
        authorize=_authorize,
        url_verification_enabled=True,
    )
    made.middleware(_come_in)
    made.command(COMMAND)(commands.on_command)
    for action in (FORCE_OPEN, FORCE_CLOSED, AUTO, ACKNOWLEDGE):
        made.action(action)(buttons.on_button)
    made.action("stt_open")(_nothing)
    made.error(_on_error)
    return made


@csrf_exempt
@require_POST
def events(request: HttpRequest) -> HttpResponse:
    """Take what Slack sends: commands and pressed buttons."""
    if not settings.SLACK_SIGNING_SECRET:
        return HttpResponse("Slack is not configured: SLACK_SIGNING_SECRET is not set.", status=503)
    # Bolt checks it too, and reads the body first: a stranger's must not be read at all.
    if not door.is_signed(request.body, dict(request.headers)):
        log.warning("slack_request_refused", why="its signature is missing, wrong or too old")
        return HttpResponse(status=401)
    answer: HttpResponse = SlackRequestHandler(app()).handle(request)
    return answer


def _come_in(
    context: BoltContext,
    request: BoltRequest,
    body: dict[str, Any],
    respond: Any,
    next_: Callable[[], Any],
) -> BoltResponse | None:
    """Let in what is of our own workspace and answered at Slack, with its origin beside it."""
    url = str(body.get("response_url") or "")
    if url and not door.is_slacks(url):
        log.warning("slack_request_refused", why="its response_url is not Slack's")
        return BoltResponse(status=400, body="The response_url is not Slack's.")
    signature = (request.headers.get("x-slack-signature") or [""])[0]
    found = door.origin(
        body, str(context.team_id or ""), str(context.enterprise_id or ""), signature
    )
    if found.doubt == door.NOT_OURS:
        log.warning("slack_request_refused", why=found.doubt, user=found.user[:30])
        answer = {"response_type": "ephemeral", "text": found.doubt}
        if "actions" in body:  # Slack shows nobody what a pressed button is answered
            respond(text=found.doubt, response_type="ephemeral", replace_original=False)
        return BoltResponse(status=200, body=answer)
    context["origin"] = found
    next_()
    return None


def _authorize(context: BoltContext, **_: Any) -> AuthorizeResult:
    """Say as whom we act without asking Slack: an answer must not wait for its API."""
    return AuthorizeResult(
        enterprise_id=context.enterprise_id,
        team_id=context.team_id,
        bot_token=settings.SLACK_BOT_TOKEN or "none",
    )


def _nothing(ack: Any) -> None:
    """Acknowledge a button that only opens a page."""
    ack()


def _on_error(error: Exception, body: dict[str, Any]) -> BoltResponse:
    """Answer whatever was not foreseen, so that the person who asked does not wait."""
    log.error("slack_request_failed", user=str(body.get("user_id", ""))[:30], exc_info=error)
    answer = {"response_type": "ephemeral", "text": "That failed here; it has been logged."}
    return BoltResponse(status=200, body=answer)
