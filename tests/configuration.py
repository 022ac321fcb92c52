"""Configuration rows for tests: each call saves one that the admin would accept."""

from typing import Any

from django.db import transaction

from fallback.models import Policy, PolicyReason, Provider, Route, RouteStep

WHY = {"change_reason": "a test"}  # what every form of the admin asks for


def make_policy(name: str = "default", *, reasons: dict[str, Any] | None = None, **values: Any):
    """Save a policy; `reasons` maps a reason to the columns of its what-counts row."""
    policy = Policy(name=name, **values)
    policy.full_clean()
    policy.save()
    for reason, columns in (reasons or {}).items():
        PolicyReason.objects.create(policy=policy, reason=reason, **columns)
    return policy


def make_provider(slug: str = "soniox", **values: Any) -> Provider:
    """Save a provider, under the policy `default` unless another is given."""
    if "policy" not in values:
        values["policy"] = Policy.objects.filter(name="default").first() or make_policy()
    provider = Provider(slug=slug, **{"name": slug.title(), **values})
    provider.full_clean()
    provider.save()
    return provider


@transaction.atomic
def make_route(slug: str = "breeze-buddy", *chain: Provider | str, **values: Any) -> Route:
    """Save a route over a chain of providers, given as rows or as slugs to be made, at once."""
    route = Route(slug=slug, **{"name": slug.title(), **values})
    route.full_clean()
    route.save()
    for position, link in enumerate(chain or ("soniox", "deepgram")):
        provider = link if isinstance(link, Provider) else _provider(link)
        RouteStep.objects.create(route=route, position=position, provider=provider)
    return route


def _provider(slug: str) -> Provider:
    return Provider.objects.filter(slug=slug).first() or make_provider(slug)
