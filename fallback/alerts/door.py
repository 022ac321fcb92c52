"""THE ONLY DOOR TO SLACK'S WEB API, and what each refusal means for whoever sends.

Nothing is sent twice behind the caller's back: the client's own retries are off, because a
dropped connection does not tell whether Slack took the message.
"""

import urllib.error
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

from fallback.errors import FallbackError
from fallback.messages.blocks import Message

TIMEOUT_S: Final = 5
PAGES_MAX: Final = 10
METADATA: Final = "stt_alert"
UNCLEAR: Final = frozenset(
    {"internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)
# Slack's own errors. 502 and 504 are a proxy's before it: behind those the request may go on.
ENDED: Final = frozenset({500, 503})
GONE: Final = frozenset({"message_not_found", "thread_not_found", "cant_update_message"})


class SlackError(FallbackError):
    """Slack did not do what it was asked to."""

    code = "slack"


class RateLimited(SlackError):
    """Slack did not take it, and says when it may be asked again."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"rate limited for {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class Away(SlackError):
    """Slack could not be reached: it has not taken anything."""


class Unclear(SlackError):
    """Slack may have taken it, though it did not say so.

    `is_answered`: its whole answer came, and was an error. Slack documents that "some aspect of
    the operation" may have succeeded before it (`internal_error`, `fatal_error`); but the request
    has ended there, and nothing more will come of it. Without an answer it may still be under way.
    """

    def __init__(self, detail: str, *, is_answered: bool = False) -> None:
        super().__init__(detail)
        self.is_answered = is_answered


class Refused(SlackError):
    """Slack did not take it, and will not until somebody changes something."""


class Gone(Refused):
    """The message that was to be changed or answered is not there any more."""


class Slack:
    """Slack as a bot. Each method raises a SlackError and nothing else."""

    def __init__(self, client: WebClient | None = None) -> None:
        self._client = client or WebClient(
            token=settings.SLACK_BOT_TOKEN,
            base_url=settings.SLACK_API_URL,
            timeout=TIMEOUT_S,
            retry_handlers=[],
        )

    def post(
        self, channel: str, message: Message, *, key: str, alerts: list[int], thread: str = ""
    ) -> tuple[str, str]:
        """Post a message that carries `key`; return the channel's id and the message's ts."""
        found = _asked(
            self._client.chat_postMessage,
            channel=channel,
            text=message.text,
            blocks=message.blocks,
            metadata={"event_type": METADATA, "event_payload": {"key": key, "alerts": alerts}},
            unfurl_links=False,
            unfurl_media=False,
            **({"thread_ts": thread} if thread else {}),
        )
        return str(found.get("channel") or channel), str(found["ts"])

    def update(self, channel: str, ts: str, message: Message) -> None:
        """Have a message say something else; harmless when it says that already."""
        _asked(
            self._client.chat_update,
            channel=channel, ts=ts, text=message.text, blocks=message.blocks,
        )  # fmt: skip

    def find(self, channel: str, key: str, *, since_s: float, thread: str = "") -> str | None:
        """Return the ts of the message that carries `key`, None if there is none since then."""
        ask: Callable[..., Any] = self._client.conversations_history
        asked: dict[str, Any] = {"channel": channel, "oldest": f"{since_s:.6f}", "limit": 200}
        if thread:
            ask, asked = self._client.conversations_replies, {**asked, "ts": thread}
        cursor = ""
        for _ in range(PAGES_MAX):
            more = {"cursor": cursor} if cursor else {}
            found = _asked(ask, **asked, **more, include_all_metadata=True)
            for message in found.get("messages") or []:
                payload = (message.get("metadata") or {}).get("event_payload") or {}
                if payload.get("key") == key:
                    return str(message["ts"])
            cursor = (found.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None
        raise Unclear(f"more than {PAGES_MAX} pages to look through")

    def channel_id(self, channel: str) -> str:
        """Return the id of a channel given as `#name`: looking into it takes the id."""
        if not channel.startswith("#"):
            return channel
        cursor = ""
        for _ in range(PAGES_MAX):
            more = {"cursor": cursor} if cursor else {}
            found = _asked(
                self._client.conversations_list,
                limit=1000,
                exclude_archived=True,
                types="public_channel,private_channel",
                **more,
            )
            for row in found.get("channels") or []:
                if row.get("name") == channel[1:]:
                    return str(row["id"])
            cursor = (found.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
        raise Refused(f"channel_not_found: {channel}; give the destination the channel's id")


def _asked(method: Callable[..., Any], **asked: Any) -> Any:
    """Ask Slack once; raise what its refusal means."""
    try:
        found = method(**asked)
    except SlackClientError as error:
        raise _meaning(error) from error
    except urllib.error.URLError as error:
        # Refused or not resolved: nothing was sent. Anything else may have been.
        is_away = isinstance(error.reason, ConnectionRefusedError) or "resol" in str(error.reason)
        raise (Away if is_away else Unclear)(str(error.reason)[:200]) from error
    except Exception as error:  # a dropped connection has many faces in http.client
        raise Unclear(f"{type(error).__name__}: {error}"[:200]) from error
    if not isinstance(found.data, dict):
        raise Unclear("an answer that is no JSON")
    return found.data


def _meaning(error: SlackClientError) -> SlackError:
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    data = getattr(response, "data", None)
    code = str(data.get("error", "")) if isinstance(data, dict) else ""
    if status == 429 or code in {"ratelimited", "rate_limited"}:
        return RateLimited(_retry_after_s(response))
    if status >= 500 or code in UNCLEAR or not code:
        is_answered = status in ENDED or (status == 200 and code in UNCLEAR)
        return Unclear(
            f"{status} {code}".strip()[:200] or str(error)[:200], is_answered=is_answered
        )
    return (Gone if code in GONE else Refused)(code[:200])


def _retry_after_s(response: Any) -> float:
    """Return Slack's wait, from 1 s to an hour; 30 s where it does not say."""
    headers = {str(k).lower(): v for k, v in (getattr(response, "headers", None) or {}).items()}
    try:
        return min(max(float(str(headers.get("retry-after"))), 1.0), 3600.0)
    except ValueError:
        return 30.0
