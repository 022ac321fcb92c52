"""What OpenAPI cannot see by itself: the problems that each operation may answer, and its pages."""

from http import HTTPStatus
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
        "why": {
            "type": "array",
            "description": "With `no_usable_provider` alone: a line for each step of the route, and"
            " for each other name that the agent gave, as in a decision.",
            "items": {
                "type": "object",
                "properties": {
                    "provider": _TEXT,
                    "verdict": {
                        "type": "string",
                        "enum": ["not_usable", "wrong_language", "disabled"],
                    },
                    "detail": _TEXT,
                },
                "required": ["provider", "verdict", "detail"],
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
    "408": "The body did not come in time.",
    "409": "The state of things is against it.",
    "413": "The body is larger than 256 kB.",
    "415": "The body is not JSON.",
    "422": "This Idempotency-Key came with another order before.",
    "429": "Too fast: wait as long as `Retry-After` says.",
    "500": "A bug of ours.",
    "503": (
        "Redis or the database is away, or too much is asked at once: nothing was taken; ask again"
        " after `Retry-After`."
    ),
}
HEADERS: Final = {
    "401": {"WWW-Authenticate": {"schema": _TEXT}},
    "405": {"Allow": {"schema": _TEXT}},
    "429": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    "503": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}
ALWAYS: Final = frozenset({"400", "401", "403", "405", "429", "500", "503"})
# What a status means of one operation alone.
OF_ONE: Final = {
    ("decide", "503"): (
        "Never for a key and a route that this process knows. It has not read its configuration"
        " yet, or the key or the route may be new and the database does not say."
    )
}
BODY: Final = frozenset({"408", "413", "415"})
ORDER: Final = frozenset({"404", "409", "422"})
ALSO: Final = {
    "decide": BODY | {"404", "409"},
    "report": BODY,
    "provider": {"404"},
    "call": {"404"},
    "set_override": BODY | ORDER,
    "clear_override": ORDER,
    "reset": BODY | ORDER,
}


STRICT: Final = ("DecisionRequest", "Outcome", "OutcomesRequest", "OverrideRequest", "ResetRequest")


REQUEST_ID: Final = "X-Request-Id"
_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"}
COMPONENTS: Final[dict[str, Any]] = {
    "parameters": {
        "RequestId": {
            "in": "header",
            "name": REQUEST_ID,
            "schema": _TEXT,  # one that is of no use is replaced, not refused
            "description": (
                "Yours for this request: 1 to 64 letters, digits, `.`, `_`, `:` or `-`; left out,"
                " or of another form: one is made."
            ),
        }
    },
    "headers": {
        "RequestId": {"schema": _ID, "description": "Of this request, as in the server's log."}
    },
}
EXTRA: Final[dict[str, dict[str, Any]]] = {
    "status": {"ETag": {"schema": _TEXT, "description": "For `If-None-Match`."}},
    **{
        order: {
            "Idempotent-Replayed": {
                "schema": {"type": "string", "enum": ["true"]},
                "description": "An answer that was given before is repeated.",
            }
        }
        for order in ("set_override", "clear_override", "reset")
    },
}


def _response(status: str, name: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": OF_ONE.get((name, status), PHRASES[status]),
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return {**response, "headers": HEADERS[status]} if status in HEADERS else response


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add to each operation what the generator does not see: its summary, who may call it, the
    problems it may answer in their one shape, and the id of a request."""
    components = result["components"]
    components["schemas"]["Problem"] = PROBLEM
    components.update(COMPONENTS)
    for name in STRICT:
        components["schemas"][name]["additionalProperties"] = False
    for path in result["paths"].values():
        for method, operation in path.items():
            _complete(method, operation)
    _drop_marks(result)
    return result


def _complete(method: str, operation: dict[str, Any]) -> None:
    name, responses = operation["operationId"], operation["responses"]
    operation["summary"] = operation["description"].split("\n")[0].rstrip(".")
    # A session reads; nothing is asked for without either.
    operation["security"] = [{"key": []}, *([{"session": []}] if method == "get" else [])]
    operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
    for status, response in responses.items():
        response["description"] = response.get("description") or HTTPStatus(int(status)).phrase
        if status == "200" and name in EXTRA:
            response["headers"] = EXTRA[name]
    problems = ALWAYS | ALSO.get(name, set())
    responses.update({status: _response(status, name) for status in sorted(problems)})
    for status, response in responses.items():
        known = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}
        responses[status] = {**response, "headers": {**response.get("headers", {}), **known}}


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
