"""Files for this user alone: the database holds sessions and hashes, and whoever can open the
embedded Redis's socket commands every breaker.

Decided here: VAR_DIR that is ours is made 0700, but never one that holds other things than ours
(/tmp, a home) or is shared by its nature. One that root gave to this process's group, as container
platforms mount volumes, is taken as it is unless everybody may write there; our files in it are
0600 all the same. One of any other user is refused: its owner could replace each file.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.core.exceptions import ImproperlyConfigured

OTHERS: Final = 0o077
DATABASE: Final = "db.sqlite3"
OWN_FILES: Final = ("secret_key", "up.lock", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
OWN_NAMES: Final = {*OWN_FILES, f"{DATABASE}-journal", "redis", "lost+found"}
ROOT: Final = 0


class NotPrivate(ImproperlyConfigured):
    """A place for our files that others can reach, or that we cannot; the text says what to do."""


def by_default() -> None:
    """From now on this process and its children make every file for this user alone."""
    os.umask(OTHERS)


def var_dir(path: Path) -> None:
    """Make VAR_DIR, or see to it that an existing one is fit for secrets.

    Raises NotPrivate with one sentence and what to do.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    if found.st_uid == os.geteuid():
        _tighten(path, found.st_mode)
    elif found.st_uid != ROOT or found.st_mode & stat.S_IWOTH:
        raise NotPrivate(
            f"VAR_DIR is {path}, which {_owner(found)}: somebody else could read or replace what is"
            f" kept there. Run as its owner, or set VAR_DIR to a directory of its own: {path}/stt"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise _unusable(path, "read-only file system" if is_read_only else "permission denied")


def directory(path: Path) -> None:
    """Make a directory for this user alone, or take one that is; not a link to one.

    Raises NotPrivate when somebody else made it, for whoever did may have put a socket there.
    """
    try:
        with suppress(FileExistsError):  # whatever is there is looked at next
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise _unusable(path, error.strerror) from error
    if not stat.S_ISDIR(found.st_mode):
        raise NotPrivate(f"{path} is not a directory, which is needed there: move it away")
    if found.st_uid != os.geteuid():
        raise NotPrivate(
            f"{path} {_owner(found)}: remove it, or set VAR_DIR to a shorter path, which needs no"
            " directory there"
        )
    if found.st_mode & OTHERS:
        path.chmod(0o700)


def socket(path: Path) -> None:
    """Raise NotPrivate unless there is no such file, or it is a socket of this user."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise NotPrivate(f"{path} is no socket of this user, which is needed there: remove it")


def _tighten(path: Path, mode: int) -> None:
    """Keep others out of a directory of ours."""
    if not mode & OTHERS:
        return
    foreign = sorted(
        name
        for name in os.listdir(path)
        if name not in OWN_NAMES and not name.startswith((".", DATABASE))  # copies of it are ours
    )
    if mode & stat.S_ISVTX or foreign:
        why = f"holds other things ({', '.join(foreign[:3])})" if foreign else "is a shared place"
        raise NotPrivate(
            f"VAR_DIR is {path}, which others may read and which {why}. Set VAR_DIR to a directory"
            f" of its own ({path}/stt), or keep others out: chmod 700 {path}"
        )
    path.chmod(0o700)
    for name in OWN_FILES:
        if (path / name).is_file() and not (path / name).is_symlink():
            (path / name).chmod(0o600)


def _owner(found: os.stat_result) -> str:
    everybody = " and everybody may write to" if found.st_mode & stat.S_IWOTH else ""
    return f"user {found.st_uid} owns{everybody} (this process runs as {os.geteuid()})"


def _unusable(path: Path, why: str | None) -> NotPrivate:
    return NotPrivate(
        f"{path} cannot be written ({why}). Set VAR_DIR to a directory that can, or let this user"
        " write there; with DATABASE_URL, REDIS_URL and SECRET_KEY set none is needed"
    )
