"""The feed's messages as text: snapshot, change, beat.

Each is encoded once per process. `previous` in a change is the version that the change starts
from: a client that holds another one missed something, and asks for a resync.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fallback.domain import Event
from fallback.status import Status
from fallback.times import rfc3339

PARTS: Final = (  # beside the breakers; when changed
    "verdict", "pump_lag_s", "degraded", "routes", "unknown_names", "more_unknown_names",
)  # fmt: skip


def snapshot(now: Status) -> str:
    """Return the whole of it: the body of GET status."""
    return _text({"type": "snapshot", **now.body})


def beat(now: Status) -> str:
    """Return the sign of life."""
    return _text({"type": "beat", "version": now.body["version"], "at": now.body["at"]})


def change(before: Status, now: Status, events: Sequence[Event]) -> str:
    """Return what is new since `before`: breakers and routes as they are now, and what moved.

    `transitions` has all that moved, oldest first; `transition` is the last of them, or null where
    only a count changed. `gone` names breakers that are no longer shown. `pump_lag_s` is as in a
    snapshot; it, `verdict`, `degraded`, `routes` and the unknown names are there when they changed.
    """
    old, new = before.body, now.body
    held, shown = _by_name(old), _by_name(new)
    moved = [transition(event, shown) for event in events if event.is_transition]
    named = {(row["kind"], row["provider"]) for row in moved}
    told = [row for name, row in shown.items() if name in named or held.get(name) != row]
    return _text(
        {
            "type": "change",
            "version": new["version"],
            "previous": old["version"],
            "at": new["at"],
            "breakers": told,
            "gone": [_named(name) for name in held if name not in shown],
            "transition": moved[-1] if moved else None,
            "transitions": moved,
            **{name: new[name] for name in PARTS if old[name] != new[name]},
        }
    )


def transition(event: Event, shown: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    """Return an event as GET transitions writes it; `incident` null until the pump stored it."""
    breaker = shown.get((event.kind, event.provider), {})
    return {
        "id": event.id,
        "provider": event.provider,
        "kind": event.kind,
        "from": event.before,
        "to": event.after,
        "at": rfc3339(event.at_ms),
        "cause": event.cause,
        "actor": event.actor,
        "reason": event.reason,
        "evidence": dict(event.evidence),
        "incident": breaker.get("incident") if event.incident else None,
    }


def _by_name(body: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(row["kind"], row["provider"]): row for row in body["breakers"]}


def _named(name: tuple[str, str]) -> dict[str, str]:
    return {"kind": name[0], "provider": name[1]}


def _text(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
