"""The last known state in a file, for fleets that run each call in a process of its own.

Losing it costs a request; so nothing here raises, and nothing is locked: the last writer wins.
"""

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

SAVE_EVERY_S: Final = 5.0
FILE_MAX: Final = 4 * 1024 * 1024  # bytes; what is larger is not ours

log = logging.getLogger(__name__)


class Memory:
    """One file, or none when `path` is None. `wall` is the time in Unix seconds."""

    def __init__(self, path: Path | None, wall: Callable[[], float] = time.time) -> None:
        self._path, self._wall = path, wall
        self._saved: tuple[int, float] | None = None

    def save(self, body: Mapping[str, Any]) -> None:
        """Keep a status; an unchanged one is written every SAVE_EVERY_S, to show its age."""
        if self._path is None:
            return
        version, now_s = int(body["version"]), self._wall()
        if self._saved and self._saved[0] == version and now_s - self._saved[1] < SAVE_EVERY_S:
            return
        self._saved = (version, now_s)
        try:
            self._write(json.dumps({"saved_at": now_s, "status": body}))
        except (OSError, TypeError, ValueError) as error:
            log.warning("the state file %s cannot be written: %s", self._path, error)

    def load(self, max_age_s: float) -> Mapping[str, Any] | None:
        """Return the status that was kept, None when there is none of at most that age."""
        if self._path is None:
            return None
        try:
            if self._path.stat().st_size > FILE_MAX:
                return None
            kept = json.loads(self._path.read_text("utf-8"))
            age_s = self._wall() - float(kept["saved_at"])
            return kept["status"] if -1 <= age_s <= max_age_s else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("the state file %s cannot be read: %s", self._path, type(error).__name__)
            return None

    def _write(self, text: str) -> None:
        """Replace the file in one step: another process must never read half of it."""
        assert self._path is not None
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(name, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
