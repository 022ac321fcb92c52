"""What is old enough to be forgotten."""

from datetime import datetime

from fallback.models import DeadLetter, Transition
from fallback.standing import latest_orders


def forget(before: datetime, *, at_most: int) -> int:
    """Delete old transitions and dead letters, `at_most` of each; return how many went.

    What an open incident or a standing order rests on is kept however old it is. Incidents stay:
    they are few, and the record of what happened.
    """
    gone = DeadLetter.objects.filter(at__lt=before).order_by("at")[:at_most]
    count, _ = DeadLetter.objects.filter(pk__in=[row.pk for row in gone]).delete()
    old = Transition.objects.filter(at__lt=before).exclude(
        incident__isnull=False, incident__closed_at=None
    )
    ids = set(old.order_by("at").values_list("pk", flat=True)[:at_most])
    if ids:
        ids -= {row.pk for row in latest_orders()}
        count += Transition.objects.filter(pk__in=ids).delete()[0]
    return count
