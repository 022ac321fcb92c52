"""`GET /api/v1/status`: all that a dashboard shows, and all that a client needs to decide alone."""

from typing import Any

from django.http import HttpResponseBase
from django.utils.cache import get_conditional_response
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import status
from fallback.api import examples
from fallback.api.authentication import ALL
from fallback.api.base import ApiView
from fallback.api.fields import Moment
from fallback.domain import Kind, MidCallAction, Named, State


@extend_schema_serializer(component_name="Breaker")
class BreakerAnswer(serializers.Serializer[Any]):
    """One provider's breaker as it is now."""

    @extend_schema_serializer(component_name="Override")
    class Order(serializers.Serializer[Any]):
        """An operator's order; `until` null: until somebody clears it."""

        state = serializers.ChoiceField(choices=list(State))
        by = serializers.CharField()
        reason = serializers.CharField()
        until = Moment(allow_null=True)

    provider = serializers.CharField()
    kind = serializers.ChoiceField(choices=list(Kind))
    state = serializers.ChoiceField(choices=list(State))
    since = Moment(allow_null=True)
    until = Moment(allow_null=True, help_text="When the present state is over by itself.")
    cause = serializers.CharField(allow_null=True, help_text="Of the last transition.")
    failures = serializers.IntegerField(help_text="Weighted, within the window.")
    failure_threshold = serializers.IntegerField()
    failure_window_s = serializers.IntegerField()
    trips = serializers.IntegerField(help_text="In a row, without proof of health between.")
    leases = serializers.IntegerField(help_text="Probes under way.")
    probe_slots = serializers.IntegerField()
    override = Order(allow_null=True)
    last_reasons = serializers.DictField(
        child=serializers.IntegerField(), help_text="Failures within the window, by reason."
    )
    keys = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="The same failures by the name of the API key that reported them.",
    )
    held_back = serializers.CharField(
        allow_null=True, help_text="Why failures enough trip nothing: a quorum of keys is missing."
    )
    incident = serializers.IntegerField(
        allow_null=True, help_text="Its number, as soon as it is stored."
    )


class StatusView(ApiView):
    """The one read that everything polls."""

    roles = {"GET": ALL}

    @extend_schema_serializer(component_name="Status")
    class Answer(serializers.Serializer[Any]):
        """Everything as it is now."""

        @extend_schema_serializer(component_name="StatusRoute")
        class Route(serializers.Serializer[Any]):
            """One route, its providers in the order that calls take them now."""

            @extend_schema_serializer(component_name="StatusStep")
            class Step(serializers.Serializer[Any]):
                """One provider of the route. `languages` empty: any."""

                provider = serializers.CharField()
                settings = serializers.DictField()
                languages = serializers.ListField(child=serializers.CharField())
                position = serializers.IntegerField(help_text="In the chain: 1 is the primary.")

            route = serializers.CharField()
            kind = serializers.ChoiceField(choices=list(Kind))
            fallback_enabled = serializers.BooleanField()
            on_mid_call_failure = serializers.ChoiceField(choices=list(MidCallAction))
            order = Step(many=True)

        @extend_schema_serializer(component_name="UnknownName")
        class Unknown(serializers.Serializer[Any]):
            """A name that agents used within 24 hours and that is not configured: calls with it
            run unprotected. `route`, `host`, `by` (whose key): where it was last named; null where
            nobody said."""

            what = serializers.ChoiceField(choices=list(Named))
            name = serializers.CharField()
            route = serializers.CharField(allow_null=True)
            host = serializers.CharField(allow_null=True)
            by = serializers.CharField(allow_null=True)
            last_seen = Moment(help_text="At most two minutes behind.")

        version = serializers.IntegerField(help_text="Only rises.")
        at = Moment()
        verdict = serializers.ChoiceField(choices=["healthy", "degraded", "critical", "unknown"])
        pump_lag_s = serializers.FloatField(
            allow_null=True, help_text="Age of the oldest event not carried yet; null: not known."
        )
        degraded = serializers.BooleanField(help_text="From the last known state: Redis is away.")
        breakers = BreakerAnswer(many=True)
        routes = Route(many=True)
        unknown_names = Unknown(many=True)
        more_unknown_names = serializers.BooleanField(
            help_text="Others were named too: at most 20 are remembered, 10 of one API key."
        )

    @extend_schema(
        operation_id="status",
        parameters=[
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="An ETag.")
        ],
        responses={200: Answer, 304: None},
        examples=examples.STATUS,
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Everything as it is now.

        Send the `ETag` back in `If-None-Match`: 304 as long as there is no news.
        """
        now = status.current()
        headers = {"ETag": now.etag, "Cache-Control": "private, no-cache"}
        answer = Response(now.body, headers=headers)
        return get_conditional_response(request._request, etag=now.etag, response=answer) or answer
