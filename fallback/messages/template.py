"""How a template is checked and filled: `*bold*`, `` `code` `` and `{named}` values, no more.

A value is put in once, as data: what it holds is never parsed, neither here nor by Slack.
"""

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fallback.messages.blocks import (
    BODY_MAX,
    TITLE_MAX,
    VALUE_MAX,
    Line,
    clean,
    shortened,
    when,
    words,
)
from fallback.messages.blocks import text as text_element
from fallback.messages.events import AlertEvent
from fallback.messages.values import TIMES, Values, known_names, sample

EMPTY: Final = "—"
LINES_MAX: Final = 40
_NAME: Final = re.compile(r"[a-z][a-z_]*")
_MARKS: Final = re.compile(r"([*`])")
_SLACK_SYNTAX: Final = re.compile(r"<[@!#][^<>]*>|(?<!\w)@(?:here|channel|everyone)\b")


def problems(title: str, body: str, event: AlertEvent) -> dict[str, list[str]]:
    """Return what is wrong with a template, by field, each with what would be right."""
    found = {"title": _problems(title, event), "body": _problems(body, event)}
    if "\n" in title.strip():
        found["title"].append("A title is one line.")
    if not found["title"]:
        length = len(words(_unlimited(title, sample(event))))
        if length > TITLE_MAX:
            found["title"].append(f"{length} characters once filled; Slack shows {TITLE_MAX}.")
        if not title.strip():
            found["title"].append("A title is needed: it is what notifications show.")
    if not found["body"]:
        length = sum(len(words(line)) + 1 for line in _filled(body, sample(event)))
        if length > BODY_MAX:
            found["body"].append(f"{length} characters once filled; Slack takes {BODY_MAX}.")
        if body.count("\n") >= LINES_MAX:
            found["body"].append(f"At most {LINES_MAX} lines.")
    return {name: wrong for name, wrong in found.items() if wrong}


def title_of(template: str, values: Values) -> Line:
    """Return a title filled, one line of at most `TITLE_MAX` characters."""
    lines = shortened([_unlimited(template, values)], TITLE_MAX)
    return lines[0] if lines else [text_element(EMPTY)]


def body_of(template: str, values: Values) -> list[Line]:
    """Return a body filled, at most `BODY_MAX` characters.

    A line of which every value is missing is left out; in others a missing value is "—".
    """
    return shortened(_filled(template, values)[:LINES_MAX], BODY_MAX)


def _problems(template: str, event: AlertEvent) -> list[str]:
    try:
        names = [name for _, name in _parts(template) if name is not None]
    except ValueError as error:
        return [f"{_sentence(error)} Write a brace that is no value twice: {{{{ or }}}}."]
    known = known_names(event)
    wrong = [
        f"{{{name}}} is no value of “{event}”; there are: {', '.join(sorted(known))}."
        for name in dict.fromkeys(names)
        if name not in known
    ]
    literals = "".join(literal for literal, _ in _parts(template))
    wrong += [f"A {mark} is not closed." for mark in "*`" if literals.count(mark) % 2]
    if _SLACK_SYNTAX.search(literals):
        wrong.append("Mentions are not written into the text: choose them in the field below.")
    return wrong


def _sentence(error: ValueError) -> str:
    return str(error)[:1].upper() + str(error)[1:].rstrip(".") + "."


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    """Yield (literal, name of the value behind it or None). Raises ValueError if it is broken."""
    for literal, name, spec, conversion in string.Formatter().parse(template):
        if name is not None and (spec or conversion or not _NAME.fullmatch(name)):
            raise ValueError(f"{{{name}}} is no name: only letters and “_” may stand in braces")
        yield literal, name


def _unlimited(title: str, values: Values) -> Line:
    return [one for line in _filled(title.replace("\n", " "), values) for one in line]


def _filled(template: str, values: Values) -> list[Line]:
    """Return the lines with their values. A broken template, which no form lets in, is shown."""
    try:
        return [line for raw in template.split("\n") if (line := _line(raw, values)) is not None]
    except ValueError:
        return [[text_element(clean(template))]]


def _line(raw: str, values: Values) -> Line | None:
    line: Line = []
    style = {"*": False, "`": False}
    found: list[bool] = []
    for literal, name in _parts(raw):
        for piece in _MARKS.split(literal):
            if piece in style:
                style[piece] = not style[piece]
            elif piece:
                line.append(text_element(piece, bold=style["*"], code=style["`"]))
        if name is not None:
            value = values.get(name, "")
            found.append(value not in ("", None))
            line.append(_value(name, value, bold=style["*"], code=style["`"]))
    if found and not any(found):
        return None
    return line


def _value(name: str, value: str | int, *, bold: bool, code: bool) -> dict[str, object]:
    if name in TIMES and isinstance(value, int) and value > 0:
        return when(value)
    shown = clean(value, VALUE_MAX) if value not in ("", None) else EMPTY
    return text_element(shown or EMPTY, bold=bold, code=code)


def bounded(values: Mapping[str, str | int], names: Iterable[str]) -> dict[str, str | int]:
    """Return values as they are kept: only known names, each cut."""
    return {
        name: value if isinstance(value, int) else clean(value)
        for name in names
        if (value := values.get(name, "")) not in ("", None)
    }
