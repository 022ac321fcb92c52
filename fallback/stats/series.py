"""Statistics as a plot wants them: equal steps over a span, for each provider."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fallback.models import ProviderMinute
from fallback.stats.counts import Counts, counts_from, total

POINTS_MAX: Final = 360
STEPS_S: Final = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 86_400)


@dataclass(frozen=True, slots=True)
class Series:
    """`providers`: (kind, slug) -> counts of each step; step `i` begins at `since` + i steps."""

    since: datetime
    until: datetime
    step_s: int
    providers: Mapping[tuple[str, str], list[Counts]]

    def total(self, kind: str, provider: str) -> Counts:
        """Return one provider's counts over the whole span."""
        return total(self.providers[kind, provider])


def read(since: datetime, until: datetime, *, kind: str = "", provider: str = "") -> Series:
    """Return the steps from `since` (down to a whole one) to `until`; at most `POINTS_MAX`."""
    span_s = (until - since).total_seconds()
    step_s = next((step for step in STEPS_S if span_s / step <= POINTS_MAX), STEPS_S[-1])
    start = datetime.fromtimestamp(since.timestamp() // step_s * step_s, since.tzinfo)
    count = max(1, -int(-(until - start).total_seconds() // step_s))
    rows = ProviderMinute.objects.filter(at__gte=start, at__lt=until)
    named = {name: value for name, value in (("kind", kind), ("provider", provider)) if value}
    found: dict[tuple[str, str], list[Counts]] = {}
    columns = ("kind", "provider", "at", "calls", "failures", "diverted", "latencies")
    for of, slug, at, calls, failures, diverted, latencies in rows.filter(**named).values_list(
        *columns
    ):
        steps = found.setdefault((of, slug), [])
        if not steps:
            steps.extend(Counts() for _ in range(count))
        index = int((at - start) / timedelta(seconds=step_s))
        steps[index].add(counts_from([calls, failures, diverted, *latencies]))
    return Series(start, until, step_s, dict(sorted(found.items())))
