"""From an incident to the place where other thresholds can be tried on it."""

from urllib.parse import urlencode

from django import template
from django.urls import reverse
from django.utils import timezone

from fallback.models import Incident, Provider
from fallback.rehearsals.spans import covering

register = template.Library()


@register.simple_tag
def rehearsal_of(incident: Incident) -> str:
    """Return the address of the policy that an incident's provider obeys, with a span that holds
    the incident chosen; empty when the provider is gone or the incident too old."""
    row = Provider.objects.filter(kind=incident.kind, slug=incident.provider).first()
    span = covering(incident, row.policy, timezone.now()) if row else ""
    if row is None or not span:
        return ""
    page = reverse("admin:fallback_policy_change", args=[row.policy_id])
    return f"{page}?{urlencode({'rehearse': span})}#rehearsal"
