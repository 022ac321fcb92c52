"""Every error under /api/ as `application/problem+json` (RFC 9457), whoever raised it.

`respond` answers what a view raised; `problem_middleware` answers for what never reached a view:
Django's own 400, 403, 404, 405 and 500. `type` is always `about:blank`, so `title` is the
status's own phrase; `code` is the word for a program, `detail` the sentence for a person, and
`errors` names each wrong field.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import ceil
from typing import Any, Final

import structlog
from asgiref.sync import iscoroutinefunction
from django.core import exceptions as django_exceptions
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.utils.encoding import escape_uri_path
from rest_framework import exceptions

from controlplane import request_id
from controlplane.problem import CONTENT_TYPE
from controlplane.problem import response as document
from fallback import metrics
from fallback.errors import FallbackError, Invalid, NoUsableProvider, Problem, Unavailable

log = structlog.get_logger(__name__)

PREFIX: Final = "/api/"
DATABASE_RETRY_AFTER_S: Final = 5

# What each class of error that is not ours means: status and code.
_FOREIGN: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (exceptions.NotAuthenticated, 401, "not_authenticated"),
    (exceptions.AuthenticationFailed, 401, "bad_key"),
    (exceptions.PermissionDenied, 403, "not_allowed"),
    (exceptions.NotFound, 404, "not_found"),
    (exceptions.MethodNotAllowed, 405, "method_not_allowed"),
    (exceptions.UnsupportedMediaType, 415, "unsupported_media_type"),
    (exceptions.Throttled, 429, "throttled"),
    (exceptions.APIException, 400, "invalid"),
    (Http404, 404, "not_found"),
    (django_exceptions.PermissionDenied, 403, "not_allowed"),
    (django_exceptions.RequestDataTooBig, 413, "too_large"),
    (django_exceptions.BadRequest, 400, "invalid"),
    (django_exceptions.SuspiciousOperation, 400, "invalid"),
)


class TooLarge(FallbackError):  # noqa: N818 - named like the other refusals in `errors`
    """A body over the limit."""

    code = "too_large"
    status = 413


class WrongMediaType(FallbackError):  # noqa: N818 - named like the other refusals in `errors`
    """A body that does not say that it is JSON."""

    code = "unsupported_media_type"
    status = 415


def problem(
    request: HttpRequest,
    status: int,
    *,
    code: str,
    detail: str,
    errors: Iterable[Problem] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Build the one shape every error has, with `more` members of this one alone."""
    return document(
        status,
        code=code,
        detail=detail,
        path=request.path,
        request_id=request_id.of(request),
        errors=[
            {"field": error.field, "detail": error.detail, "code": error.code} for error in errors
        ],
        headers=headers,
        more=more,
    )


def respond(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """Answer an exception that a view raised: the API's one exception handler."""
    request = context["request"]
    if isinstance(error, FallbackError):
        return _own(request, error)
    if isinstance(error, DatabaseError):
        log.warning("database unavailable", path=request.path, error=str(error))
        metrics.degraded("database")
        detail = "The database does not answer; decisions and outcomes go on without it."
        wait = {"Retry-After": str(DATABASE_RETRY_AFTER_S)}
        return problem(request, 503, code="database_unavailable", detail=detail, headers=wait)
    for kind, status, code in _FOREIGN:
        if isinstance(error, kind):
            return _foreign(request, error, status=status, code=code)
    # Nothing above knows it, so it is a bug of ours: the cause goes to the log, not to the caller.
    log.error("unexpected error", method=request.method, path=request.path, exc_info=error)
    metrics.degraded("api")
    return problem(request, 500, code="internal_error", detail=_sentence(request, 500))


def _own(request: HttpRequest, error: FallbackError) -> HttpResponse:
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    return problem(
        request,
        error.status,
        code=error.code,
        detail=str(error),
        errors=error.problems if isinstance(error, Invalid) else (),
        headers=headers,
        more={"why": error.why} if isinstance(error, NoUsableProvider) else None,
    )


def _foreign(request: HttpRequest, error: Exception, *, status: int, code: str) -> HttpResponse:
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait_s := getattr(error, "wait", None):
        headers["Retry-After"] = str(ceil(wait_s))
    detail = getattr(error, "detail", None)
    text = detail if isinstance(detail, str) else _sentence(request, status)
    return problem(request, status, code=code, detail=str(text), headers=headers)


@sync_and_async_middleware
def problem_middleware(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Give Django's own errors under /api/ the shape of ours, in debug mode too."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            return _reshaped(request, await get_response(request))

        return asynchronous

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        return _reshaped(request, get_response(request))

    return synchronous


def _reshaped(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Return `response`, or a problem in its place where an HTML page would stand."""
    status = response.status_code
    if status < 400 or not request.path.startswith(PREFIX):
        return response
    if response.get("Content-Type", "").startswith(CONTENT_TYPE):
        return response
    otherwise = "internal_error" if status >= 500 else "invalid"
    code = next((code for _, known, code in _FOREIGN if known == status), otherwise)
    reshaped = problem(request, status, code=code, detail=_sentence(request, status))
    if allow := response.get("Allow"):
        reshaped["Allow"] = allow
    return reshaped


def _sentence(request: HttpRequest, status: int) -> str:
    """Say what a bare status means here, and what would be right."""
    path = escape_uri_path(request.path[:200])
    if status == 404 and path.endswith("/"):
        return f"There is nothing at {path}; addresses of this API have no slash at the end."
    return {
        400: "The request could not be understood.",
        403: "This is not allowed.",
        404: f"There is nothing at {path}; /api/docs/ lists what there is.",
        405: f"{path} does not take {request.method}.",
        413: "The body is too large.",
    }.get(status, "Something went wrong here; the cause is in the server's log.")
