"""What is kept of each change of the configuration: who, when, why, and how all was after it."""

import json
import zlib
from typing import Any, Final, Optional

from django.conf import settings
from django.db import models
from django.utils import timezone

LEVEL: Final = 6  # of compression: a configuration of 1,000 routes takes some 30 KB


class ChangeManager(models.Manager["ConfigChange"]):
    """Reads changes without their documents, which only the page of one needs."""

    def get_queryset(self) -> models.QuerySet["ConfigChange"]:
        return super().get_queryset().defer("packed")

    def newest(self) -> Optional["ConfigChange"]:
        """Return the last change, None before the first."""
        return self.order_by("-pk").first()


class ConfigChange(models.Model):
    """One change of the configuration. Written by `fallback.changes` alone, never changed."""

    AUTHOR_MAX = 200
    REASON_MAX = 600
    SUMMARY_MAX = 500

    at = models.DateTimeField(default=timezone.now, db_index=True)
    revision = models.BigIntegerField(help_text="Of the configuration, as breakers know it.")
    author = models.CharField(max_length=AUTHOR_MAX, help_text="Who, and by what: admin:ana.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Whose account that was, whatever its name is now; none for commands.",
    )
    reason = models.CharField(max_length=REASON_MAX, blank=True, help_text="Why.")
    summary = models.CharField(max_length=SUMMARY_MAX, help_text="What, in a line.")
    packed = models.BinaryField(help_text="The whole configuration after it: JSON, deflated.")

    objects = ChangeManager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "change"
        indexes = [models.Index(fields=["author", "-id"], name="configchange_author")]

    def __str__(self) -> str:
        return f"#{self.pk}"

    @property
    def configuration(self) -> dict[str, Any]:
        """The whole configuration as it was right after this change."""
        found: dict[str, Any] = json.loads(zlib.decompress(self.packed))
        return found

    @configuration.setter
    def configuration(self, document: dict[str, Any]) -> None:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        self.packed = zlib.compress(text.encode(errors="surrogatepass"), LEVEL)

    def previous(self) -> Optional["ConfigChange"]:
        """Return the change before this one, None if there was none or it is forgotten."""
        return ConfigChange.objects.filter(pk__lt=self.pk).order_by("-pk").first()


class ChangedEntry(models.Model):
    """Something that a change touched: where it is in the document."""

    KEY_MAX = 200

    change = models.ForeignKey(ConfigChange, on_delete=models.CASCADE, related_name="touched")
    section = models.CharField(max_length=40, help_text="Such as policies.")
    key = models.CharField(max_length=KEY_MAX, help_text="Its name there, such as stt/soniox.")

    class Meta:
        indexes = [models.Index(fields=["section", "key", "-change"], name="changedentry_where")]

    def __str__(self) -> str:
        return f"{self.section}.{self.key}"
