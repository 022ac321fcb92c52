"""How much of a request's body is taken: no more than its path may need, in memory, in time.

Nothing is ever written to disk. A declared length over the limit is refused before a byte is
read, a body without one as soon as it passes the limit. What all requests hold at once is bounded
too, with a share that only decisions and outcomes may use.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from django.core.exceptions import RequestAborted

KB: Final = 1024
API_MAX: Final = 256 * KB
# The first that fits. A path that takes no body has some slack for clients that send one anyway.
LIMITS: Final = (
    ("/api/", API_MAX),
    ("/slack/", 1024 * KB),
    ("/admin/login/", 16 * KB),  # anybody may send to it
    ("/admin/", 2560 * KB),  # Django's own limit for forms
    ("/orders", 64 * KB),
)
OTHER_MAX: Final = 16 * KB
BODY_S: Final = 10.0  # from the end of the headers to the end of the body
HELD_MAX: Final = 64 * 1024 * KB  # by all requests of one class together

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Refused(Exception):  # noqa: N818 - named by what becomes of the request
    """The body is not taken: an HTTP status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Share:
    """How many bytes the bodies of one class of requests hold together."""

    def __init__(self, most: int = HELD_MAX) -> None:
        self.most, self.held = most, 0


class Body(io.BytesIO):
    """A body in memory; closed, its bytes are given back to its share."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._share, self._taken = share, 0

    def add(self, chunk: bytes, limit: int) -> None:
        """Take some more. Raises Refused past the limit, or when all requests hold too much."""
        self._taken += len(chunk)
        self._share.held += len(chunk)
        if self._taken > limit:
            raise too_large(limit)
        if self._share.held > self._share.most:
            raise Refused(503, "busy", "Too many large requests at once; ask again in a moment.")
        self.write(chunk)

    def close(self) -> None:
        """Forget it. May be called twice."""
        self._share.held -= self._taken
        self._taken = 0
        super().close()


def limit_of(path: str) -> int:
    """Return how many bytes a body may have that is sent to this path."""
    return next((limit for prefix, limit in LIMITS if path.startswith(prefix)), OTHER_MAX)


async def read(scope: Mapping[str, Any], receive: Receive, share: Share) -> Body:
    """Return the whole body, at its beginning; the caller closes it.

    Raises Refused (408, 413, 503), and RequestAborted when the client went away.
    """
    limit = limit_of(scope["path"])
    if _declared(scope) > limit:
        raise too_large(limit)
    body = Body(share)
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestAborted
                body.add(message.get("body", b""), limit)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        body.close()
        text = f"The body did not come within {BODY_S:g} s."
        raise Refused(408, "request_timeout", text) from None
    except BaseException:
        body.close()
        raise
    body.seek(0)
    return body


def too_large(limit: int) -> Refused:
    """Build the refusal of a body over the limit."""
    return Refused(413, "too_large", f"A body may have at most {limit // KB} kB here.")


def _declared(scope: Mapping[str, Any]) -> int:
    """Return the length that the request says it has; 0 where it says none."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value[:20]) if value.isdigit() else 0
    return 0
