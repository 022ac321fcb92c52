"""What a change of the configuration sets off, and WHAT IS REMEMBERED OF IT.

    watching.py    the signals: one new revision per transaction, told to breakers and processes
    recording.py   who changed what and why: one `ConfigChange` per transaction that changed any
    people.py      accounts, groups and roles are changes too
    undoing.py     one change taken back, or everything as it was then
    retention.py   what is old enough to be forgotten

Whoever changes the configuration says so: `with changes.made_by("admin:ana", "too jumpy"): …`.
"""

from fallback.changes import people, watching
from fallback.changes.people import has_changed_account, tell
from fallback.changes.recording import Making, Touched, made_by, making
from fallback.changes.retention import forget
from fallback.changes.undoing import Plan, back_to, undo, way_back, way_without
from fallback.changes.watching import announce

__all__ = [
    "Making",
    "Plan",
    "Touched",
    "announce",
    "back_to",
    "forget",
    "has_changed_account",
    "made_by",
    "making",
    "tell",
    "undo",
    "watch",
    "way_back",
    "way_without",
]


def watch() -> None:
    """Connect the signals; called once, when the app is ready."""
    watching.watch()
    people.watch()
