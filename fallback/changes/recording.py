"""Who changed what and why: one `ConfigChange` for each transaction that changed anything.

It is written in the transaction of the rows, at the end of `made_by`. What is saved outside of
one (a shell, a test) is recorded right after its commit, and what was written past the signals (by
hand, or `QuerySet.update`) with the next change, as one of its own: the history has no gaps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import models, transaction
from simple_history.models import HistoricalRecords

from fallback import configuration
from fallback.configuration import Document
from fallback.models import ChangedEntry, ConfigChange, ConfigRevision, PolicyReason, RouteStep

SYSTEM: Final = "system"
BEGINNING: Final = "As it was before the first change that is recorded here."
UNSEEN: Final = "Found changed: written outside of the control plane's own ways."
HISTORY_REASON_MAX: Final = 100  # the column of django-simple-history


@dataclass(frozen=True, slots=True)
class Touched:
    """A row that is in no document, and what became of it: an API key, a person.

    `key` stays the same for as long as the row is there; `name` is what it is called now.
    """

    section: str
    key: str
    noun: str
    what: str
    name: str = ""

    @classmethod
    def of(cls, row: models.Model, what: str) -> "Touched":
        """Return what is told of a row."""
        noun = str(row._meta.verbose_name)
        return cls(
            str(row._meta.verbose_name_plural).lower().replace(" ", "_"), str(row), noun, what
        )

    def __str__(self) -> str:
        return f"{self.noun} {self.name or self.key}: {self.what}"


@dataclass(slots=True)
class Making:
    """A change in the making. `change` is there once it is made, None if nothing changed."""

    author: str
    reason: str
    before: Document = field(default_factory=dict, repr=False)
    others: list[Touched] = field(default_factory=list)
    change: ConfigChange | None = None
    user: Any = None


_making: ContextVar[Making | None] = ContextVar("making", default=None)


def making() -> Making | None:
    """Return the change that is being made in this thread, if one is."""
    return _making.get()


@contextmanager
def made_by(author: str, reason: str = "", user: Any = None) -> Iterator[Making]:
    """Make whatever the block saves one change, with its author and reason, in one transaction.

    `author` says where as well: `admin:ana`, `command:config_apply`; `user` is the account, if it
    is somebody's. Waits for whoever else is changing the configuration. Within another, the outer
    one tells who and why.
    """
    outer = _making.get()
    if outer:
        yield outer
        return
    mine = Making(author, reason, user=user)
    with transaction.atomic():
        ConfigRevision.lock()
        mine.before = configuration.build()
        token = _making.set(mine)
        try:
            yield mine
        finally:
            _making.reset(token)
        after = configuration.build()
        if mine.others or not configuration.is_same(mine.before, after):
            _catch_up(mine.before)
            mine.change = _record(mine, after)


def begin() -> None:
    """Keep how it was before the very first change, so that it can be undone."""
    if not _making.get() and not ConfigChange.objects.exists():
        _catch_up(configuration.build())


def record_strays(others: Sequence[Touched] = ()) -> None:
    """Record what a committed transaction changed outside of `made_by`."""
    with transaction.atomic():
        ConfigRevision.lock()
        last = ConfigChange.objects.newest()
        before = last.configuration if last else {}
        user = signed_in()
        author = f"admin:{user.get_username()}" if user else SYSTEM
        stray = Making(author, "", before, list(others), user=user)
        _record(stray, configuration.build())


def is_in_document(model: type[models.Model]) -> bool:
    """Whether rows of a model are in the document, by themselves or within others."""
    return model in (PolicyReason, RouteStep) or configuration.section_of(model) is not None


def give_reason(history_instance: Any, **_: Any) -> None:
    """Put the reason of the change that is being made on a row's own history."""
    mine = _making.get()
    if mine and not history_instance.history_change_reason:
        history_instance.history_change_reason = mine.reason[:HISTORY_REASON_MAX] or None


def _catch_up(now: Document) -> None:
    """Record what nobody has recorded."""
    last = ConfigChange.objects.newest()
    if last is None:
        _store(Making(SYSTEM, BEGINNING), now, "The beginning", [])
    elif not configuration.is_same(last.configuration, now):
        _record(Making(SYSTEM, UNSEEN, last.configuration), now)


def _record(mine: Making, now: Document) -> ConfigChange | None:
    """Store a change, unless nothing changed."""
    differences = configuration.diff(mine.before, now)
    others = list(dict.fromkeys(mine.others))
    if not differences and not others:
        return None
    told = [configuration.summary(differences)] if differences else []
    told += [str(one) for one in others]
    paths = [one.path[:2] for one in differences] + [(one.section, one.key) for one in others]
    return _store(mine, now, "; ".join(told), paths)


def _store(
    mine: Making, now: Document, summary: str, paths: Sequence[tuple[str, ...]]
) -> ConfigChange:
    change = ConfigChange(
        revision=ConfigRevision.current(),
        author=mine.author[: ConfigChange.AUTHOR_MAX],
        user=mine.user,
        reason=mine.reason[: ConfigChange.REASON_MAX],
        summary=summary[: ConfigChange.SUMMARY_MAX],
    )
    change.configuration = now
    change.save()
    ChangedEntry.objects.bulk_create(
        ChangedEntry(change=change, section=section, key=key[: ChangedEntry.KEY_MAX])
        for section, key in dict.fromkeys(paths)
    )
    return change


def signed_in() -> Any:
    """Return who is signed in where a row is saved without a word of who did it; None for nobody.

    Not before the request's own session was read: that is none of its changes.
    """
    request = getattr(HistoricalRecords.context, "request", None)
    user = getattr(request, "user", None)
    return user if user and user.is_authenticated and user.pk else None
