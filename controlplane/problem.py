"""The one shape of an error for programs: `application/problem+json` (RFC 9457)."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from django.http import HttpResponse, JsonResponse
from django.utils.encoding import escape_uri_path

CONTENT_TYPE: Final = "application/problem+json"


def response(
    status: int,
    *,
    code: str,
    detail: str,
    path: str,
    request_id: str,
    errors: Iterable[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Build it. `code` is for programs, `detail` a sentence for people; `type` says no more than
    the status, so `title` is the status's own phrase. `request_id` finds it in the log; `more` are
    members that this problem alone has."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": escape_uri_path(path[:500]),
        "code": code,
        "errors": list(errors),
        "request_id": request_id,
        **(more or {}),
    }
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE, headers=headers)
