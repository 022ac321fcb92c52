"""What an editor saw of a row, in a few characters; and the changes that touched it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import models
from django.db.models import QuerySet
from django.urls import reverse

from fallback import changes, configuration
from fallback.admin.asking import whole
from fallback.changes import Touched
from fallback.configuration import Document, canonical
from fallback.models import ConfigChange


@dataclass(frozen=True, slots=True)
class Seen:
    """The last change there was, and a digest of the row with all that is within it."""

    change: int
    digest: str

    def __str__(self) -> str:
        return f"{self.change}.{self.digest}"

    @classmethod
    def parsed(cls, text: str) -> "Seen":
        """Return what a form carried; what nobody saw, where that is nothing of ours."""
        number, _, digest = text.partition(".")
        known = whole(number)
        return cls(0, "") if known is None else cls(known, digest)

    @classmethod
    def now(cls, row: models.Model) -> "Seen":
        """Return what whoever looks now sees of a saved row."""
        newest = ConfigChange.objects.newest()
        return cls(newest.pk if newest else 0, digest_of(row, document_now()))

    def is_outdated(self, now: "Seen") -> bool:
        """Whether the row is another one now. Who sent no word of what she saw saw nothing."""
        return bool(self.digest) and self.digest != now.digest

    @staticmethod
    def differences(change: ConfigChange, row: models.Model) -> list[str]:
        """Return what a change did to a row, a line for each value."""
        path = configuration.entry_path(row)
        before = change.previous()
        if path is None or before is None:
            return [change.summary]
        parts = [part_of(one.configuration, path) for one in (before, change)]
        found = configuration.diff(*parts)
        return [str(one).removeprefix(f"{one.noun}: ") for one in found] or [change.summary]


def document_now() -> Document:
    """Return the configuration as it is: under the lock, as it was when that was taken."""
    making = changes.making()
    return making.before if making else configuration.build()


def digest_of(row: models.Model, document: Document) -> str:
    """Return a digest of a row's entry, name included."""
    path = configuration.entry_path(row)
    if path:
        value: Any = [path[1], document[path[0]].get(path[1])]
    else:
        value = {field.name: str(field.value_from_object(row)) for field in _columns(row)}
    return hashlib.sha256(canonical(value).encode(errors="replace")).hexdigest()[:20]


def part_of(document: Document, path: tuple[str, str]) -> Document:
    """Return a document with one entry alone."""
    section, key = path
    entries: Mapping[str, Any] = document.get(section, {})
    return {section: {key: entries[key]}} if key in entries else {}


def changes_of(row: models.Model) -> QuerySet[ConfigChange]:
    """Return the changes that touched a row under the name it has, newest first."""
    section, key = _path(row)
    return ConfigChange.objects.filter(touched__section=section, touched__key=key)


def changes_url(row: models.Model | None) -> str:
    """Return the address of the list of a row's changes; of all of them where it is gone."""
    url = reverse("admin:fallback_configchange_changelist")
    return f"{url}?{urlencode({'touched': '.'.join(_path(row))})}" if row else url


def change_url(change: ConfigChange) -> str:
    """Return the address of the page of a change."""
    return reverse("admin:fallback_configchange_change", args=[change.pk])


def deleter(model: type[models.Model], number: str) -> ConfigChange | None:
    """Return the change that deleted the row of a number, if that is known."""
    history: Any = getattr(model, "history", None)
    pk = whole(number)
    if history is None or pk is None:
        return None
    gone = history.filter(id=pk, history_type="-").order_by("-history_id").first()
    return changes_of(gone.instance).first() if gone else None


def _path(row: models.Model) -> tuple[str, str]:
    touched = Touched.of(row, "")
    return configuration.entry_path(row) or (touched.section, touched.key)


def _columns(row: models.Model) -> list[Any]:
    return [field for field in row._meta.concrete_fields if field.editable]
