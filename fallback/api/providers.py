"""`/api/v1/providers/{slug}`: one breaker, and what operators order it to do."""

from collections.abc import Callable
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import catalog, services, status
from fallback.api import examples, idempotency
from fallback.api.authentication import ALL, OPERATORS, caller_of
from fallback.api.base import ApiView
from fallback.api.fields import OPTIONAL, Checked, FreeText, Sentence, Whole, Word
from fallback.api.status import BreakerAnswer
from fallback.domain import OVERRIDE_STATES, BreakerView, Kind, State

KIND: Final = OpenApiParameter(
    "kind", str, enum=list(Kind), default=Kind.STT, description="Of the provider."
)
KEY: Final = OpenApiParameter(
    idempotency.HEADER,
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
    OpenApiParameter.HEADER,
    description="Any text of your own: sent again within a day, the answer is repeated.",
)


class ProviderView(ApiView):
    """One breaker."""

    roles = {"GET": ALL}

    @extend_schema(operation_id="provider", parameters=[KIND], responses=BreakerAnswer)
    def get(self, request: Request, slug: str) -> Response:
        """One provider's breaker as it is now."""
        return Response(status.provider_status(self.kind(request), slug))


class OrderView(ApiView):
    """What overrides and resets have in common: an order is signed, carried out once, shown."""

    def carry_out(
        self, request: Request, slug: str, verb: Callable[..., BreakerView], order: dict[str, Any]
    ) -> Response:
        """Have `services` do it and answer with the breaker as it then is."""
        kind, caller = self.kind(request), caller_of(request)
        services.check_provider(kind, slug, catalog.current(), caller.routes)

        def act() -> dict[str, Any]:
            view = verb(kind, slug, **order, by=caller.actor)
            return status.shown_breaker(view)

        return idempotency.once(request, order, act)


class OverrideView(OrderView):
    """An operator's order that stands until it ends or is cleared."""

    roles = {"PUT": OPERATORS, "DELETE": OPERATORS}

    @extend_schema_serializer(component_name="OverrideRequest")
    class Asked(Checked):
        """What the breaker should do, for how long, and why."""

        state = Word(State, only=OVERRIDE_STATES)
        for_s = Whole(
            **OPTIONAL,
            min_value=1,
            max_value=services.OVERRIDE_MAX_S,
            help_text="Seconds until it ends by itself; left out: until somebody clears it.",
        )
        reason = Sentence(services.REASON_MAX)

    class Cleared(Checked):
        """What a query may hold that clears an override."""

        kind = Word(Kind, **OPTIONAL)
        reason = FreeText(services.REASON_MAX, **OPTIONAL)

    asked, cleared = Asked(), Cleared()

    @extend_schema(
        operation_id="set_override",
        parameters=[KIND, KEY],
        request=Asked,
        responses=BreakerAnswer,
        examples=examples.OVERRIDE,
    )
    def put(self, request: Request, slug: str) -> Response:
        """Force the breaker open or closed, or have it only watch (`shadow`)."""
        order = {"for_s": None, **self.body(request, self.asked)}
        return self.carry_out(request, slug, services.set_override, order)

    @extend_schema(
        operation_id="clear_override",
        parameters=[KIND, KEY, OpenApiParameter("reason", str, description="Why.")],
        request=None,
        responses={200: BreakerAnswer},
    )
    def delete(self, request: Request, slug: str) -> Response:
        """Give the breaker back to itself; nothing happens if there is no override."""
        reason = self.query(request, self.cleared).get("reason", "")
        return self.carry_out(request, slug, services.clear_override, {"reason": reason})


class ResetView(OrderView):
    """Start anew: closed, nothing counted."""

    roles = {"POST": OPERATORS}

    @extend_schema_serializer(component_name="ResetRequest")
    class Asked(Checked):
        """Why."""

        reason = Sentence(services.REASON_MAX)

    asked = Asked()

    @extend_schema(
        operation_id="reset", parameters=[KIND, KEY], request=Asked, responses=BreakerAnswer
    )
    def post(self, request: Request, slug: str) -> Response:
        """Close the breaker and forget its failures."""
        return self.carry_out(request, slug, services.reset_breaker, self.body(request, self.asked))
