"""What the admin's first page says before its lists: what is out, right now."""

from typing import Any

from django import template

from fallback import status
from fallback.admin.words import Shown
from fallback.domain import State
from fallback.models import Incident

register = template.Library()

VERDICTS = {
    "healthy": "● Healthy: every provider gets its calls",
    "degraded": "◐ Degraded: calls are diverted",
    "critical": "■ Critical: a route has no provider that admits calls",
    "unknown": "? Unknown: nothing is configured, or nothing has answered yet",
}


@register.inclusion_tag("admin/fallback/what_is_out.html")
def what_is_out() -> dict[str, Any]:
    """Return the verdict, and every breaker that is anything but closed."""
    body = status.build()
    return {
        "is_known": not body["degraded"],
        "verdict": VERDICTS[body["verdict"]],
        "breakers": [
            (breaker["provider"], Shown(breaker, not body["degraded"]))
            for breaker in body["breakers"]
            if breaker["state"] != State.CLOSED
        ],
        "incidents": Incident.objects.filter(closed_at=None)[:5],
    }
