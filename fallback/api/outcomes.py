"""`POST /api/v1/outcomes`: what agents saw of providers in calls."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import services
from fallback.api import examples, parsing, throttling
from fallback.api.authentication import AGENTS, caller_of
from fallback.api.base import ApiView
from fallback.api.fields import (
    CALL_ID_MAX,
    OPTIONAL,
    Checked,
    FreeText,
    Seconds,
    Text,
    Whole,
    Word,
)
from fallback.api.texts import clean
from fallback.domain import (
    LIMITS,
    Effect,
    Mode,
    NextAction,
    Outcome,
    OutcomeKind,
    Reason,
    Result,
    Status,
)
from fallback.errors import Invalid

OUTCOME_ID_MAX: Final = 256
OUTCOMES_A_REQUEST: Final = 10  # so many more in a batch are charged as one more request


class Source(StrEnum):
    """Where a decision came from that was taken without the server."""

    PUSHED = "pushed"
    LAST_KNOWN = "last_known"
    LOCAL_CHAIN = "local_chain"


class Batch(serializers.ListField):
    """A list whose entries stand for themselves: each becomes its checked fields, or Invalid."""

    child: Checked

    default_error_messages = {
        "required": "is required: a list of 1 to 100 outcomes",
        "not_a_list": "must be a list of 1 to 100 outcomes",
        "min_length": "is empty: send 1 to 100 outcomes",
        "max_length": "has too many entries: send at most {max_length} in one request",
    }

    def run_child_validation(self, data: Any) -> Any:
        """Check each entry by itself."""
        return [self._tried(entry, f"outcomes.{index}") for index, entry in enumerate(data)]

    def _tried(self, entry: object, where: str) -> dict[str, Any] | Invalid:
        try:
            return parsing.checked(self.child, entry, where)
        except Invalid as invalid:
            return invalid


class OutcomeView(ApiView):
    """Outcomes come in batches, and a wrong one costs no other."""

    roles = {"POST": AGENTS}

    @extend_schema_serializer(component_name="OutcomesRequest")
    class Asked(Checked):
        """The envelope."""

        @extend_schema_serializer(component_name="Outcome")
        class Seen(Checked):
            """What an agent saw of one provider in one call."""

            id = Text(OUTCOME_ID_MAX, help_text="Unique for ever: sent twice, it counts once.")
            call_id = Text(CALL_ID_MAX)
            provider = Text()
            kind = Word(OutcomeKind)
            reason = Word(Reason, **OPTIONAL, help_text="Why it failed.")
            code = FreeText(64, **OPTIONAL)
            message = FreeText(500, **OPTIONAL)
            age_ms = Whole(**OPTIONAL, min_value=0, help_text="How long ago it was seen.")
            latency_ms = Whole(**OPTIONAL, min_value=0, max_value=3_600_000)
            lease = Text(OUTCOME_ID_MAX, **OPTIONAL, help_text="As the decision gave it.")
            host = FreeText(128, **OPTIONAL)
            route = Text(**OPTIONAL)
            retry_after_s = Seconds(
                **OPTIONAL,
                min_value=0,
                max_value=86_400,
                help_text="When the provider asked to come back. Obeyed with `rate_limit` alone, up"
                " to 300 s; with another reason it is ignored.",
            )
            mode = Word(Mode, **OPTIONAL, help_text="Of a `started`.")
            source = Word(  # type: ignore[assignment] # a field may be named as a field's attribute
                Source, **OPTIONAL, help_text="Of a `started`: what it was decided from."
            )

        outcomes = Batch(child=Seen(), min_length=1, max_length=100)

    @extend_schema_serializer(component_name="OutcomesResponse")
    class Answer(serializers.Serializer[Any]):
        """What became of each outcome, in the order they came."""

        @extend_schema_serializer(component_name="OutcomeResult")
        class Became(serializers.Serializer[Any]):
            """What became of one. `detail` says what is wrong with an invalid one."""

            @extend_schema_serializer(component_name="OutcomeNext")
            class Then(serializers.Serializer[Any]):
                """What the agent should do now; `provider` only where it should swap."""

                action = serializers.ChoiceField(choices=list(NextAction))
                provider = serializers.CharField(allow_null=True)

            id = serializers.CharField(allow_null=True)
            status = serializers.ChoiceField(choices=list(Status))
            counted = serializers.BooleanField()
            effect = serializers.ChoiceField(choices=list(Effect))
            next = Then(allow_null=True)
            detail = serializers.CharField(required=False)

        results = Became(many=True)
        version = serializers.IntegerField()

    asked = Asked()

    @extend_schema(
        operation_id="report", request=Asked, responses=Answer, examples=examples.OUTCOMES
    )
    def post(self, request: Request) -> Response:
        """Report what was seen.

        Safe to send again: an id counts once, and so does a provider's failure in one call.
        `detail` of an invalid one says what is wrong with it; the others still count. An API key
        that is bound to routes reports on those and their providers alone (403, or `invalid` where
        others of the batch are its own).
        """
        raw = parsing.read_json(request)
        batch = parsing.checked(self.asked, raw)["outcomes"]
        seen = list(_outcomes(batch))
        caller = caller_of(request)
        if wait_s := throttling.wait_s("caller", caller.actor, len(batch) // OUTCOMES_A_REQUEST):
            raise Throttled(wait=wait_s)
        results, version = services.report_outcomes(seen, by=caller.actor, routes=caller.routes)
        return Response({"results": _answers(raw, batch, results), "version": version})


def _outcomes(batch: Sequence[dict[str, Any] | Invalid]) -> Iterator[Outcome]:
    """Yield the good ones. An agent that does not say why a stream stalled said it by the kind."""
    for fields in batch:
        if isinstance(fields, Invalid):
            continue
        default = Reason.STALL if fields["kind"] == OutcomeKind.STALL else Reason.UNKNOWN
        age_ms = min(fields.get("age_ms", 0), LIMITS["age_ms"])
        yield Outcome(**{"reason": default, **fields, "age_ms": age_ms})


def _answers(raw: Any, batch: Sequence[Any], results: Sequence[Result]) -> list[dict[str, Any]]:
    """Put the results of the good ones and the errors of the bad ones back in order."""
    good = iter(results)
    return [
        _refused(sent, fields) if isinstance(fields, Invalid) else _rendered(next(good))
        for sent, fields in zip(raw["outcomes"], batch, strict=True)
    ]


def _refused(sent: object, invalid: Invalid) -> dict[str, Any]:
    sent_id = sent.get("id") if isinstance(sent, dict) else None
    return {
        "id": clean(sent_id, OUTCOME_ID_MAX) if isinstance(sent_id, str) else None,
        "status": Status.INVALID,
        "counted": False,
        "effect": Effect.NONE,
        "next": None,
        "detail": str(invalid),
    }


def _rendered(result: Result) -> dict[str, Any]:
    then = result.next
    rendered = {
        "id": result.id,
        "status": result.status,
        "counted": result.counted,
        "effect": result.effect,
        "next": {"action": then.action, "provider": then.provider} if then else None,
    }
    return {**rendered, "detail": result.detail} if result.detail else rendered
