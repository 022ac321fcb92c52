"""A route of the drill's own, so that no production route is touched; and its clearing away.

Two providers that nobody else uses, a policy with short times, and a key: made in this database,
seen by the server under the drill (which proves that it is this installation's), deleted at the
end. What a killed drill left behind, the next one takes over.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from fallback import changes, keys
from fallback.drill.plan import BACKUP, OPEN_S, PRIMARY, ROUTE
from fallback.models import ApiKey, Policy, Provider, Role, Route, RouteStep

POLICY: Final = "drill"
KEY_LIVES: Final = timedelta(minutes=10)  # should nobody be left to delete it
NOTES: Final = "Made by `manage.py drill`, and deleted when it ends."
THRESHOLDS: Final[dict[str, Any]] = {
    "failure_threshold": 3,
    "failure_window_s": 30,
    "open_duration_s": OPEN_S,
    "open_backoff": 1,
    "open_duration_max_s": OPEN_S,
    "probe_slots": 1,
    "probe_lease_s": 5,
    "probe_successes": 1,
    "retrip_threshold": 1,
}


@contextmanager
def staged() -> Iterator[str]:
    """Set up the drill's route, give an operator's key, and take all of it away again."""
    key_row = ApiKey(
        name=f"drill-{secrets.token_hex(4)}",
        role=Role.OPERATOR,
        expires_at=timezone.now() + KEY_LIVES,
        notes=NOTES,
    )
    key = keys.issue(key_row)
    try:
        with changes.made_by("command:drill", "a drill begins"):
            key_row.save()
            _set_up()
        yield key
    finally:
        _clear_away(key_row)


def _set_up() -> None:
    policy = _saved(Policy, {"name": POLICY}, {"notes": NOTES, **THRESHOLDS})
    providers = [
        _saved(
            Provider,
            {"kind": "stt", "slug": slug},
            {"name": name, "policy": policy, "enabled": True, "notes": NOTES},
        )
        for slug, name in ((PRIMARY, "Drill: primary"), (BACKUP, "Drill: backup"))
    ]
    route = _saved(Route, {"slug": ROUTE}, {"name": "Drill", "kind": "stt", "notes": NOTES})
    for position, provider in enumerate(providers):
        _saved(RouteStep, {"route": route, "provider": provider}, {"position": position})


def _saved(model: Any, names: dict[str, Any], values: dict[str, Any]) -> Any:
    """Make a row, or make what a killed drill left behind as it should be."""
    row = model.objects.filter(**names).first() or model(**names)
    for name, value in values.items():
        setattr(row, name, value)
    row.save()
    return row


def _clear_away(key_row: ApiKey) -> None:
    """Delete from the top down: a provider in a chain cannot be deleted."""
    with changes.made_by("command:drill", "the drill is over"):
        for row in (
            *Route.objects.filter(slug=ROUTE),
            *Provider.objects.filter(kind="stt", slug__in=(PRIMARY, BACKUP)),
            *Policy.objects.filter(name=POLICY),
        ):
            row.delete()
        if key_row.pk:
            key_row.delete()
