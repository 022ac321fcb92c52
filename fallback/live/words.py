"""How the dashboard says things: the verdict in a sentence, times, and what is on a card.

static/fallback/dashboard/words.js says the same in the same words, so that nothing on the page
changes when it takes over; tests/test_dashboard.py holds the two together.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fallback.domain import ADMITTING_STATES, State

Row = Mapping[str, Any]

WORDS: Final = {
    "healthy": "Healthy",
    "degraded": "Degraded",
    "critical": "Critical",
    "unknown": "Unknown",
}
UNREACHABLE: Final = (
    " The shared state cannot be reached: this is the last that is known, and calls go on by it."
)


UNKNOWN: Final = {
    "provider": "Agents name providers that are not configured",
    "route": "Agents name routes that are not configured",
}


def sentence(body: Row) -> str:
    """Return what the verdict means right now."""
    return _verdict(body) + (UNREACHABLE if body["degraded"] else "")


def _verdict(body: Row) -> str:
    states = {(row["kind"], row["provider"]): row["state"] for row in body["breakers"]}
    out: dict[str, str] = {}
    alone = []
    for route in body["routes"]:
        found = {
            step["provider"]: states.get((route["kind"], step["provider"]), State.CLOSED)
            for step in route["order"]
        }
        away = {slug: state for slug, state in found.items() if state not in ADMITTING_STATES}
        out.update(away)
        if len(away) == len(found):
            alone.append(route["route"])
    if body["verdict"] == "unknown":
        return "Nothing is known yet: nothing is configured, or nothing has answered."
    if body["verdict"] == "critical":
        return f"No provider admits calls on {_listed(alone)}: they get the last resort."
    if body["verdict"] == "degraded":
        return f"{_away(out)}: calls go to the next provider."
    return "Every provider gets its calls."


def _away(out: Mapping[str, str]) -> str:
    probed = sorted(slug for slug, state in out.items() if state == State.HALF_OPEN)
    gone = sorted(out.keys() - set(probed))
    parts = []
    if gone:
        parts.append(f"{_listed(gone)} {'is' if len(gone) == 1 else 'are'} out")
    if probed:
        parts.append(f"{_listed(probed)} {'is' if len(probed) == 1 else 'are'} being probed")
    return ", ".join(parts)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def unknown_names(body: Row) -> str:
    """Return what agents name and nobody configured, and that it matters; empty: nothing."""
    parts = [
        f"{said}: {', '.join(_from(one) for one in found)}."
        for what, said in UNKNOWN.items()
        if (found := [one for one in body["unknown_names"] if one["what"] == what])
    ]
    if not parts:
        return ""
    more = ["There are more."] if body["more_unknown_names"] else []
    return " ".join([*parts, *more, "Calls with them run unprotected."])


def _from(one: Row) -> str:
    return f"{one['name']} (from {one['host']})" if one["host"] else str(one["name"])


def card(row: Row, now: datetime) -> dict[str, str]:
    """Return the texts of one breaker's card; an empty one is not shown."""
    ordered = row["override"]
    return {
        "state": spoken(row["state"]),
        "since": moment(row["since"], now),
        "ago": f"for {length(now - parsed(row['since']))}" if row["since"] else "",
        "until": _until(row, now),
        "left": f"{length(parsed(row['until']) - now)} left" if row["until"] else "",
        "failures": _failures(row),
        "probes": f"{row['leases']} of {row['probe_slots']}",
        "reasons": ", ".join(f"{name} {count}" for name, count in row["last_reasons"].items())
        or "none",
        "keys": row["held_back"]
        or ", ".join(f"{name} {count}" for name, count in row["keys"].items())
        or "none",
        "cause": spoken(row["cause"] or "nothing yet"),
        "override": f"{ordered['by']}: “{ordered['reason']}”" if ordered else "none",
    }


def _until(row: Row, now: datetime) -> str:
    if row["until"]:
        return moment(row["until"], now)
    return "cleared" if row["override"] else ""


def _failures(row: Row) -> str:
    if not row["failure_threshold"]:
        return f"{row['failures']} (the count rule is off)"
    return f"{row['failures']} of {row['failure_threshold']} in {row['failure_window_s']} s"


def spoken(word: str) -> str:
    """Return a word of the contract as people read it."""
    return word.replace("_", " ")


def parsed(text: str) -> datetime:
    """Return a time that the status wrote."""
    return datetime.fromisoformat(text)


def moment(text: str | None, now: datetime) -> str:
    """Return a time of day in UTC, with its date when that is another day."""
    if not text:
        return ""
    at = parsed(text)
    day = "" if at.date() == now.date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S} UTC"


def length(span: Any) -> str:
    """Return a duration in its two largest units, as in “29 min 4 s”; 0 for what is over."""
    seconds = max(0, int(span.total_seconds()))
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def utc(moment_: datetime) -> str:
    """Return a stored time as the API writes it."""
    text = moment_.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
