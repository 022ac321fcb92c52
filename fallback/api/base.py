"""The order of things for every request: who, how fast, may they, then the view's own method."""

from typing import Any, ClassVar

import structlog
from rest_framework import exceptions
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fallback import keys
from fallback.api import parsing, throttling
from fallback.api.authentication import BearerKey, Caller, StaffSession, refuse
from fallback.api.fields import Checked
from fallback.domain import Kind
from fallback.errors import Invalid, Problem


class JsonOnly(BaseContentNegotiation):
    """Answer in JSON whatever `Accept` says: a refusal would help nobody."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """Return the one there is."""
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        """Return the one there is."""
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """A resource. `roles` says who may do what: method -> roles; GET stands for HEAD too."""

    roles: ClassVar[dict[str, frozenset[str]]] = {}
    authentication_classes = [BearerKey, StaffSession]
    content_negotiation_class = JsonOnly

    def check_permissions(self, request: Request) -> None:
        """Charge the caller, then hold the method's roles against theirs."""
        caller: object = request.user
        if not isinstance(caller, Caller):
            refuse(request, keys.Refusal.MISSING)
        structlog.contextvars.bind_contextvars(user_id=caller.pk)
        if wait_s := throttling.wait_s("caller", caller.actor):
            raise exceptions.Throttled(wait=wait_s)
        allowed = self.roles.get(self._method(request))
        if allowed is not None and caller.role not in allowed:
            raise exceptions.PermissionDenied(
                f"A key of role {caller.role} may not do this; "
                f"it takes {' or '.join(sorted(allowed))}."
            )

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Say which methods there are, in `Allow`; the schema says the rest."""
        return Response(status=204)

    def body(self, request: Request, serializer: Checked) -> dict[str, Any]:
        """Return the checked body. Raises Invalid, TooLarge or WrongMediaType."""
        return parsing.checked(serializer, parsing.read_json(request))

    def query(self, request: Request, serializer: Checked) -> dict[str, Any]:
        """Return the checked query, unknown names refused: a misspelled filter filters nothing."""
        return parsing.checked(serializer, request.query_params.dict())

    def kind(self, request: Request) -> Kind:
        """Return `?kind=`, `stt` when it is left out."""
        word = request.query_params.get("kind", Kind.STT)
        if word in list(Kind):
            return Kind(word)
        right = f"must be one of {', '.join(Kind)}"
        raise Invalid(f"kind {right}.", [Problem("kind", right)])

    @staticmethod
    def _method(request: Request) -> str:
        return "GET" if request.method == "HEAD" else request.method or ""
