"""What one change did, taken out of the configuration as it is now: a merge of three documents.

What the change set and is still so goes back to what it was. What somebody has changed since is a
conflict: it is told, and nobody's work is overwritten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallback.configuration.difference import (
    MISSING,
    Difference,
    Path,
    diff,
    is_same_leaf,
    leaves,
    shown,
)
from fallback.configuration.document import Document
from fallback.configuration.sections import BY_NAME, STEPS, WHAT_COUNTS


@dataclass(frozen=True, slots=True)
class Conflict:
    """A value that the change set, and that somebody has changed since."""

    path: Path
    was_set_to: Any
    is_now: Any

    @property
    def dotted(self) -> str:
        """The path as problems name it."""
        return ".".join(self.path)

    def __str__(self) -> str:
        where = Difference(self.path, None, None).where
        if len(self.path) == 2:
            gone = "was removed since" if self.is_now is MISSING else "has been made again since"
            return f"{where} {gone}: undo that change first."
        return (
            f"{where} was set to {shown(self.was_set_to)} by this change and is"
            f" {shown(self.is_now)} now: undo the later change first, or set the value by hand."
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """The configuration without a change, and what keeps it from being so."""

    document: Document
    conflicts: tuple[Conflict, ...]


def without(before: Document, after: Document, now: Document) -> Merged:
    """Return `now` without what was changed from `before` to `after`.

    With conflicts, `document` must not be applied.
    """
    document = {name: dict(part) if name in BY_NAME else part for name, part in now.items()}
    conflicts: list[Conflict] = []
    for section, key in dict.fromkeys(one.path[:2] for one in diff(before, after)):
        parts = [one.get(section, {}).get(key, MISSING) for one in (before, after, now)]
        entry, found = _entry((section, key), *parts)
        conflicts += found
        if entry is MISSING:
            document[section].pop(key, None)
        else:
            document[section][key] = entry
    return Merged(document, tuple(conflicts))


def _entry(path: Path, before: Any, after: Any, now: Any) -> tuple[Any, list[Conflict]]:
    if before is not MISSING and after is not MISSING and now is not MISSING:
        return _values(path, before, after, now)
    if is_same_leaf(now, after):
        return before, []
    if is_same_leaf(now, before):
        return now, []
    if now is MISSING or after is MISSING:
        return now, [Conflict(path, after, now)]
    since = diff({path[0]: {path[1]: after}}, {path[0]: {path[1]: now}})
    return now, [Conflict(one.path, one.before, one.after) for one in since]


def _values(path: Path, before: Any, after: Any, now: Any) -> tuple[Any, list[Conflict]]:
    old, new, current = (leaves(path, entry) for entry in (before, after, now))
    conflicts = []
    for leaf in dict.fromkeys((*old, *new)):
        was, became = old.get(leaf, MISSING), new.get(leaf, MISSING)
        is_now = current.get(leaf, MISSING)
        if is_same_leaf(was, became) or is_same_leaf(is_now, was):
            continue
        if not is_same_leaf(is_now, became):
            conflicts.append(Conflict(leaf, became, is_now))
        elif was is MISSING:
            del current[leaf]
        else:
            current[leaf] = was
    entry = _from_leaves(now, {leaf[2:]: value for leaf, value in current.items()})
    return entry, conflicts + _left_behind(path, entry, current, new)


def _left_behind(
    path: Path, entry: Mapping[str, Any], current: Mapping[Path, Any], new: Mapping[Path, Any]
) -> list[Conflict]:
    """Return settings that somebody has since given a step which is being taken out."""
    chain = {step["provider"] for step in entry.get(STEPS, [])}
    return [
        Conflict(leaf, new.get(leaf, MISSING), value)
        for leaf, value in current.items()
        if leaf[2] == STEPS and len(leaf) == 5 and leaf[3] not in chain
    ]


def _from_leaves(like: Mapping[str, Any], values: Mapping[Path, Any]) -> dict[str, Any]:
    """Return an entry with these leaves, its fields in the order of `like`."""
    entry: dict[str, Any] = {
        name: {} if isinstance(value, dict) else value for name, value in like.items()
    }
    chain = values.get((STEPS,), [])
    settings: dict[str, dict[str, Any]] = {slug: {} for slug in chain}
    for leaf, value in values.items():
        if leaf[0] == STEPS:
            if len(leaf) == 3 and leaf[1] in settings:
                settings[leaf[1]][leaf[2]] = value
        elif leaf[0] == WHAT_COUNTS:
            entry[WHAT_COUNTS].setdefault(leaf[1], {})[leaf[2]] = value
        elif len(leaf) == 2:
            entry.setdefault(leaf[0], {})[leaf[1]] = value
        else:
            entry[leaf[0]] = value
    if STEPS in like:
        entry[STEPS] = [{"provider": slug, "settings": settings[slug]} for slug in chain]
    return entry
