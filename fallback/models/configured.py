"""What every configured model shares: an all-or-nothing save, stamps, choices from enums."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from django.db import models, router, transaction


def choices(values: Iterable[StrEnum]) -> list[tuple[str, str]]:
    """Return an enum of the contract's words as the choices of a column."""
    return [(value.value, value.value.replace("_", " ")) for value in values]


class Configured(models.Model):
    """A row that operators set.

    Saving and deleting are transactions of their own, so that the row, its history and the
    revision that announces it (`fallback.changes`) are stored together or not at all.
    `QuerySet.update` and the bulk methods send no signals: they are not for these rows.
    """

    created_at = models.DateTimeField(auto_now_add=True, editable=False)
    updated_at = models.DateTimeField(auto_now=True, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            return super().delete(*args, **kwargs)

    def why_it_stays(self) -> str:
        """Return why this row cannot be deleted now, and what to do; empty if it can."""
        return ""
