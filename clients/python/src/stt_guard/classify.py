"""What an error means: from exceptions, statuses and codes to the contract's `reason`.

One table for what all providers share, and one per provider for what is its own, each with its
source. Only types, statuses and codes are read, never `str(error)`: it may hold headers and keys.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stt_guard.words import Reason, Seen

# RFC 9110 and RFC 6585; 402 is the speech providers' word for an empty balance.
BY_STATUS: Final[Mapping[int, Reason]] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "auth",
    404: "bad_request",
    408: "timeout",
    413: "bad_request",
    415: "bad_request",
    422: "bad_request",
    429: "rate_limit",
    504: "timeout",
}

# RFC 6455, 7.4.1. 1006 is never on the wire: it says that the socket was lost without a close.
BY_CLOSE_CODE: Final[Mapping[int, Reason]] = {
    1003: "bad_request",
    1006: "connection",
    1007: "bad_request",
    1008: "unknown",  # "policy": a key, a limit, a format; auth would trip the fleet at once
    1009: "bad_request",
    1011: "stream",
    1012: "stream",
    1013: "rate_limit",
}


@dataclass(frozen=True, slots=True)
class Table:
    """What one provider says in its own words: `codes` are error codes and names, lower case.

    `closes` are close codes with their reason, as `1011:NET-0001`; they win over BY_CLOSE_CODE.
    """

    source: str
    codes: Mapping[str, Reason] = field(default_factory=dict)
    closes: Mapping[str, Reason] = field(default_factory=dict)


TABLES: Final[Mapping[str, Table]] = {
    "deepgram": Table(
        # Its 1008 is a payload it cannot decode, and NET-0001 is our silence: our side, not its.
        source="https://developers.deepgram.com/docs/stt-troubleshooting-websocket-data-and-net-errors",
        codes={
            "invalid_auth": "auth",
            "insufficient_permissions": "auth",
            "asr_payment_required": "quota",
            "too_many_requests": "rate_limit",
            "net-0000": "stream",
            "net-0001": "bad_request",
            "data-0000": "bad_request",
        },
        closes={
            "1008": "bad_request",
            "1008:DATA-0000": "bad_request",
            "1011:NET-0000": "stream",
            "1011:NET-0001": "bad_request",
            "1011:DATA-0000": "bad_request",
        },
    ),
    "soniox": Table(
        # An in-band error_code is an HTTP status; 503 asks the client to start the request again.
        source="https://soniox.com/docs/stt/rt/error-handling",
        codes={"408": "bad_request"},  # "Request timeout": no audio came from us
    ),
    "sarvam": Table(
        source="https://docs.sarvam.ai/api-reference-docs/errors",
        codes={
            "invalid_api_key_error": "auth",
            "insufficient_quota_error": "quota",
            "rate_limit_exceeded_error": "rate_limit",
            "invalid_request_error": "bad_request",
            "unprocessable_entity_error": "bad_request",
            "internal_server_error": "server_error",
        },
    ),
    "openai": Table(
        # insufficient_quota comes with the status 429, which would else be a rate limit.
        source="https://platform.openai.com/docs/guides/error-codes",
        codes={
            "invalid_api_key": "auth",
            "insufficient_quota": "quota",
            "rate_limit_exceeded": "rate_limit",
            "model_not_found": "bad_request",
            "invalid_request_error": "bad_request",
            "session_expired": "stream",
            "server_error": "server_error",
        },
    ),
    "google": Table(
        # gRPC's status names; out_of_range is a stream past its longest time, or real-time audio
        # that came too slowly.
        source="https://cloud.google.com/speech-to-text/docs/error-messages",
        codes={
            "unauthenticated": "auth",
            "permission_denied": "auth",
            "resource_exhausted": "rate_limit",
            "invalid_argument": "bad_request",
            "not_found": "bad_request",
            "failed_precondition": "bad_request",
            "unimplemented": "bad_request",
            "out_of_range": "stream",
            "aborted": "stream",
            "cancelled": "stream",
            "deadline_exceeded": "timeout",
            "unavailable": "connection",
            "internal": "server_error",
            "data_loss": "server_error",
            "unknown": "server_error",
        },
    ),
}
_NONE: Final = Table("")


def classify(error: BaseException | None, provider: str = "") -> Seen:
    """Return what an exception means, by the provider's table first; `unknown` for None.

    Looks through what it was raised from, so that a library's own wrapper hides nothing.
    """
    table = _table(provider)
    if isinstance(error, asyncio.CancelledError):  # deeper down it is how a timeout works
        return Seen("cancelled")
    best, seen_before = Seen(), set[int]()
    while error is not None and id(error) not in seen_before:
        seen_before.add(id(error))
        found = _one(error, table)
        if found.code or isinstance(error, OSError):  # TimeoutError is one
            return found
        best = found if best.reason == "unknown" else best
        error = error.__cause__ or error.__context__  # a suppressed one too: only types are read
    return best


def from_status(status: int, provider: str = "", retry_after_s: float | None = None) -> Seen:
    """Return what an HTTP status, or an in-band code that is one, means."""
    own = _table(provider).codes.get(str(status))
    reason = own or BY_STATUS.get(status)
    if reason is None:
        reason = "server_error" if 500 <= status < 600 else "unknown"
    wait_s = retry_after_s if reason == "rate_limit" else None
    return Seen(reason, str(status), wait_s)


def from_close(code: int, text: str = "", provider: str = "") -> Seen:
    """Return what a WebSocket close code means, with the word that came with it."""
    closes = _table(provider).closes
    word = text.split(" ", 1)[0].rstrip(".:;,") if text else ""
    own = closes.get(f"{code}:{word}") or closes.get(str(code))
    shown = f"{code} {word}" if f"{code}:{word}" in closes else str(code)
    return Seen(own or BY_CLOSE_CODE.get(code, "connection"), shown)


def _table(provider: str) -> Table:
    """Return the provider's table; `deepgram-eu` is one of Deepgram's."""
    return TABLES.get(provider) or TABLES.get(provider.partition("-")[0]) or _NONE


def _one(error: BaseException, table: Table) -> Seen:
    """Judge one exception by itself: its own code, its close code, its status, then its type."""
    provider = next((name for name, known in TABLES.items() if known is table), "")
    if hasattr(error, "rcvd"):  # websockets.ConnectionClosed
        close: Any = error.rcvd
        return from_close(close.code, str(close.reason), provider) if close else from_close(1006)
    for name in _code_names(error):
        if name in table.codes:
            return Seen(table.codes[name], name, _retry_after_s(error))
    status = _status(error)
    if status is not None:
        return from_status(status, provider, _retry_after_s(error))
    return Seen(_by_type(error))


def _by_type(error: BaseException) -> Reason:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionError | OSError | EOFError | ssl.SSLError):
        return "connection"
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"APITimeoutError", "ConnectTimeout", "ReadTimeout", "DeadlineExceeded"}:
        return "timeout"
    if names & {"ConnectionClosed", "ClientConnectionError", "APIConnectionError", "ConnectError"}:
        return "connection"
    return "unknown"


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that the usual clients keep in these places (httpx, aiohttp, SDKs)."""
    response = getattr(error, "response", None)
    for holder, name in (
        (response, "status_code"),
        (response, "status"),
        (error, "status_code"),
        (error, "status"),
        (error, "code"),
    ):
        value = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    return None


def _code_names(error: BaseException) -> list[str]:
    """Return the provider's own names of the error: OpenAI's `code`, gRPC's status, Deepgram's."""
    body = getattr(error, "body", None)
    body = body if isinstance(body, dict) else {}
    inner = body.get("error")
    inner = inner if isinstance(inner, dict) else {}
    grpc = getattr(error, "grpc_status_code", None)
    candidates: list[Any] = [
        getattr(error, "code", None),
        body.get("err_code"),
        body.get("code"),
        inner.get("code"),
        getattr(grpc, "name", None),
        getattr(error, "status_code", None),
    ]
    return [str(name).lower() for name in candidates if isinstance(name, str | int)]


def _retry_after_s(error: BaseException) -> float | None:
    """Return the `Retry-After` of a refused request, in seconds; an HTTP date is not read."""
    holders = (getattr(error, "response", None), error)
    for headers in (getattr(holder, "headers", None) for holder in holders):
        getter = getattr(headers, "get", None)
        text = getter("retry-after") or getter("Retry-After") if callable(getter) else None
        try:
            if text is not None and 0 <= float(text) <= 86_400:
                return float(text)
        except (TypeError, ValueError):
            continue
    return None
