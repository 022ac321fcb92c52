"""The last known state in a file, for fleets that run each call in a process of its own.

Losing it costs a request; so nothing here raises, what is wrong with the file is said once, and
nothing is locked: the last writer wins.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from stt_guard.said import ONCE, Said
from stt_guard.state import Picture

SAVE_EVERY_S: Final = 5.0
OLD_S: Final = 5.0  # a file older than this is worth a request
FILE_MAX: Final = 4 * 1024 * 1024  # bytes; what is larger is not ours
AHEAD_S: Final = 1.0  # a file is saved by this machine's clock; further ahead, it is wrong


class Memory:
    """One file, or none when `path` is None. `wall` is the time in Unix seconds."""

    def __init__(self, path: Path | None, wall: Callable[[], float] = time.time) -> None:
        self._path, self._wall = path, wall
        self._saved: tuple[int, float] | None = None
        self._said = Said(ONCE)

    @property
    def is_kept(self) -> bool:
        """Whether there is a file to keep."""
        return self._path is not None

    def save(self, body: Mapping[str, Any]) -> None:
        """Keep a status; an unchanged one is written every SAVE_EVERY_S, to show its age."""
        if self._path is None:
            return
        version, now_s = int(body["version"]), self._wall()
        if self._saved and self._saved[0] == version and now_s - self._saved[1] < SAVE_EVERY_S:
            return
        self._saved = (version, now_s)
        try:
            self._write(self._path, json.dumps({"saved_at": now_s, "status": body}))
        except (OSError, TypeError, ValueError) as error:
            self._said.warn("the state file %s cannot be written: %s", self._path, error)

    def load(self, max_age_s: float, now_s: float) -> Picture | None:
        """Return what was kept; None when there is nothing of at most that age.

        `now_s` is the time of the clock that the picture is then decided by.
        """
        if self._path is None:
            return None
        try:
            return self._read(self._path, max_age_s, now_s)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            name = type(error).__name__
            self._said.warn("the state file %s is ignored: %s (%s)", self._path, error, name)
            return None

    def claim(self) -> bool:
        """Take the turn to ask for what the file should hold; False when it is not this process's.

        The file must be old, and each OLD_S seconds are one turn of the machine: whoever makes the
        turn's file has it. A process that dies with its turn is in nobody's way for longer.
        """
        if self._path is None or not self._is_old(self._path):
            return False
        prefix = f"{self._path.name}.turn-"
        mine = self._path.with_name(f"{prefix}{int(self._wall() // OLD_S)}")
        try:
            os.close(os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            for other in self._path.parent.glob(f"{prefix}*"):
                if other != mine:
                    other.unlink(missing_ok=True)
        except FileExistsError:
            return False
        except OSError as error:
            self._said.warn("the state file %s cannot be kept: %s", self._path, error)
            return False
        return True

    def _is_old(self, path: Path) -> bool:
        try:
            age_s = self._wall() - path.stat().st_mtime
        except OSError:
            return True
        return not -AHEAD_S <= age_s < OLD_S

    def _read(self, path: Path, max_age_s: float, now_s: float) -> Picture | None:
        """Read the file. Raises what is wrong with it."""
        if path.stat().st_size > FILE_MAX:
            raise ValueError("it is too large")
        kept = json.loads(path.read_text("utf-8"))
        age_s = self._wall() - float(kept["saved_at"])
        if not age_s >= -AHEAD_S:
            raise ValueError("it is from the future")
        if age_s > max_age_s:
            return None
        picture = Picture()
        picture.replace(kept["status"], now_s)
        return picture

    def _write(self, path: Path, text: str) -> None:
        """Replace the file in one step: another process must never read half of it."""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
