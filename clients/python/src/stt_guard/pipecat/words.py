"""What Pipecat's errors mean in the contract's words. Its category wins over the exception.

Pipecat has a category from 1.8 (`pipecat.utils.errors`). Before that the exception decides, and
where a service gives none, the fixed start of its message: what the application broke cannot be
told then.
"""

from collections.abc import Mapping
from typing import Final

from pipecat.frames.frames import ErrorFrame

from stt_guard.classify import classify, from_text
from stt_guard.words import Reason, Seen

# By the values of Pipecat's ErrorCategory, which an older Pipecat does not have.
REASONS: Final[Mapping[str, Reason]] = {
    "authentication": "auth",
    "authorization": "auth",
    "invalid_request": "bad_request",
    "quota": "quota",
    "rate_limit": "rate_limit",
    "server": "server_error",
}
# What a service that is still usable may get over by itself. Its bad_request is an in-band one: a
# session that ended for want of our audio, say. One that cannot heal leaves it unusable.
MAY_HEAL: Final = frozenset({"server_error", "connection", "stream", "unknown", "bad_request"})


def seen_in(frame: ErrorFrame, provider: str) -> Seen | None:
    """Return what an ErrorFrame says of its provider; None when the application failed.

    CONNECTIVITY and UNKNOWN leave it to the exception, which knows a timeout from a refusal.
    """
    category = _category(frame)
    if category == "application":
        return None
    seen = classify(frame.exception, provider)
    if seen == Seen() and isinstance(frame.error, str):
        seen = from_text(frame.error, provider)
    if category == "connectivity" and seen.reason == "auth":
        return Seen("connection", seen.code)  # the service signs anew: AWS, whose signatures expire
    reason = REASONS.get(category)
    if reason is None or (reason, seen.reason) == ("rate_limit", "quota"):
        return seen  # quota is the provider's own word where the status says 429
    return Seen(reason, seen.code, seen.retry_after_s)


def _category(frame: ErrorFrame) -> str:
    """Return the value of the frame's category, empty where there is none."""
    value = getattr(getattr(frame, "category", None), "value", "")
    return value if isinstance(value, str) else ""
