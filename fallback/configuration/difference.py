"""What changed from one document to another: a line for each value, and a text diff.

A document is compared by its leaves, so that two people who changed two values of one row did not
change the same thing. A chain is two kinds of leaf: its order, and each step's own settings.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fallback.configuration.document import Document, canonical, is_same
from fallback.configuration.sections import BY_NAME, STEPS, WHAT_COUNTS
from fallback.configuration.text import to_yaml

Path = tuple[str, ...]
SHOWN_MAX: Final = 80
SUMMARY_MAX: Final = 300
NEAR: Final = 1  # lines shown before and after one that differs


class Missing:
    """Stands for a value that a document does not have; None is a value."""

    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that changed. A path of two names a whole entry, added or taken out."""

    path: Path
    before: Any
    after: Any

    @property
    def where(self) -> str:
        """The path in words: `policy default: failure_threshold`."""
        inner = ".".join(self.path[2:])
        return f"{self.noun}: {inner}" if inner else self.noun

    @property
    def noun(self) -> str:
        """What kind of thing changed, and which: `policy default`."""
        return f"{BY_NAME[self.path[0]].noun} {self.path[1]}"

    @property
    def what(self) -> str:
        """What happens to the entry: `add`, `delete` or `change`."""
        if len(self.path) > 2:
            return "change"
        return "add" if self.before is MISSING else "delete"

    @property
    def dotted(self) -> str:
        """The path as problems name it: `policies.default.failure_threshold`."""
        return ".".join(self.path)

    def __str__(self) -> str:
        if len(self.path) == 2:
            return f"{self.where}: {'added' if self.before is MISSING else 'removed'}"
        return f"{self.where}: {shown(self.before)} → {shown(self.after)}"


def diff(before: Document, after: Document) -> list[Difference]:
    """Return what has to change to get from `before` to `after`, in the order of sections."""
    found = []
    for name in BY_NAME:
        old, new = before.get(name, {}), after.get(name, {})
        for key in sorted({*old, *new}):
            found += _of_entry((name, key), old.get(key, MISSING), new.get(key, MISSING))
    return found


def _of_entry(path: Path, old: Any, new: Any) -> list[Difference]:
    if old is MISSING or new is MISSING:
        return [Difference(path, old, new)]
    if is_same(old, new):
        return []
    before, after = leaves(path, old), leaves(path, new)
    return [
        Difference(leaf, before.get(leaf, MISSING), after.get(leaf, MISSING))
        for leaf in dict.fromkeys((*before, *after))
        if not is_same_leaf(before.get(leaf, MISSING), after.get(leaf, MISSING))
    ]


def is_same_leaf(one: Any, other: Any) -> bool:
    """Whether two leaves are the same; nothing is the same as nothing alone."""
    if one is MISSING or other is MISSING:
        return one is other
    return is_same(one, other)


def leaves(path: Path, entry: Mapping[str, Any]) -> dict[Path, Any]:
    """Return the values of an entry by their paths."""
    return {path + inner: value for inner, value in _leaves(entry)}


def _leaves(entry: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, value in entry.items():
        if name == STEPS:
            yield (STEPS,), [step["provider"] for step in value]
            yield from _nested(STEPS, {step["provider"]: step["settings"] for step in value})
        elif name == WHAT_COUNTS:
            yield from _nested(WHAT_COUNTS, value)
        elif isinstance(value, dict):
            yield from (((name, key), setting) for key, setting in value.items())
        else:
            yield (name,), value


def _nested(name: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Path, Any]]:
    for key, values in rows.items():
        yield from (((name, key, inner), value) for inner, value in values.items())


def shown(value: Any) -> str:
    """Return a value in one short line."""
    if value is MISSING or value is None:
        return "nothing"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value) or "none"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = canonical(value)
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 1]}…"


def summary(differences: Sequence[Difference]) -> str:
    """Return what changed in one line of at most `SUMMARY_MAX` characters."""
    text, last = "", ""
    for index, difference in enumerate(differences):
        line = str(difference)
        if difference.noun == last and len(difference.path) > 2:
            more = f", {line.removeprefix(f'{last}: ')}"
        else:
            more = f"{'; ' if text else ''}{line}"
        if len(text) + len(more) > SUMMARY_MAX - 20:
            rest = len(differences) - index
            return f"{text}; and {rest} more" if text else f"{more[: SUMMARY_MAX - 20]}…"
        text, last = text + more, difference.noun
    return text


def text_diff(before: Document, after: Document, *, at_most: int = 100_000) -> str:
    """Return the lines of YAML that differ, marked with + and -, each with what it belongs to.

    As a unified diff, but that the names above a line take the place of its number. Empty if
    nothing differs; of `at_most` entries.
    """
    lines: list[str] = []
    changed = list(dict.fromkeys(one.path[:2] for one in diff(before, after)))
    for section, key in changed[:at_most]:
        old, new = (_yaml_of(one, section, key) for one in (before, after))
        whole = difflib.unified_diff(old, new, n=len(old) + len(new), lineterm="")
        head = f" {section}:"
        lines += [] if head in lines else [head]
        lines += _outlined([*whole][3:])
    if len(changed) > at_most:
        lines.append(f" … and {len(changed) - at_most} more")
    return "\n".join(lines)


def _yaml_of(document: Document, section: str, key: str) -> list[str]:
    """Return an entry as lines, as far in as it is in the whole document."""
    entries = document.get(section, {})
    if key not in entries:
        return []
    return [f"  {line}" for line in to_yaml({key: entries[key]}).splitlines()]


def _outlined(lines: Sequence[str]) -> Iterator[str]:
    """Yield the marked lines, those next to them, and those that they are under."""
    shown: set[int] = set()
    above: list[tuple[int, int]] = []  # (indent, index) of each line that the current one is under
    for index, line in enumerate(lines):
        indent = len(line[1:]) - len(line[1:].lstrip(" "))
        above = [one for one in above if one[0] < indent]
        if line[0] != " ":
            shown |= {number for _, number in above}
            shown |= {*range(max(0, index - NEAR), min(len(lines), index + NEAR + 1))}
        above.append((indent, index))
    last = -1
    for index in sorted(shown):
        if index > last + 1:
            yield "  …"
        yield lines[index]
        last = index
