"""What a person at a terminal is told of an error that is not the program's: one sentence, and what
to do, in place of a traceback."""

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.db.migrations.exceptions import InconsistentMigrationHistory

DAMAGED: Final = ("file is not a database", "malformed")
FULL: Final = {errno.ENOSPC, errno.EDQUOT}
CLOSED: Final = {errno.EROFS, errno.EACCES, errno.EPERM}


def sentence(error: BaseException) -> str:
    """Return one sentence on an error of the surroundings; empty for one of the program."""
    if text := lasting(error):
        return text
    if isinstance(error, OperationalError):
        return f"The database cannot be reached: {' '.join(str(error).split())}"
    return ""


def lasting(error: BaseException) -> str:
    """Return one sentence on an error that waiting does not heal; empty for any other."""
    for one in _chain(error):
        if isinstance(one, (ImproperlyConfigured, InconsistentMigrationHistory)):
            return str(one)
        if text := _of_sqlite(one) or _of_files(one):
            return text
    return ""


def _of_sqlite(error: BaseException) -> str:
    if not isinstance(error, sqlite3.DatabaseError):
        return ""
    text, file = str(error).lower(), Path(str(settings.DATABASES["default"]["NAME"]))
    if any(word in text for word in DAMAGED):
        return (
            f"{file} is damaged ({error}). Stop everything, move it away together with"
            f" {file.name}-wal and {file.name}-shm, and put a backup in its place; without one the"
            " next start begins empty: configuration, keys, people and history are lost."
        )
    if "readonly database" in text or "unable to open" in text or "disk i/o error" in text:
        return f"{file} cannot be read and written ({error}). {_to_do(file.parent)}"
    return _full(file.parent) if "disk is full" in text else ""


def _of_files(error: BaseException) -> str:
    if not isinstance(error, OSError) or not settings.configured or error.filename is None:
        return ""
    if not str(error.filename).startswith(str(settings.VAR_DIR)):
        return ""
    if error.errno in FULL:
        return _full(settings.VAR_DIR)
    if error.errno in CLOSED:
        return f"{error.filename} cannot be written ({error.strerror}). {_to_do(settings.VAR_DIR)}"
    return ""


def _full(place: Path) -> str:
    return f"{place} is full. Make room there, or move it to another place and set VAR_DIR to that."


def _to_do(place: Path) -> str:
    return f"Let this user write to {place} and its files, on a disk that works, or set VAR_DIR."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
