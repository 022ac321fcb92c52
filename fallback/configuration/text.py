"""The document as YAML, and what people write read back, with the line of every value.

Read from the parser's events, not through a loader: so there are no tags, no anchors and aliases
(a few lines of which can make gigabytes), no doubled names, no dates, and of YAML 1.1's many
booleans only `true` and `false`: a language named `no` stays one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from fallback.configuration.document import Document
from fallback.errors import Invalid, Problem

SIZE_MAX: Final = 8 * 1024 * 1024
DEPTH_MAX: Final = 24
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,4000})\Z")
_REAL: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]{1,4})?\Z"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]{1,4}\Z|[-+]?\.inf\Z|\.nan\Z"
)
_ODD: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_LOST_IN_BLOCKS: Final = re.compile(r"[^\S\n]\n|\A\s|\t")
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file says, and on which line each value is, by its path."""

    document: Any
    lines: Mapping[Place, int] = field(default_factory=dict, repr=False)

    def line_of(self, path: str) -> int:
        """Return the line of a value, or of the nearest thing around it that is in the text."""
        known = self._by_path()
        while path not in known and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return known.get(path, 1)

    def _by_path(self) -> dict[str, int]:
        return {_dotted(place): line for place, line in self.lines.items()}


def _dotted(place: Place) -> str:
    """Return a place as problems name it: `routes.breeze.steps[1].provider`."""
    names = (f"[{name}]" if isinstance(name, int) else f".{name}" for name in place)
    return "".join(names).removeprefix(".")


class _Dumper(yaml.SafeDumper):
    """Quotes whatever any reader could take for something else than text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    """Return the node of a text: as a block where it has lines, escaped where it has to be."""
    if _ODD.search(value):
        style: str | None = '"'  # else some reader takes it for the end of a line
    else:
        style = "|" if "\n" in value and not _LOST_IN_BLOCKS.search(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _REAL, list("-+.0123456789"))


def to_yaml(document: Document) -> str:
    """Return the document as YAML, the same text for the same document."""
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100,
        default_flow_style=False,
    )  # fmt: skip
    return text


def from_yaml(text: str) -> Parsed:
    """Read YAML. Raises Invalid, with the line, for what is none or is more than plain values."""
    if len(text.encode(errors="surrogatepass")) > SIZE_MAX:
        raise Invalid(f"The text is larger than {SIZE_MAX // 1024 // 1024} MiB.")
    try:
        return _Reader(yaml.parse(text, Loader=_PARSER)).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else getattr(error, "position", 0) and 1
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise wrong(line or 1, f"this is no YAML: {what}.") from error
    except UnicodeEncodeError as error:
        raise wrong(1, "this is no text: it holds half of a character pair.") from error


def wrong(line: int, what: str) -> Invalid:
    """Return the error of one line."""
    return Invalid(f"Line {line}: {what}", [Problem(f"line {line}", what, code="yaml")])


class _Reader:
    """Builds plain values from the events of one YAML document."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._lines: dict[Place, int] = {}

    def read(self) -> Parsed:
        """Return the one document that there is."""
        self._next(), self._next()  # the start of the stream and of the document, or its end
        event = self._next()
        if event is None or isinstance(event, yaml.StreamEndEvent):
            return Parsed({}, {(): 1})
        value = self._value(event, ())
        self._next()
        after = self._next()
        if isinstance(after, yaml.DocumentStartEvent):
            raise wrong(self._line(after), "a second document begins here; there may be only one.")
        return Parsed(value, self._lines)

    def _next(self) -> Any:
        return next(self._events, None)

    def _value(self, event: Any, place: Place) -> Any:
        line = self._line(event)
        self._lines.setdefault(place, line)
        if isinstance(event, yaml.AliasEvent):
            raise wrong(line, f"“*{event.anchor}” is an alias; write the value out.")
        if event.tag is not None:
            raise wrong(line, f"“{event.tag}” is a tag; plain values take none.")
        if len(place) > DEPTH_MAX:
            raise wrong(line, f"this is nested more than {DEPTH_MAX} levels deep.")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(place)
        return _scalar(event)

    def _mapping(self, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = self._line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise wrong(line, "a name must be plain text, not a list or a mapping.")
            if event.value in found:
                first = self._lines[(*place, event.value)]
                raise wrong(line, f"“{event.value[:80]}” is there already, on line {first}.")
            self._lines[(*place, event.value)] = line
            found[event.value] = self._value(self._next(), (*place, event.value))
        return found

    def _list(self, place: Place) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            found.append(self._value(event, (*place, len(found))))
        return found

    @staticmethod
    def _line(event: Any) -> int:
        return int(event.start_mark.line) + 1


def _scalar(event: Any) -> Any:
    """Return what a scalar means; what is quoted is text."""
    text = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.match(text):
        return int(text)
    return float(text.replace(".inf", "inf").replace(".nan", "nan")) if _REAL.match(text) else text
