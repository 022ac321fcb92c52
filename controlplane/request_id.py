"""The id of a request: `X-Request-Id` as it was sent if it is well formed, else a new one.

It is in each log line of the request, comes back on the answer, and is in every problem document.
"""

import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

HEADER: Final = "X-Request-Id"
WELL_FORMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def chosen(sent: str) -> str:
    """Return what was sent, if it is 1 to 64 letters, digits, `.`, `_`, `:` or `-`; or a new id."""
    return sent if WELL_FORMED.fullmatch(sent) else uuid.uuid4().hex


def sent_in(scope: Mapping[str, Any]) -> str:
    """Return the id of a request as the server passes it on, before there is an object of it."""
    sent = (value for name, value in scope["headers"] if name == b"x-request-id")
    return chosen(str(next(sent, b""), "latin-1"))


def of(request: Any) -> str:
    """Return the id of this request, Django's or REST framework's; the first to ask gives it."""
    request = getattr(request, "_request", request)
    known: str | None = getattr(request, "request_id", None)
    if known is None:
        known = chosen(request.headers.get(HEADER, ""))
        give(request, known)
    return known


def give(request: Any, known: str) -> None:
    """Have the request carry its id."""
    request.request_id = known
