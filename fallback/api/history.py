"""What was: why a call got what it got, incidents, and transitions, newest first."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from django.db.models import Model, QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound as BadCursor
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import services
from fallback.api.authentication import ALL, READERS
from fallback.api.base import ApiView
from fallback.api.fields import (
    CALL_ID_MAX,
    OPTIONAL,
    SLUG_MAX,
    Checked,
    Instant,
    Moment,
    QueryNumber,
    Text,
    Word,
)
from fallback.domain import Cause, Kind, State
from fallback.errors import Invalid, NotFound, Problem
from fallback.models import Incident, Transition
from fallback.times import rfc3339

PAGE: Final = 50
PAGE_MAX: Final = 200


class Going(StrEnum):
    """Whether an incident is over."""

    GOING_ON = "going_on"
    OVER = "over"


FILTERS: Final = [
    OpenApiParameter(
        "provider",
        {"type": "string", "maxLength": SLUG_MAX, "pattern": "^[a-z0-9_-]+$"},
        description="One provider's only.",
    ),
    OpenApiParameter("kind", str, enum=list(Kind), description="One kind's only."),
    OpenApiParameter("since", datetime, description="Not before this time (RFC 3339)."),
    OpenApiParameter("until", datetime, description="Before this time (RFC 3339)."),
    OpenApiParameter("cursor", str, description="As `next` and `previous` have it."),
    OpenApiParameter("page_size", {"type": "integer", "minimum": 1, "maximum": PAGE_MAX}),
]

STATE: Final = OpenApiParameter("state", str, enum=list(Going), description="Only those.")


class CallView(ApiView):
    """Why this call got what it got."""

    roles = {"GET": ALL}

    @extend_schema_serializer(component_name="Call")
    class Answer(serializers.Serializer[Any]):
        """A call's decisions and outcomes, oldest first; `provider` is where it is now."""

        call_id = serializers.CharField()
        kind = serializers.ChoiceField(choices=list(Kind))
        provider = serializers.CharField(allow_blank=True)
        entries = serializers.ListField(child=serializers.DictField())

    @extend_schema(operation_id="call", responses=Answer)
    def get(self, request: Request, call_id: str) -> Response:
        """Why did this call get what it got?

        Calls that were diverted, probed or failed are kept for a day; bypassed ones, and those
        whose first provider could not be used, for 15 minutes. Uneventful ones are not kept, so
        that a healthy decision writes nothing: they are a 404 that says so.
        """
        if not 1 <= len(call_id) <= CALL_ID_MAX or not call_id.isprintable():
            raise NotFound(f"A call id has 1 to {CALL_ID_MAX} characters, none of them a control.")
        told = services.explain_call(call_id)
        return Response(told | {"entries": [_shown(entry) for entry in told["entries"]]})


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Write when an entry was as everywhere; a lease is for the call that holds it alone."""
    kept = {name: value for name, value in entry.items() if name not in {"at_ms", "lease"}}
    return {"at": rfc3339(entry["at_ms"])} | kept


class Pages(CursorPagination):
    """Cursor pages: what is new while somebody leafs through them moves nothing."""

    page_size = PAGE
    max_page_size = PAGE_MAX
    page_size_query_param = "page_size"
    max_cursor_length = 1_000

    def decode_cursor(self, request: Request) -> Any:
        """Tell a bad cursor from an address that does not exist.

        Where it points becomes UTC here: a time at the end of the calendar has none.
        """
        try:
            cursor: Any = super().decode_cursor(request)
            if cursor is None or cursor.position is None:
                return cursor
            at = datetime.fromisoformat(str(cursor.position))
            at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
            return cursor._replace(position=at.isoformat())
        except (BadCursor, ValueError, OverflowError):
            right = "must be one that `next` or `previous` gave"
            raise Invalid(f"cursor {right}.", [Problem("cursor", right)]) from None


class HistoryView(ApiView):
    """Rows of one model in cursor pages, filtered. `moment` is the column that time filters use."""

    roles = {"GET": READERS}
    model: ClassVar[type[Model]]
    moment: ClassVar[str]

    class Query(Checked):
        """What may be asked for."""

        provider = Text(**OPTIONAL)
        kind = Word(Kind, **OPTIONAL)
        since = Instant(**OPTIONAL)
        until = Instant(**OPTIONAL)
        cursor = Text(1_000, **OPTIONAL)
        page_size = QueryNumber(**OPTIONAL, min_value=1, max_value=PAGE_MAX)

    asked = Query()

    def page(self, request: Request) -> Response:
        """Return one page of what the query asks for."""
        pages = Pages()
        pages.ordering = (f"-{self.moment}", "-id")
        rows = pages.paginate_queryset(self._filtered(self.query(request, self.asked)), request)
        return pages.get_paginated_response([self.row(row) for row in rows or ()])

    def row(self, row: Any) -> dict[str, Any]:
        """Return one row as the contract writes it."""
        raise NotImplementedError

    def _filtered(self, query: Mapping[str, Any]) -> QuerySet[Any]:
        lookups = {
            "provider": "provider",
            "kind": "kind",
            "since": f"{self.moment}__gte",
            "until": f"{self.moment}__lt",
        }
        wanted = {lookup: query[name] for name, lookup in lookups.items() if name in query}
        return self.model._default_manager.filter(**wanted)


class TransitionView(HistoryView):
    """Changes of state."""

    model, moment = Transition, "at"

    @extend_schema_serializer(component_name="TransitionPage")
    class Answer(serializers.Serializer[Any]):
        """One page; `next` is the older one."""

        @extend_schema_serializer(component_name="Transition")
        class Row(serializers.Serializer[Any]):
            """One change of a breaker's state, or of the order it is under."""

            id = serializers.CharField(help_text="Unique for ever.")
            provider = serializers.CharField()
            kind = serializers.ChoiceField(choices=list(Kind))
            to = serializers.ChoiceField(choices=list(State))
            at = Moment()
            cause = serializers.ChoiceField(choices=list(Cause), allow_blank=True)
            actor = serializers.CharField()
            reason = serializers.CharField()
            evidence = serializers.DictField()
            incident = serializers.IntegerField(allow_null=True)

            def get_fields(self) -> dict[str, Any]:
                """Add `from`, which no class body can hold: the language has it."""
                return {**super().get_fields(), "from": serializers.ChoiceField(list(State))}

        next = serializers.URLField(allow_null=True)
        previous = serializers.URLField(allow_null=True)
        results = Row(many=True)

    @extend_schema(operation_id="transitions", parameters=FILTERS, responses=Answer)
    def get(self, request: Request) -> Response:
        """Changes of state, newest first."""
        return self.page(request)

    def row(self, row: Transition) -> dict[str, Any]:
        """Return one transition."""
        return {
            "id": row.event_id,
            "provider": row.provider,
            "kind": row.kind,
            "from": row.before,
            "to": row.after,
            "at": _moment(row.at),
            "cause": row.cause,
            "actor": row.actor,
            "reason": row.reason,
            "evidence": row.evidence,
            "incident": row.incident_id,
        }


class IncidentView(HistoryView):
    """Outages."""

    model, moment = Incident, "opened_at"

    class Query(HistoryView.Query):
        """What may be asked for."""

        state = Word(Going, **OPTIONAL)

    asked = Query()

    @extend_schema_serializer(component_name="IncidentPage")
    class Answer(serializers.Serializer[Any]):
        """One page; `next` is the older one."""

        @extend_schema_serializer(component_name="Incident")
        class Row(serializers.Serializer[Any]):
            """All that happened to one provider from the trip to the recovery."""

            id = serializers.IntegerField()
            provider = serializers.CharField()
            kind = serializers.ChoiceField(choices=list(Kind))
            opened_at = Moment()
            closed_at = Moment(allow_null=True, help_text="null: it is still going on.")
            cause = serializers.ChoiceField(choices=list(Cause), help_text="What opened it.")
            reason = serializers.CharField()
            actor = serializers.CharField()
            closing_cause = serializers.ChoiceField(choices=list(Cause), allow_null=True)
            trips = serializers.IntegerField()
            diverted = serializers.IntegerField(help_text="Calls that started elsewhere.")
            hurt = serializers.IntegerField(help_text="Calls in which it failed.")
            saved = serializers.IntegerField(help_text="Calls that were heard all the same.")
            detected_after_s = serializers.FloatField(
                allow_null=True, help_text="From the first failure to the trip."
            )
            out_for_s = serializers.FloatField(
                allow_null=True, help_text="From the trip to the recovery; null: still out."
            )

        next = serializers.URLField(allow_null=True)
        previous = serializers.URLField(allow_null=True)
        results = Row(many=True)

    @extend_schema(operation_id="incidents", parameters=[*FILTERS, STATE], responses=Answer)
    def get(self, request: Request) -> Response:
        """Outages, newest first."""
        return self.page(request)

    def _filtered(self, query: Mapping[str, Any]) -> QuerySet[Any]:
        rows = super()._filtered(query)
        if "state" not in query:
            return rows
        return rows.filter(closed_at__isnull=query["state"] is Going.GOING_ON)

    def row(self, row: Incident) -> dict[str, Any]:
        """Return one incident."""
        return {
            "id": row.pk,
            "provider": row.provider,
            "kind": row.kind,
            "opened_at": _moment(row.opened_at),
            "closed_at": _moment(row.closed_at),
            "cause": row.cause,
            "reason": row.reason,
            "actor": row.actor,
            "closing_cause": row.closing_cause or None,
            "trips": row.trips,
            "diverted": row.diverted,
            "hurt": row.hurt,
            "saved": row.saved,
            "detected_after_s": _between_s(row.first_failure_at, row.opened_at),
            "out_for_s": _between_s(row.opened_at, row.closed_at),
        }


def _moment(at: datetime | None) -> str | None:
    return rfc3339(round(at.astimezone(UTC).timestamp() * 1000)) if at else None


def _between_s(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end else None
