"""The request log: one line a request, with no query string, for secrets are sent in them.

Health checks and static files that went well are told at level debug only.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from django.http import HttpRequest
from django.utils.functional import LazyObject

log = structlog.get_logger("request")

QUIET: Final = ("/livez", "/readyz", "/static/")
PATH_MAX: Final = 200


def mark(scope: Mapping[str, Any], request_id: str) -> None:
    """Mark all lines from now on, in this task and the threads it waits for, with the request's id
    and whose address sent it, as the web server says."""
    client = scope.get("client")
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id, ip=client[0] if client else None)


class Line:
    """One request's line, begun when it arrives."""

    def __init__(self, scope: Mapping[str, Any], request_id: str) -> None:
        self._began_s = time.perf_counter()
        self._scope = scope
        mark(scope, request_id)

    def end(self, status: int, request: HttpRequest | None) -> None:
        """Write it. `by` is who asked, where the request got that far."""
        path: str = self._scope["path"]
        log.log(
            _level(path, status),
            "request",
            method=self._scope["method"],
            path=path[:PATH_MAX],
            status=status,
            ms=round((time.perf_counter() - self._began_s) * 1000, 1),
            by=_by(request),
        )


def _level(path: str, status: int) -> int:
    if status >= 500:
        return logging.ERROR
    if status >= 400:
        return logging.WARNING
    return logging.DEBUG if path.startswith(QUIET) else logging.INFO


def _by(request: HttpRequest | None) -> str | None:
    """Name who asked, without a query: a session that no view looked at stays unread."""
    if request is None:
        return None
    user: Any = getattr(request, "_cached_user", None) or getattr(request, "user", None)
    if user is None or isinstance(user, LazyObject):
        return None
    if hasattr(user, "actor"):  # whoever REST authenticated
        return str(user.actor)
    return f"admin:{user.get_username()}" if user.is_authenticated else None
