"""What is old enough to be forgotten. The last change is kept however old it is."""

from datetime import datetime

from fallback.models import ConfigChange


def forget(before: datetime, *, at_most: int) -> int:
    """Delete changes older than `before`, `at_most` of them; return how many rows went.

    What was before the oldest that stays goes with the others: that one cannot be undone alone,
    and everything can still be put back to how it was after it.
    """
    last = ConfigChange.objects.newest()
    if last is None:
        return 0
    old = ConfigChange.objects.filter(at__lt=before).exclude(pk=last.pk).order_by("pk")
    ids = list(old.values_list("pk", flat=True)[:at_most])
    return ConfigChange.objects.filter(pk__in=ids).delete()[0] if ids else 0
