"""The message of an incident, always current, and the replies in its thread."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fallback.domain import ADMITTING_STATES, State
from fallback.messages.blocks import (
    FALLBACK_MAX,
    TITLE_MAX,
    Block,
    Element,
    Line,
    Message,
    actions,
    button,
    clean,
    cut,
    emoji,
    escape,
    link,
    mentioning,
    rich,
    shortened,
    text,
    when,
    words,
)

REPLY_LINES_MAX: Final = 20  # alerts that one reply tells; of more it says how many
FEW: Final = 3  # alerts of which one reply tells everything
FORCE_S: Final = 1800  # what a button orders ends after half an hour

FORCE_OPEN: Final = "stt_force_open"
FORCE_CLOSED: Final = "stt_force_closed"
AUTO: Final = "stt_auto"
ACKNOWLEDGE: Final = "stt_acknowledge"

_SIGNS: Final = {
    State.CLOSED: "large_green_circle",
    State.OPEN: "red_circle",
    State.HALF_OPEN: "large_yellow_circle",
    State.FORCED_OPEN: "no_entry",
    State.FORCED_CLOSED: "large_purple_circle",
    State.SHADOW: "large_blue_circle",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One alert, its template filled."""

    title: Line
    body: list[Line]
    at_ms: int


@dataclass(frozen=True, slots=True)
class Buttons:
    """What the buttons carry back: which thread, and the order that stood when they were shown."""

    thread: int
    seen: str
    can_acknowledge: bool


@dataclass(frozen=True, slots=True)
class Card:
    """All that an incident's message shows. Times in ms; what is empty or None is left out."""

    headline: Told
    state: str
    mentions: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    lasted: str = ""
    calls: tuple[int, int, int] | None = None  # diverted, hurt, saved
    reasons: str = ""
    note: str = ""
    ordered: str = ""  # who ordered what, and why
    acknowledged: str = ""
    incident: int | None = None
    url: str = ""
    buttons: Buttons | None = field(default=None)


def incident_message(card: Card) -> Message:
    """Return the message of an incident, or of a failure that may become one."""
    title: Line = [*_sign(card.state), *_bold(card.headline.title)]
    blocks = [*rich([title]), *mentioning(card.mentions), *rich(card.headline.body)]
    blocks += rich(_facts(card))
    blocks += _foot(card)
    blocks += _buttons(card)
    return Message(_fallback(card.mentions, [title, *_facts(card)[:2]]), blocks)


def replies(told: Sequence[Told], mentions: str = "") -> Message:
    """Return one reply for all that happened since the last; a storm is one reply, not ten."""
    shown, more = told[:REPLY_LINES_MAX], len(told) - REPLY_LINES_MAX
    if len(told) == 1:
        lines = [_bold(told[0].title), *told[0].body]
    else:
        lines = [line for one in shown for line in _one_of_many(one, len(told))]
    if more > 0:
        lines.append([text(f"and {more} more since {_clock(told[REPLY_LINES_MAX].at_ms)}")])
    return Message(_fallback(mentions, lines), [*mentioning(mentions), *rich(lines)])


def _one_of_many(one: Told, count: int) -> list[Line]:
    """Return an alert among others: what a few say, of many only the titles."""
    title = [when(one.at_ms), text("  "), *_bold(one.title)]
    return [title, *one.body] if count <= FEW else [title]


def reminder(provider: str, state: str, since_ms: int, lasted: str) -> Told:
    """Return the alert that an incident is still open and nobody acknowledged it."""
    title = [text(f"Still {_state(state)}: {clean(provider)}, for {lasted}")]
    body: list[Line] = [
        [text("Since "), when(since_ms), text(". Nobody has acknowledged it: press Acknowledge.")]
    ]
    return Told(title, body, since_ms)


def trial(told: Told, mentions: str) -> Message:
    """Return what *send a test* sends: the alert, and that it is none."""
    line: Line = [text("This is a test, sent from the admin. Nothing happened.")]
    names = [text(f"It would mention: {mentions or 'nobody'}")] if mentions else []
    blocks = [*rich([_bold(told.title)]), *rich(told.body), *rich([line, names])]
    return Message(_fallback("", [[text("Test: "), *told.title]]), blocks)


def _bold(line: Line) -> Line:
    return [
        {**one, "style": {**one.get("style", {}), "bold": True}} if one["type"] == "text" else one
        for one in line
    ]


def _sign(state: str) -> Line:
    known = State(state) if state in list(State) else None
    return [emoji(_SIGNS[known] if known else "warning"), text(" ")]


def _facts(card: Card) -> list[Line]:
    """Return what is known now, a line for each fact."""
    lines: list[Line] = []
    if card.state:
        lines.append(_state_line(card))
    if card.calls is not None:
        diverted, hurt, saved = card.calls
        counts = f"{diverted} diverted, {hurt} hurt, {saved} saved"
        lines.append([text("Calls: ", bold=True), text(counts)])
    for label, value in (
        ("Last errors", card.reasons),
        ("Order", card.ordered),
        ("Acknowledged by", card.acknowledged),
        ("", card.note),
    ):
        if value:
            lines.append([text(f"{label}: " if label else "", bold=True), text(clean(value))])
    return lines


def _state_line(card: Card) -> Line:
    line: Line = [text("State: ", bold=True), text(_state(card.state))]
    if card.lasted and card.state in ADMITTING_STATES:
        return [*line, text(f", after {card.lasted}")]
    if card.since_ms:
        line += [text(" since "), when(card.since_ms)]
    if card.until_ms:
        line += [text(" until "), when(card.until_ms)]
    return line


def _foot(card: Card) -> list[Block]:
    line: Line = []
    if card.incident is not None:
        line.append(text(f"Incident #{card.incident}"))
    if card.url:
        line += [text(" · ")] if line else []
        line.append(link(card.url, "Open in the admin"))
    return rich([line])


def _buttons(card: Card) -> list[Block]:
    if card.buttons is None:
        return []
    value = json.dumps({"thread": card.buttons.thread, "seen": card.buttons.seen})
    name = "this provider"
    half_hour = f"{FORCE_S // 60} minutes"
    row: list[Element] = [
        button(
            "Force open", FORCE_OPEN, value, style="danger",
            ask=f"New calls leave {name} for {half_hour}, whatever it reports.",
        ),
        button(
            "Force closed", FORCE_CLOSED, value,
            ask=f"New calls go to {name} for {half_hour}, however often it fails.",
        ),
        button("Back to automatic", AUTO, value),
    ]  # fmt: skip
    if card.buttons.can_acknowledge:
        row.append(button("Acknowledge", ACKNOWLEDGE, value, style="primary"))
    return actions(row)


def _fallback(mentions: str, lines: Sequence[Line]) -> str:
    """Return the text of notifications, escaped; Slack shows it where it shows no blocks."""
    plain = cut(" | ".join(words(line) for line in shortened(lines, FALLBACK_MAX)), FALLBACK_MAX)
    return " ".join(part for part in (mentions, escape(plain.strip())) if part) or "Alert"


def _state(state: str) -> str:
    return clean(state.replace("_", " "), TITLE_MAX)


def _clock(ms: int) -> str:
    return str(when(ms)["fallback"])
