"""A second policy beside the live one: what it found, on the provider's and the policy's page."""

from typing import Any, Final

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fallback.admin.base import link
from fallback.admin.words import NOTHING, duration, moment
from fallback.models import Policy, Provider, ShadowTrip
from fallback.shadow import Findings, findings

SHADOW_FIELDSET: Final[tuple[str, dict[str, Any]]] = (
    "In shadow beside it",
    {
        "fields": ["shadow_policy", "shadow_findings"],
        "description": "A second policy follows what agents report, half a minute behind. It moves"
        " no call and tells each trip once: “would trip”.",
    },
)


class WithShadow:
    """A provider's page with what its second policy found."""

    @admin.display(description="what it would have done")
    def shadow_findings(self, row: Provider) -> SafeString | str:
        if row.pk is None or row.shadow_policy_id is None:
            return NOTHING
        found = findings(row)
        return _told(found) if found else "It has just begun: a pump takes it up within seconds."


class WithFindings:
    """A policy's page with what it found in shadow of others."""

    @admin.display(description="in shadow beside")
    def in_shadow(self, row: Policy) -> SafeString | str:
        providers = Provider.objects.filter(shadow_policy=row) if row.pk else ()
        found = ((provider, findings(provider)) for provider in providers)
        parts = [(link(provider), _told(one) if one else NOTHING) for provider, one in found]
        return format_html_join("", "<div>{}: {}</div>", parts) or NOTHING


def _told(found: Findings) -> SafeString:
    run = found.run
    trips = format_html_join("", "<li>{}</li>", ((_trip(trip),) for trip in found.trips))
    return format_html(
        '<p>{}</p><ul class="calls">{}</ul><p class="quiet">Since {}, up to {}.</p>',
        found.sentence(),
        trips,
        moment(run.since),
        moment(run.until),
    )


def _trip(trip: ShadowTrip) -> SafeString:
    length = f"for {duration(trip.until - trip.at)}" if trip.until else "still out"
    why = ": ".join(filter(None, [trip.cause.replace("_", " "), trip.reason]))
    return format_html("would have tripped at {}, {} ({})", moment(trip.at), length, why)
