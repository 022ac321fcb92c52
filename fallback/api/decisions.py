"""`POST /api/v1/decisions`: which provider for this call?"""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import services
from fallback.api import examples
from fallback.api.authentication import AGENTS, caller_of
from fallback.api.base import ApiView
from fallback.api.fields import (
    CALL_ID_MAX,
    OPTIONAL,
    Checked,
    Flag,
    FreeText,
    Language,
    Moment,
    Names,
    Text,
)
from fallback.domain import Decision, MidCallAction, Mode, Question, Verdict, Why
from fallback.times import rfc3339


class DecisionView(ApiView):
    """A decision is always given, whatever is away."""

    roles = {"POST": AGENTS}

    @extend_schema_serializer(component_name="DecisionRequest")
    class Asked(Checked):
        """What an agent asks."""

        route = Text(help_text="The slug of the route.")
        call_id = Text(CALL_ID_MAX, help_text="The same in every request of one call.")
        language = Language(**OPTIONAL, help_text="What the caller speaks, as far as is known.")
        can_use = Names(
            **OPTIONAL,
            help_text="Providers that this agent has code and credentials for; left out: all.",
        )
        failed = Names(**OPTIONAL, help_text="Providers that already failed in this call.")
        host = FreeText(128, **OPTIONAL)
        probe = Flag(**OPTIONAL, help_text="false keeps the call from being a probe.")

    @extend_schema_serializer(component_name="Decision")
    class Answer(serializers.Serializer[Any]):
        """What to use now, the whole order to try, and why."""

        @extend_schema_serializer(component_name="DecisionStep")
        class Step(serializers.Serializer[Any]):
            """One provider, with its settings for this route."""

            provider = serializers.CharField()
            settings = serializers.DictField()

        @extend_schema_serializer(component_name="DecisionProbe")
        class Probe(serializers.Serializer[Any]):
            """The right to be a probe: send the lease with the call's outcomes."""

            lease = serializers.CharField()
            expires_at = Moment()
            expires_in_s = serializers.FloatField()

        @extend_schema_serializer(component_name="DecisionWhy")
        class Reason(serializers.Serializer[Any]):
            """What was found for one step."""

            provider = serializers.CharField()
            verdict = serializers.ChoiceField(choices=list(Verdict))
            until = Moment(required=False)
            detail = serializers.CharField(required=False)

        call_id = serializers.CharField()
        route = serializers.CharField()
        provider = serializers.CharField()
        mode = serializers.ChoiceField(choices=list(Mode))
        order = Step(many=True)
        probe = Probe(allow_null=True)
        on_mid_call_failure = serializers.ChoiceField(choices=list(MidCallAction))
        why = Reason(many=True)
        degraded = serializers.BooleanField()
        version = serializers.IntegerField()
        decided_at = Moment()

    asked = Asked()

    @extend_schema(
        operation_id="decide", request=Asked, responses=Answer, examples=examples.DECISION
    )
    def post(self, request: Request) -> Response:
        """Which provider should this call use?

        The answer holds every usable step, best first, so that an agent can swap without asking
        again. The same call asking again is given the same provider while that one still admits
        it and did not fail in it. An API key that is bound to routes asks for those alone (403).
        """
        question = Question(**self.body(request, self.asked))
        caller = caller_of(request)
        made = services.make_decision(question, by=caller.actor, routes=caller.routes)
        return Response(rendered(made))


def rendered(decision: Decision) -> dict[str, Any]:
    """Return a decision as the contract writes it."""
    return {
        "call_id": decision.call_id,
        "route": decision.route.slug,
        "provider": decision.provider,
        "mode": decision.mode,
        "order": [
            {"provider": step.provider.slug, "settings": step.settings} for step in decision.order
        ],
        "probe": _probe(decision),
        "on_mid_call_failure": decision.route.on_mid_call_failure,
        "why": [_why(why) for why in decision.why],
        "degraded": decision.degraded,
        "version": decision.version,
        "decided_at": rfc3339(decision.decided_at_ms),
    }


def _probe(decision: Decision) -> dict[str, Any] | None:
    """Return the lease; its end also as seconds from now, for clocks that differ from ours."""
    until_ms = decision.lease_until_ms
    if not decision.lease or until_ms is None:
        return None
    left_s = max(0, until_ms - decision.decided_at_ms) / 1000
    return {"lease": decision.lease, "expires_at": rfc3339(until_ms), "expires_in_s": left_s}


def _why(why: Why) -> dict[str, Any]:
    line: dict[str, Any] = {"provider": why.provider, "verdict": why.verdict}
    if why.until_ms is not None:
        line["until"] = rfc3339(why.until_ms)
    if why.detail:
        line["detail"] = why.detail
    return line
