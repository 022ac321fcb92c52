"""What the admin's first page and sidebar say: what is out right now, and our lists first."""

from typing import Any

from django import template

from fallback import alerts, status
from fallback.admin import attention
from fallback.admin.words import Shown
from fallback.domain import State

register = template.Library()

VERDICTS = {
    "healthy": "● Healthy: every provider gets its calls",
    "degraded": "◐ Degraded: calls are diverted",
    "critical": "■ Critical: a route has no provider that admits calls",
    "unknown": "? Unknown: nothing is configured, or nothing has answered yet",
}
APPS = ["fallback", "auth"]
LISTS = [
    "Provider",
    "Route",
    "Policy",
    "Incident",
    "Transition",
    "ConfigChange",
    "Proposal",
    "ApiKey",
    "DeadLetter",
]


@register.inclusion_tag("admin/fallback/what_is_out.html", takes_context=True)
def what_is_out(context: Any) -> dict[str, Any]:
    """Return the verdict, every breaker that is anything but closed, and what to see to."""
    body = status.newest()
    return {
        "items": attention.items(context["request"].user, body),
        "is_slack_off": not alerts.is_configured(),
        "is_known": not body["degraded"],
        "verdict": VERDICTS[body["verdict"]],
        "breakers": [
            (breaker["provider"], Shown(breaker, not body["degraded"]))
            for breaker in body["breakers"]
            if breaker["state"] != State.CLOSED
        ],
    }


@register.filter
def in_order_of_use(apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the admin's lists in the order in which operators want them; unknown ones last."""
    ordered = sorted(apps, key=lambda app: _place(APPS, app["app_label"]))
    return [
        app | {"models": sorted(app["models"], key=lambda it: _place(LISTS, it["object_name"]))}
        for app in ordered
    ]


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)
