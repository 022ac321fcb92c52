"""The very failures behind a number: when, why, in which call, on which host, by which API key."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from fallback import past
from fallback.admin.asking import whole
from fallback.admin.base import CSS, admin_url
from fallback.admin.words import duration, moment
from fallback.domain import Kind
from fallback.models import Incident, Provider

MOST: Final = 500  # on the page
LONGEST: Final = timedelta(days=1)
SPANS: Final = {"15 min": 900, "1 h": 3_600, "6 h": 21_600, "24 h": 86_400}


def failures_url(row: Provider, *, last_s: int = 3_600, until: datetime | None = None) -> str:
    """Return the address of the failures of the last `last_s` seconds before `until` (now)."""
    asked: dict[str, Any] = {"last_s": last_s}
    if until is not None:
        asked["until"] = until.isoformat()
    return f"{admin_url('provider', 'failures', row.pk)}?{urlencode(asked)}"


def failures_in(incident: Incident, row: Provider) -> str:
    """Return the address of the failures behind an incident: from the first to its end."""
    until = incident.closed_at or timezone.now()
    since = incident.first_failure_at or incident.opened_at
    last_s = min(int((until - since).total_seconds()) + 1, int(LONGEST.total_seconds()))
    return failures_url(row, last_s=last_s, until=since + timedelta(seconds=last_s))


def failures_view(request: HttpRequest, object_id: str) -> HttpResponse:
    """Show the failures of one provider within a span, newest first."""
    if not request.user.has_perm("fallback.view_provider"):
        raise PermissionDenied
    row = Provider.objects.filter(pk=whole(object_id) or 0).first()
    if row is None:
        raise Http404(object_id)
    since, until = _span(request)
    past.flush_quietly()
    found = sorted(_failures(row, since, until), key=lambda one: one["at_ms"], reverse=True)
    context = admin.site.each_context(request) | {
        "title": f"Failures of {row}",
        "row": row,
        "opts": Provider._meta,
        "failures": [one | {"at": moment(_time(one["at_ms"]))} for one in found[:MOST]],
        "count": len(found),
        "most": MOST,
        "since": moment(since),
        "until": moment(until),
        "length": duration(until - since),
        "spans": [(name, failures_url(row, last_s=last_s)) for name, last_s in SPANS.items()],
        "styles": CSS["all"],
    }
    return TemplateResponse(request, "admin/fallback/provider/failures.html", context)


def _span(request: HttpRequest) -> tuple[datetime, datetime]:
    """Return the time that is asked for, at most a day; nonsense is the last hour."""
    given = whole(request.GET.get("last_s", ""))
    last_s = 3_600 if given is None else min(given, 10**9)
    try:
        until = datetime.fromisoformat(request.GET.get("until", ""))
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
    except ValueError:
        until = timezone.now()
    until = max(until, datetime(2000, 1, 1, tzinfo=UTC))
    return until - min(timedelta(seconds=max(last_s, 1)), LONGEST), until


def _failures(row: Provider, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    since_ms, until_ms = (round(at.timestamp() * 1000) for at in (since, until))
    for slot in past.read(Kind(row.kind), row.slug, since_ms, until_ms):
        for sighting, failure, reporter in slot.failed(since_ms, until_ms + 1):
            yield {
                "at_ms": sighting.at_ms,
                "late_s": f"{sighting.age_ms / 1000:.1f} s" if sighting.age_ms else "",
                "reason": failure.reason,
                "kind": failure.kind.replace("_", " "),
                "host": reporter.host,
                "key": reporter.key,
                "call": failure.call,
            }


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
