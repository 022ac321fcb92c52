"""WHAT A WORKER WAITS FOR: the database or Redis in a spell of not doing their part.

Which errors are theirs, and so never the fault of what was to be stored; how long to wait; and
each spell said once, not once a second.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import structlog
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    close_old_connections,
    connection,
    transaction,
)

from fallback import metrics
from fallback.errors import BreakerUnavailable

FIRST_S: Final = 0.2
LONGEST_S: Final = 5.0

log = structlog.get_logger(__name__)
Row = TypeVar("Row")


def is_database(error: BaseException) -> bool:
    """Whether the database is at fault, whatever it was asked to store: it is away, full, read
    only, locked or out of time, has no such table, or has too many clients.

    Only a value that it refuses as such (DataError, IntegrityError) is the fault of its row.
    """
    is_its_own = isinstance(error, DatabaseError | InterfaceError)
    return is_its_own and not isinstance(error, DataError | IntegrityError)


def culprit(error: BaseException) -> str:
    """Return what a worker waits for: "database", "redis", or "" for an error of our own."""
    if isinstance(error, BreakerUnavailable):
        return "redis"
    return "database" if is_database(error) else ""


def named(error: BaseException) -> str:
    """Return an error's class, with the database's code for it: "DiskFull 53100". Not its text,
    which may hold addresses and logins."""
    cause = error.__cause__ or error
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return " ".join(filter(None, (type(cause).__name__, code)))


def require_database(error: Exception) -> None:
    """Raise what the database raises if it is away, or `error` if Redis is at fault for it: then
    there is no use in looking for another cause."""
    if culprit(error) == "redis":
        raise error
    close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


class Spell:
    """One worker's present trouble. Its pauses grow up to `longest_s` until `over`."""

    def __init__(
        self, worker: str, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S
    ) -> None:
        self._worker, self._first_s, self._longest_s = worker, first_s, longest_s
        self._failures = 0

    def note(self, error: BaseException) -> None:
        """Count one more failure, and say the first of a spell."""
        what = culprit(error)
        if not self._failures:
            metrics.degraded(f"{self._worker}_without_{what}" if what else f"{self._worker}_failed")
            log.error("worker_waits", worker=self._worker, error=str(error)[:200],
                      name=named(error), exc_info=None if what else error)  # fmt: skip
        self._failures += 1

    def after(self, error: BaseException) -> float:
        """Note a failure; return for how many seconds to wait: longer each time, and never at the
        same moment as the others that failed with us."""
        self.note(error)
        wait_s = self._first_s * 2.0 ** min(self._failures - 1, 10)
        return random.uniform(0.5, 1.0) * min(self._longest_s, wait_s)

    def over(self) -> None:
        """Say the end of a spell, if there was one."""
        if self._failures:
            log.info("worker_goes_on", worker=self._worker, failures=self._failures)
        self._failures = 0


def store_all(rows: Sequence[Row], store: Callable[[Sequence[Row]], Any]) -> None:
    """Store rows at once; where one of them is at fault, the others without it.

    `store` is called in a transaction. Raises what the database itself is at fault for.
    """
    try:
        _store(rows, store)
    except Exception as error:
        if is_database(error):
            raise
        _store_each(rows, store)


def _store_each(rows: Iterable[Row], store: Callable[[Sequence[Row]], Any]) -> None:
    for row in rows:
        try:
            _store([row], store)
        except Exception as error:
            if is_database(error):
                raise
            metrics.degraded("row_left_out")
            log.error("row_left_out", row=str(row)[:200], error=str(error)[:200])


def _store(rows: Sequence[Row], store: Callable[[Sequence[Row]], Any]) -> None:
    with transaction.atomic():
        store(rows)
