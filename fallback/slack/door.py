"""WHO COMES IN FROM SLACK: really signed, of our own workspace, answered at Slack, and only once.

The signing secret belongs to the app, and an app may be installed in other workspaces too: which
one a request is from is compared with the one that our token is of, and no order is taken while
that is not known. What is signed can be sent again by whoever has seen it: an order is carried
out once.
"""

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.utils import timezone
from slack_sdk import WebClient
from slack_sdk.signature import SignatureVerifier

from fallback.errors import Conflict
from fallback.models import IdempotentRequest
from fallback.pacing import NotAgainWithin

ASK_TIMEOUT_S: Final = 1  # somebody waits for an answer within Slack's three seconds
ASK_AGAIN_S: Final = 5.0
KEPT: Final = timedelta(minutes=15)  # Slack's signatures are good for five
ACTOR: Final = "slack"

NOT_OURS: Final = (
    "Not done: this comes from another Slack workspace than the one this app is set up for."
)
NOT_KNOWN: Final = (
    "Not done: which Slack workspace is ours is not known, and no order is taken before it is."
    " Slack did not say so (auth.test): try again in a moment, or set SLACK_TEAM_ID."
)

_HOOK: Final = re.compile(r"https://hooks\.slack(?:-gov)?\.com/[A-Za-z0-9/_.-]{1,500}")

log = structlog.get_logger(__name__)
_ask = NotAgainWithin(ASK_AGAIN_S)
_lock = threading.Lock()
_found: dict[str, "Workspace"] = {}  # by the token it was found with


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace, or a whole organisation (Enterprise Grid) where the app is installed in it."""

    team: str
    organisation: str = ""  # then any of its workspaces is ours


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an order comes from: the member, what makes the request the same one when it is sent
    again, and why it may not be ours (empty: it is)."""

    user: str
    request: str = ""
    doubt: str = ""


def is_signed(body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether Slack signed this, within the last five minutes. Never raises."""
    try:
        return SignatureVerifier(settings.SLACK_SIGNING_SECRET).is_valid_request(body, headers)
    except (ValueError, TypeError, OverflowError):  # a time or a signature that is none
        return False


def origin(body: Mapping[str, Any], team: str, organisation: str, signature: str) -> Origin:
    """Return where a request comes from. Asks Slack for our own workspace when it is not known."""
    user = body.get("user")
    member = str(user.get("id", "")) if isinstance(user, dict) else str(body.get("user_id") or "")
    ours = workspace()
    if ours is None:
        doubt = NOT_KNOWN
    elif ours.organisation:
        doubt = "" if organisation == ours.organisation else NOT_OURS
    else:
        doubt = "" if team == ours.team else NOT_OURS
    return Origin(member, str(body.get("trigger_id") or "") or signature, doubt)


def is_slacks(url: str) -> bool:
    """Whether an answer may be posted there: Slack's hooks, or the server of SLACK_API_URL."""
    api = urlsplit(settings.SLACK_API_URL)
    is_of_api = url.startswith(f"{api.scheme}://{api.netloc}/")
    return is_of_api or bool(_HOOK.fullmatch(url))


def workspace() -> Workspace | None:
    """Return the workspace that we are installed in: as set, else as Slack says of our token;
    None while neither says so."""
    if settings.SLACK_TEAM_ID:
        is_organisation = settings.SLACK_TEAM_ID.startswith("E")
        return Workspace("" if is_organisation else settings.SLACK_TEAM_ID,
                         settings.SLACK_TEAM_ID if is_organisation else "")  # fmt: skip
    token = settings.SLACK_BOT_TOKEN
    with _lock:
        if token and token not in _found and _ask.is_due(token):
            found = _asked(token)
            if found:
                _found.clear()
                _found[token] = found
        return _found.get(token)


def take_once(request: str) -> None:
    """Take an order's request for carried out. Raises Conflict when it was before."""
    if not request:
        return  # Socket Mode without a trigger: the connection itself is Slack's
    now = timezone.now()
    rows = IdempotentRequest.objects.filter(actor=ACTOR)
    rows.filter(created_at__lt=now - KEPT).delete()
    digest = hashlib.sha256(request.encode()).hexdigest()
    _, is_new = IdempotentRequest.objects.get_or_create(
        actor=ACTOR, key=digest, defaults={"request_sha256": digest, "created_at": now}
    )
    if not is_new:
        log.warning("slack_request_again", request=digest[:16])
        raise Conflict("Not done again: this very request was carried out before.")


def _asked(token: str) -> Workspace | None:
    client = WebClient(
        token=token, base_url=settings.SLACK_API_URL, timeout=ASK_TIMEOUT_S, retry_handlers=[]
    )
    try:
        said = client.auth_test()
    except Exception as error:  # a dropped connection has many faces
        log.warning("slack_workspace_unknown", error=f"{type(error).__name__}: {error}"[:200])
        return None
    is_organisation = bool(said.get("is_enterprise_install"))
    organisation = str(said.get("enterprise_id") or "") if is_organisation else ""
    return Workspace(str(said.get("team_id") or ""), organisation)
