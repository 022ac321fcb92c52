"""How long a refused request asks to wait: its `Retry-After`, and no other header.

Read from a response only. An exception's own `headers` may be the *request's*, with the key in
them: deepgram-sdk 7.17 puts those into its ApiError when a WebSocket is refused. The response is
then in the exception that it was raised from.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from stt_guard.classify.reading import chain, read, status_of, type_names

LONGEST_S: Final = 300.0  # what the server obeys at most
NAME: Final = "Retry-After"
# Whose own `headers` are the response's: aiohttp's errors, and websockets' of the legacy client.
_OF_A_RESPONSE: Final = frozenset({"ClientResponseError", "InvalidStatusCode"})


def retry_after_s(error: BaseException) -> float | None:
    """Return the wait in seconds, 0 to 300, that the refusal or what is beneath it asks for."""
    for one in chain(error):
        if status_of(one) not in (429, 503):
            continue
        for headers in _response_headers(one):
            wait_s = _seconds(_value(headers))
            if wait_s is not None:
                return wait_s
    return None


def bounded(wait_s: float) -> float:
    """Return a wait of 0 to 300 seconds."""
    return min(max(wait_s, 0.0), LONGEST_S)


def _response_headers(error: BaseException) -> Iterator[Any]:
    response = read(error, "response")
    if response is not None:
        yield read(response, "headers")
    if _OF_A_RESPONSE & type_names(error):
        yield read(error, "headers")


def _value(headers: Any) -> str | None:
    """Ask for the one header by its name; two of them are as good as none."""
    getter = read(headers, "get")
    try:
        value = getter(NAME) if callable(getter) else None
    except Exception:
        return None
    return value if isinstance(value, str) and len(value) <= 64 else None


def _seconds(value: str | None) -> float | None:
    """Parse RFC 9110's `Retry-After`: a number of seconds, or a date by this host's clock."""
    if value is None:
        return None
    try:
        wait_s = float(value)
    except ValueError:
        return _until(value)
    return bounded(wait_s) if math.isfinite(wait_s) and wait_s >= 0 else None


def _until(value: str) -> float | None:
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:  # "-0000" is UTC of unknown origin
        when = when.replace(tzinfo=UTC)
    return bounded((when - datetime.now(UTC)).total_seconds())
