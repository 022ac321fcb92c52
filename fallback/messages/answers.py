"""What `/stt-status` answers: ready values from `status` and history in, blocks out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fallback.domain import State
from fallback.messages.blocks import (
    Line,
    Message,
    actions,
    clean,
    cut,
    escape,
    open_page,
    rich,
    text,
    when,
    words,
)
from fallback.messages.values import reported_by

LINES_MAX: Final = 60
ENTRIES_MAX: Final = 25
SHAPES: Final = {
    State.CLOSED: "●",
    State.OPEN: "■",
    State.HALF_OPEN: "◐",
    State.FORCED_OPEN: "■",
    State.FORCED_CLOSED: "▲",
    State.SHADOW: "◌",
}
_VERDICTS: Final = {
    "healthy": "● Healthy: every provider gets its calls",
    "degraded": "◐ Degraded: calls are diverted",
    "critical": "■ Critical: a route has no provider that admits calls",
    "unknown": "? Unknown: nothing is configured, or nothing has answered yet",
}


@dataclass(frozen=True, slots=True)
class Past:
    """One line of history: when, what, by whom and why."""

    at_ms: int
    what: str
    by: str = ""
    why: str = ""


def summary(body: Mapping[str, Any], url: str) -> Message:
    """Return everything at a glance; `body` as GET status has it."""
    lines: list[Line] = [[text(_VERDICTS.get(body["verdict"], body["verdict"]), bold=True)]]
    if body["degraded"]:
        lines.append([text("The shared state cannot be reached: this is the last known.")])
    lines += [_breaker(breaker) for breaker in body["breakers"]]
    lines += [_route(route) for route in body["routes"]]
    return _message(lines, url)


def provider(breaker: Mapping[str, Any], past: Sequence[Past], url: str) -> Message:
    """Return one breaker with its recent history."""
    lines: list[Line] = [_breaker(breaker, bold=True)]
    threshold, window_s = breaker["failure_threshold"], breaker["failure_window_s"]
    lines.append([text(f"Failures: {breaker['failures']} of {threshold} in {window_s} s")])
    if breaker["last_reasons"]:
        found = ", ".join(f"{clean(k, 40)} {v}" for k, v in breaker["last_reasons"].items())
        lines.append([text(f"Last errors: {found}")])
    if told := breaker.get("held_back") or reported_by(breaker.get("keys")):
        lines.append([text(f"Held back: {told}" if breaker.get("held_back") else f"By {told}")])
    if breaker["state"] == State.HALF_OPEN:
        lines.append([text(f"Probes: {breaker['leases']} of {breaker['probe_slots']} under way")])
    if breaker["incident"]:
        lines.append([text(f"Incident #{breaker['incident']}")])
    return _message([*lines, *_past(past)], url)


def route(shown: Mapping[str, Any], breakers: Iterable[Mapping[str, Any]], url: str) -> Message:
    """Return one route: in what order calls try its providers now, and how those are."""
    of_kind = {one["provider"]: one for one in breakers if one["kind"] == shown["kind"]}
    lines: list[Line] = [_route(shown, bold=True)]
    if not shown["fallback_enabled"]:
        lines.append([text("Fallback is switched off: every call starts on the first provider.")])
    for step in shown["order"]:
        known = of_kind.get(step["provider"])
        lines.append(_breaker(known) if known else [text(step["provider"])])
    return _message(lines, url)


def incidents(rows: Sequence[Past], url: str) -> Message:
    """Return the latest incidents."""
    head: Line = [text("Latest incidents" if rows else "No incident is on record.", bold=True)]
    return _message([head, *_past(rows, title="")], url)


def call(known: Mapping[str, Any]) -> Message:
    """Return why a call got what it got, as `services.explain_call` has it."""
    entries = known["entries"]
    where = clean(known.get("provider") or "nowhere yet")
    lines: list[Line] = [[text(f"Call {clean(known['call_id'], 128)}: now on {where}", bold=True)]]
    if len(entries) > ENTRIES_MAX:
        lines.append([text(f"The last {ENTRIES_MAX} of {len(entries)} entries:")])
    for entry in entries[-ENTRIES_MAX:]:
        lines.append([when(int(entry["at_ms"])), text(f"  {_entry(entry)}")])
    return _message(lines, "")


def said(sentence: str) -> Message:
    """Return one or more plain lines."""
    return _message([[text(clean(line, 600))] for line in sentence.split("\n")], "")


def _entry(entry: Mapping[str, Any]) -> str:
    if entry["type"] == "decision":
        verdicts = [f"{one['provider']} {one['verdict']}" for one in entry.get("verdicts", [])]
        return clean(f"{entry.get('mode')}: {entry['provider']} ({', '.join(verdicts)})", 600)
    parts = [entry["provider"], entry["kind"], entry.get("reason"), entry.get("code")]
    what = " ".join(clean(part, 60) for part in parts if part)
    swap = f", sent to {entry['swap_to']}" if entry.get("swap_to") else ""
    detail = f": {clean(entry['message'], 160)}" if entry.get("message") else ""
    return clean(f"{what}{detail} → {entry.get('effect', '')}{swap}", 600)


def _breaker(breaker: Mapping[str, Any], *, bold: bool = False) -> Line:
    state = breaker["state"]
    shape = SHAPES[State(state)] if state in list(State) else "?"
    kind = "" if breaker["kind"] == "stt" else f" ({breaker['kind']})"
    name = f"{shape} {breaker['provider']}{kind}: {state.replace('_', ' ')}"
    line: Line = [text(name, bold=bold or state != State.CLOSED)]
    if state != State.CLOSED:
        line += _moment(" since ", breaker["since"]) + _moment(" until ", breaker["until"])
    if order := breaker["override"]:
        line.append(text(f", by {clean(order['by'], 80)}: “{clean(order['reason'], 160)}”"))
    return line


def _route(shown: Mapping[str, Any], *, bold: bool = False) -> Line:
    chain = " → ".join(step["provider"] for step in shown["order"]) or "nobody"
    off = "" if shown["fallback_enabled"] else " (fallback off)"
    return [text(f"{shown['route']}: {chain}{off}", bold=bold)]


def _past(rows: Sequence[Past], title: str = "Recently") -> list[Line]:
    lines: list[Line] = [[text(title, bold=True)]] if rows and title else []
    for row in rows:
        by = f", by {clean(row.by, 80)}" if row.by else ""
        why = f": {clean(row.why, 160)}" if row.why else ""
        lines.append([when(row.at_ms), text(f"  {clean(row.what, 200)}{by}{why}")])
    return lines


def _moment(label: str, at: str | None) -> Line:
    if not at:
        return []
    return [text(label), when(int(datetime.fromisoformat(at).timestamp() * 1000))]


def _message(lines: list[Line], url: str) -> Message:
    if len(lines) > LINES_MAX:
        lines = [*lines[:LINES_MAX], [text(f"and {len(lines) - LINES_MAX} more")]]
    buttons = actions([open_page("Open the dashboard", url)]) if url else []
    plain = cut(escape("\n".join(words(line) for line in lines)), 3000)
    return Message(plain, [*rich(lines), *buttons])
