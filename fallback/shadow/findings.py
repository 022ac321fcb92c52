"""What a second policy found, beside what the live one did in the same time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import Sum

from fallback.domain import EventName
from fallback.models import Incident, Provider, ShadowRun, ShadowTrip, Transition

SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Findings:
    """A run, its latest trips, and the live policy's numbers since it began."""

    run: ShadowRun
    trips: Sequence[ShadowTrip]
    live_trips: int
    live_diverted: int

    def sentence(self) -> str:
        """Say it in one line."""
        run = self.run
        return (
            f"{run.policy} would have tripped {_times(run.trips)} and diverted"
            f" {_calls(run.diverted)} ({run.diverted_healthy} while it was in fact healthy);"
            f" the live policy tripped {_times(self.live_trips)} and diverted"
            f" {_calls(self.live_diverted)}."
        )


def findings(provider: Provider) -> Findings | None:
    """Return what a provider's second policy found; None when it names none, or has not begun."""
    run = ShadowRun.objects.select_related("policy", "provider").filter(provider=provider).first()
    if run is None or provider.shadow_policy_id != run.policy_id:
        return None
    of_this = {"kind": provider.kind, "provider": provider.slug}
    trips = Transition.objects.filter(**of_this, name=EventName.TRIPPED, at__gte=run.since)
    incidents = Incident.objects.filter(**of_this, opened_at__gte=run.since)
    diverted = incidents.aggregate(total=Sum("diverted"))["total"]
    return Findings(
        run=run,
        trips=list(run.found.all()[:SHOWN]),
        live_trips=trips.count(),
        live_diverted=diverted or 0,
    )


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"
