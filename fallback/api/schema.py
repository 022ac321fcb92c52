"""What OpenAPI cannot see by itself: the problems that each operation may answer, and its pages."""

from typing import Any, Final

from django.http import HttpResponse
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.views import APIView

from controlplane.problem import CONTENT_TYPE

_TEXT: Final = {"type": "string"}
PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457. `code` is for programs, `detail` for people.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": {"type": "string", "format": "uri-reference"},
        "code": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": _TEXT, "detail": _TEXT, "code": _TEXT},
                "required": ["field", "detail", "code"],
            },
        },
        "request_id": {"type": "string", "description": "As in `X-Request-Id` and in the log."},
    },
    "required": [
        "type",
        "title",
        "status",
        "detail",
        "instance",
        "code",
        "errors",
        "request_id",
    ],
}

PHRASES: Final = {
    "400": "Something in it is wrong: `errors` says what, where, and what would be right.",
    "401": "No API key, or not a valid one.",
    "403": "The key's role may not do this.",
    "404": "There is no such route, provider or call.",
    "405": "There is no such method here.",
    "409": "The state of things is against it.",
    "413": "The body is larger than 256 kB.",
    "415": "The body is not JSON.",
    "422": "This Idempotency-Key came with another order before.",
    "429": "Too fast: wait as long as `Retry-After` says.",
    "500": "A bug of ours.",
    "503": "Redis or the database is away: nothing was taken; ask again after `Retry-After`.",
}
HEADERS: Final = {
    "401": {"WWW-Authenticate": {"schema": _TEXT}},
    "405": {"Allow": {"schema": _TEXT}},
    "429": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    "503": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}
ALWAYS: Final = frozenset({"400", "401", "403", "405", "429", "500"})
BODY: Final = frozenset({"413", "415"})
ORDER: Final = frozenset({"404", "409", "422", "503"})
ALSO: Final = {
    "decide": BODY | {"404", "409"},
    "report": BODY | {"503"},
    "provider": {"404", "503"},
    "call": {"404", "503"},
    "set_override": BODY | ORDER,
    "clear_override": ORDER,
    "reset": BODY | ORDER,
    "transitions": {"503"},
    "incidents": {"503"},
}


STRICT: Final = ("DecisionRequest", "Outcome", "OutcomesRequest", "OverrideRequest", "ResetRequest")


def _response(status: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": PHRASES[status],
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return {**response, "headers": HEADERS[status]} if status in HEADERS else response


def document_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add to each operation the problems that it may answer, and the one shape they have."""
    schemas = result["components"]["schemas"]
    schemas["Problem"] = PROBLEM
    for name in STRICT:
        schemas[name]["additionalProperties"] = False
    for path in result["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict) and "responses" in operation:
                for status in sorted(ALWAYS | ALSO.get(operation["operationId"], set())):
                    operation["responses"][status] = _response(status)
    _drop_marks(result)
    return result


def _drop_marks(value: Any) -> None:
    """Drop the notes that the generator leaves for its own naming of enumerations."""
    if isinstance(value, dict):
        value.pop("x-spec-enum-id", None)
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            _drop_marks(inner)


class Page(APIView):
    """What both pages have in common."""

    authentication_classes = ()

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Say which methods there are: REST framework would describe the page in its own template,
        which there is none of."""
        return HttpResponse(status=204, headers={"Allow": "GET, HEAD, OPTIONS"})


class SchemaView(Page, SpectacularAPIView):
    """`/api/schema/`: for anybody, since it says nothing of this deployment."""


class DocsView(Page, SpectacularSwaggerSplitView):
    """`/api/docs/`: Swagger's page from our own files; its script in a request of its own.

    The content security policy refuses the one inline style of its template, which does no harm.
    """
