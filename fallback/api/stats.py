"""`GET /api/v1/stats`: calls, failures and first transcripts over time, for each provider."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fallback import stats
from fallback.api.authentication import READERS
from fallback.api.base import ApiView
from fallback.api.fields import OPTIONAL, Checked, Instant, Moment, QueryNumber, Text, Word
from fallback.domain import Kind
from fallback.stats.counts import Counts
from fallback.stats.rollup import KEEP_DAYS
from fallback.times import rfc3339

LAST_MAX_S: Final = KEEP_DAYS * 86_400
LAST_S: Final = 3_600
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # far before any; keeps sums within the calendar
PARAMETERS: Final = [
    OpenApiParameter(
        "provider",
        {"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]{0,62}$"},
        description="One provider's only.",
    ),
    OpenApiParameter("kind", str, enum=list(Kind), description="One kind's only."),
    OpenApiParameter("since", datetime, description="From this time on (RFC 3339)."),
    OpenApiParameter("until", datetime, description="Up to this time; left out: now."),
    OpenApiParameter(
        "last_s",
        {"type": "integer", "minimum": 60, "maximum": LAST_MAX_S, "default": LAST_S},
        description="Where `since` is left out: so many seconds before `until`.",
    ),
]


class StatsView(ApiView):
    """Statistics per step of time."""

    roles = {"GET": READERS}

    class Query(Checked):
        """What may be asked for."""

        provider = Text(**OPTIONAL)
        kind = Word(Kind, **OPTIONAL)
        since = Instant(**OPTIONAL)
        until = Instant(**OPTIONAL)
        last_s = QueryNumber(**OPTIONAL, min_value=60, max_value=LAST_MAX_S)

    @extend_schema_serializer(component_name="Stats")
    class Answer(serializers.Serializer[Any]):
        """Each list has one number for each step, the first beginning at `since`."""

        @extend_schema_serializer(component_name="StatsProvider")
        class Row(serializers.Serializer[Any]):
            """One provider. Latencies are of first transcripts, null where there were none."""

            @extend_schema_serializer(component_name="StatsTotal")
            class Sum(serializers.Serializer[Any]):
                """The whole span."""

                calls = serializers.IntegerField()
                failures = serializers.IntegerField()
                diverted = serializers.IntegerField()
                latency_p50_ms = serializers.IntegerField(allow_null=True)
                latency_p95_ms = serializers.IntegerField(allow_null=True)

            provider = serializers.CharField()
            kind = serializers.ChoiceField(choices=list(Kind))
            total = Sum()
            calls = serializers.ListField(child=serializers.IntegerField())
            failures = serializers.ListField(child=serializers.IntegerField())
            diverted = serializers.ListField(child=serializers.IntegerField())
            latency_p50_ms = serializers.ListField(child=serializers.IntegerField(allow_null=True))
            latency_p95_ms = serializers.ListField(child=serializers.IntegerField(allow_null=True))

        since = Moment()
        until = Moment()
        step_s = serializers.IntegerField(help_text="60 or more; at most 360 steps are answered.")
        providers = Row(many=True)

    asked = Query()

    @extend_schema(operation_id="stats", parameters=PARAMETERS, responses=Answer)
    def get(self, request: Request) -> Response:
        """Calls, failures and first transcripts over time.

        Kept for 14 days, and no more than that is answered at once. A minute is complete some ten
        seconds after it is over.
        """
        query = self.query(request, self.asked)
        until = max(query.get("until") or timezone.now(), EARLIEST)
        asked = query.get("since") or until - timedelta(seconds=query.get("last_s", LAST_S))
        since = max(asked, until - timedelta(days=KEEP_DAYS))
        found = stats.read(
            since, until, kind=query.get("kind", ""), provider=query.get("provider", "")
        )
        return Response(_written(found))


def _written(found: stats.Series) -> dict[str, Any]:
    return {
        "since": rfc3339(int(found.since.timestamp() * 1000)),
        "until": rfc3339(int(found.until.timestamp() * 1000)),
        "step_s": found.step_s,
        "providers": [
            {
                "provider": provider,
                "kind": kind,
                "total": _row(found.total(kind, provider)),
                **_columns([_row(counts) for counts in steps]),
            }
            for (kind, provider), steps in found.providers.items()
        ],
    }


def _row(counts: Counts) -> dict[str, int | None]:
    return {
        "calls": counts.calls,
        "failures": counts.failures,
        "diverted": counts.diverted,
        "latency_p50_ms": counts.percentile_ms(50),
        "latency_p95_ms": counts.percentile_ms(95),
    }


def _columns(rows: list[dict[str, int | None]]) -> dict[str, list[int | None]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
