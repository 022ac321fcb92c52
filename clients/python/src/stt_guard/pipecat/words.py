"""What Pipecat's errors mean in the contract's words. Its category wins over the exception."""

from collections.abc import Mapping
from typing import Final

from pipecat.frames.frames import ErrorFrame
from pipecat.utils.errors import ErrorCategory

from stt_guard.classify import classify
from stt_guard.words import Reason, Seen

REASONS: Final[Mapping[ErrorCategory, Reason]] = {
    ErrorCategory.AUTHENTICATION: "auth",
    ErrorCategory.AUTHORIZATION: "auth",
    ErrorCategory.INVALID_REQUEST: "bad_request",
    ErrorCategory.QUOTA: "quota",
    ErrorCategory.RATE_LIMIT: "rate_limit",
    ErrorCategory.SERVER: "server_error",
}
MAY_HEAL: Final = frozenset({"server_error", "connection", "stream", "unknown"})


def seen_in(frame: ErrorFrame, provider: str) -> Seen | None:
    """Return what an ErrorFrame says of its provider; None when the application failed.

    CONNECTIVITY and UNKNOWN leave it to the exception, which knows a timeout from a refusal.
    """
    if frame.category is ErrorCategory.APPLICATION:
        return None
    by_exception = classify(frame.exception, provider)
    reason = REASONS.get(frame.category) if frame.category else None
    if reason is None:
        return by_exception
    return Seen(reason, by_exception.code, by_exception.retry_after_s)
