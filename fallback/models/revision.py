"""The revision of the configuration: one number that rises with every change."""

from collections.abc import Mapping

from django.db import models, transaction
from django.utils import timezone


class ConfigRevision(models.Model):
    """One row. Written in the transaction of each configuration change (`fallback.changes`)."""

    ONLY = 1

    number = models.BigIntegerField(default=0, help_text="Rises with every change.")
    at = models.DateTimeField(auto_now=True)
    sealed = models.BigIntegerField(default=0, help_text="The number that `rows` belongs to.")
    rows = models.JSONField(
        default=dict, help_text="How many rows of each model the configuration has."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(pk=1), name="configrevision_one_row")
        ]

    def __str__(self) -> str:
        return str(self.number)

    @classmethod
    def bump(cls) -> int:
        """Raise the number and return it: the time in ms, or one more than before.

        A time keeps it rising when a database is restored from a copy that is older than the
        configuration the breakers have taken already: they take only a higher number.
        Holds the row's lock to the end of the transaction, so that numbers rise in the order in
        which changes become visible.
        """
        with transaction.atomic():
            row, _ = cls.objects.select_for_update().get_or_create(pk=cls.ONLY)
            row.number = max(row.number + 1, int(timezone.now().timestamp() * 1000))
            row.save()
        return row.number

    @classmethod
    def rise_above(cls, number: int) -> bool:
        """Raise the number above this one, which the breakers have of a newer copy of the database;
        False where it is not below. The configuration stays as it is."""
        with transaction.atomic():
            row = cls.objects.select_for_update().filter(pk=cls.ONLY, number__lt=number).first()
            if row is None:
                return False
            is_sealed = row.sealed == row.number
            row.number = max(number + 1, int(timezone.now().timestamp() * 1000))
            row.sealed = row.number if is_sealed else row.sealed
            row.save()
        return True

    @classmethod
    def lock(cls) -> None:
        """Have everybody else who changes the configuration wait for the end of the transaction.

        On SQLite the transaction's beginning has done that already.
        """
        cls.objects.select_for_update().get_or_create(pk=cls.ONLY)

    @classmethod
    def seal(cls, rows: Mapping[str, int]) -> None:
        """Keep how many rows the configuration has now; for the holder of the lock."""
        cls.objects.filter(pk=cls.ONLY).update(sealed=models.F("number"), rows=rows)

    @classmethod
    def is_sealed(cls) -> bool:
        """Say whether the number of rows is that of the present revision; so it is of none."""
        return not cls.objects.exclude(sealed=models.F("number")).exists()

    @classmethod
    def with_rows(cls) -> tuple[int, dict[str, int]]:
        """Return the number, 0 before the first change, and how many rows of each model there are
        at it; empty where nobody has counted them yet."""
        columns = ("number", "sealed", "rows")
        number, sealed, rows = cls.objects.filter(pk=cls.ONLY).values_list(*columns).first() or (
            0, 0, {},
        )  # fmt: skip
        return number, rows if sealed == number else {}

    @classmethod
    def current(cls) -> int:
        """Return the number, 0 before the first change."""
        return cls.objects.filter(pk=cls.ONLY).values_list("number", flat=True).first() or 0
