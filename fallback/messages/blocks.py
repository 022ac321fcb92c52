"""Slack's Block Kit, as far as it is used here: rich text, mentions, buttons.

Elements of rich text are shown as they are: no markup, no mention and no emoji code in them is
ever parsed. Limits are Slack's; what is longer is cut, with "…".
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

TITLE_MAX: Final = 150  # characters, as a header's
BODY_MAX: Final = 3000  # as a section's
VALUE_MAX: Final = 500
FALLBACK_MAX: Final = 3000
BUTTON_MAX: Final = 75
BLOCKS_MAX: Final = 50
# These turn the reading direction of all that follows them: text from outside may not.
_TURNS_TEXT: Final = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_INVISIBLE: Final = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})

Element = dict[str, Any]
Line = list[Element]
Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What Slack is sent: the blocks, and the text that notifications show."""

    text: str
    blocks: list[Block]


def clean(value: object, most: int = VALUE_MAX) -> str:
    """Return a value as one line of text without control characters, at most `most` long."""
    raw = str(value)[: most * 4]  # a megabyte is cut before it is looked at
    kept = "".join(" " if _is_unfit(char) else char for char in raw)
    return cut(" ".join(kept.split()), most)


def cut(text: str, most: int) -> str:
    """Return at most `most` characters, the last of them "…" where something is missing."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _is_unfit(char: str) -> bool:
    return char in _TURNS_TEXT or unicodedata.category(char) in _INVISIBLE


def escape(text: str) -> str:
    """Return text that Slack shows as it is wherever it reads mentions and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text(value: str, *, bold: bool = False, code: bool = False) -> Element:
    """Return an element that shows `value` as it is."""
    style = {name: True for name, is_on in (("bold", bold), ("code", code)) if is_on}
    return {"type": "text", "text": value, **({"style": style} if style else {})}


def when(ms: int) -> Element:
    """Return a time, shown in the reader's own zone."""
    return {
        "type": "date",
        "timestamp": ms // 1000,
        "format": "{date_num} {time_secs}",
        "fallback": utc(ms),
    }


def utc(ms: int) -> str:
    """Return milliseconds since the epoch as people write it."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def link(url: str, label: str) -> Element:
    """Return a link; `url` is our own, never one from outside."""
    return {"type": "link", "url": url, "text": label}


def emoji(name: str) -> Element:
    """Return an emoji by its name in Slack."""
    return {"type": "emoji", "name": name}


def rich(lines: Iterable[Line]) -> list[Block]:
    """Return lines as a block of rich text; nothing for no line, which Slack would refuse."""
    elements: list[Element] = []
    for line in lines:
        filled = [one for one in line if one.get("text", "x") != ""]
        if filled:
            elements += [*([text("\n")] if elements else []), *filled]
    section = {"type": "rich_text_section", "elements": elements}
    return [{"type": "rich_text", "elements": [section]}] if elements else []


def mentioning(mentions: str) -> list[Block]:
    """Return the block that notifies; `mentions` as `mentions.together` writes them."""
    return [{"type": "section", "text": {"type": "mrkdwn", "text": mentions}}] if mentions else []


def button(label: str, action: str, value: str, *, style: str = "", ask: str = "") -> Element:
    """Return a button; `ask` is what a dialog asks before it does anything."""
    found: Element = {
        "type": "button",
        "action_id": action,
        "value": value,
        "text": {"type": "plain_text", "text": cut(label, BUTTON_MAX)},
    }
    if style:
        found["style"] = style
    if ask:
        found["confirm"] = {
            "title": {"type": "plain_text", "text": cut(label, 100)},
            "text": {"type": "plain_text", "text": cut(ask, 300)},
            "confirm": {"type": "plain_text", "text": cut(label, 30)},
            "deny": {"type": "plain_text", "text": "Cancel"},
        }
    return found


def open_page(label: str, url: str) -> Element:
    """Return a button that opens a page of ours."""
    return {
        "type": "button",
        "action_id": "stt_open",
        "url": url,
        "text": {"type": "plain_text", "text": cut(label, BUTTON_MAX)},
    }


def actions(buttons: Sequence[Element]) -> list[Block]:
    """Return a row of buttons; nothing for none."""
    return [{"type": "actions", "elements": list(buttons)}] if buttons else []


def words(line: Iterable[Element]) -> str:
    """Return a line as plain text."""
    return "".join(str(one.get("text") or one.get("fallback") or "") for one in line)


def shortened(lines: Iterable[Line], most: int) -> list[Line]:
    """Return as much of the lines as fits into `most` characters."""
    kept: list[Line] = []
    for line in lines:
        fitting: Line = []
        for one in line:
            length = len(words([one]))
            if length <= most:
                fitting.append(one)
            elif one["type"] == "text" and most > 1:
                fitting.append({**one, "text": cut(one["text"], most)})
            most -= min(length, most)
        if fitting:
            kept.append(fitting)
        if most <= 0:
            break
    return kept
