"""What to say before a change of the configuration is kept, and what to do about it.

Rules across rows, each in one place: the admin asks before it saves or deletes, `manage.py check`
and the admin's first page tell what holds now, and whoever applies a whole configuration compares
a `read` before with one after. What is refused outright stands with the models; this is what is
allowed, and seldom meant.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db.models import Q
from django.utils import timezone

from fallback.messages.events import MOST_IMPORTANT
from fallback.models import (
    AlertDestination,
    AlertTemplate,
    ApiKey,
    Policy,
    Provider,
    Role,
    Route,
    RouteStep,
)

IN_USE: Final = timedelta(days=30)  # a key that was used within this is in use


@dataclass(frozen=True, slots=True)
class Caution:
    """One thing to know. `is_grave`: asked about before it is saved; else told once it is."""

    code: str
    model: str
    pk: int
    text: str
    is_grave: bool = True

    @property
    def key(self) -> tuple[str, str, int]:
        """The same thing about the same row has the same key, whatever words it takes."""
        return self.code, self.model, self.pk


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """What the rules need of a provider."""

    slug: str
    kind: str
    enabled: bool
    languages: Sequence[str]
    policy: int


@dataclass(frozen=True, slots=True)
class KnownRoute:
    """What the rules need of a route; `chain` holds providers in the order of trying."""

    slug: str
    kind: str
    fallback_enabled: bool
    chain: Sequence[int]


@dataclass(frozen=True, slots=True)
class KnownPolicy:
    """What the rules need of a policy."""

    name: str
    shadow: bool
    trips_at_once_only: bool
    distinct_keys: int


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration as far as the rules look, each row by its id."""

    providers: Mapping[int, KnownProvider]
    routes: Mapping[int, KnownRoute]
    policies: Mapping[int, KnownPolicy]
    templates: Mapping[int, tuple[str, bool]]
    destinations: Mapping[int, bool]
    agent_keys: int  # usable, and in use

    def usable(self, route: KnownRoute) -> list[KnownProvider]:
        """Return the providers of a chain that can serve it, in order."""
        chain = [self.providers[pk] for pk in route.chain if pk in self.providers]
        return [row for row in chain if row.enabled and row.kind == route.kind]


def read() -> Setup:
    """Return the configuration that this transaction sees. Seven queries, however many rows."""
    columns = Provider.objects.values_list(
        "pk", "slug", "kind", "enabled", "languages", "policy_id"
    )
    chains: dict[int, list[int]] = {}
    for route, provider in RouteStep.objects.order_by("position", "id").values_list(
        "route_id", "provider_id"
    ):
        chains.setdefault(route, []).append(provider)
    routes = Route.objects.values_list("pk", "slug", "kind", "fallback_enabled")
    templates = AlertTemplate.objects.values_list("pk", "event", "enabled")
    return Setup(
        providers={pk: KnownProvider(*rest) for pk, *rest in columns},
        routes={
            pk: KnownRoute(slug, kind, is_on, chains.get(pk, []))
            for pk, slug, kind, is_on in routes
        },
        policies={
            row.pk: KnownPolicy(row.name, row.shadow, row.trips_at_once_only, row.distinct_keys)
            for row in Policy.objects.all()
        },
        templates={pk: (event, enabled) for pk, event, enabled in templates},
        destinations=dict(AlertDestination.objects.values_list("pk", "enabled")),
        agent_keys=_agent_keys(),
    )


def _agent_keys() -> int:
    now = timezone.now()
    return (
        ApiKey.objects.filter(role=Role.AGENT, enabled=True, last_used_at__gte=now - IN_USE)
        .filter(Q(expires_at=None) | Q(expires_at__gt=now))
        .count()
    )


def brought(before: Setup, after: Setup) -> list[Caution]:
    """Return what a change brings: what held before already is not said again."""
    known = {caution.key for caution in present(before)}
    new = [caution for caution in present(after) if caution.key not in known]
    return [*_renamed(before, after), *_gone(before, after), *new]


def present(setup: Setup) -> list[Caution]:
    """Return all that is to be known about a configuration as it stands."""
    found: list[Caution] = []
    for pk, route in setup.routes.items():
        found += _of_chain(setup, pk, route)
    return [*found, *_of_providers(setup), *_of_policies(setup), *_of_alerts(setup)]


def _of_chain(setup: Setup, pk: int, route: KnownRoute) -> Iterator[Caution]:
    usable = setup.usable(route)
    if not route.fallback_enabled:
        yield Caution("fallback_off", "route", pk, (
            f"Route {route.slug}: its fallback is switched off, so that every call starts on"
            f" {usable[0].slug if usable else 'its first provider'} even while that is out."
            " Switch it on to be protected."
        ))  # fmt: skip
    if not usable:
        yield Caution("none_left", "route", pk, (
            f"Route {route.slug} has no usable provider: its calls are refused (409). Add an"
            f" enabled provider of kind {route.kind} to its chain."
        ))  # fmt: skip
    elif len(usable) == 1:
        yield Caution("one_left", "route", pk, (
            f"Route {route.slug} has one usable provider, {usable[0].slug}: when that is out, its"
            f" calls have nowhere to go. Add a second provider of kind {route.kind} to its chain."
        ))  # fmt: skip
    else:
        yield from _of_languages(pk, route, usable)
    policies = {setup.policies[row.policy].name for row in usable if row.policy in setup.policies}
    if usable and all(_is_shadow(setup, row) for row in usable):
        yield Caution("all_shadow", "route", pk, (
            f"Route {route.slug}: every provider of its chain is in shadow (policy"
            f" {', '.join(sorted(policies))}), so that no outage moves a call of it. Give one of"
            " them a policy that is not in shadow."
        ))  # fmt: skip


def _of_languages(pk: int, route: KnownRoute, usable: Sequence[KnownProvider]) -> Iterator[Caution]:
    """Yield what is said of languages that one provider of the chain alone can hear.

    Languages that no provider of it names are as one: only those that hear any can hear them.
    """
    named = sorted({tag for row in usable for tag in row.languages})
    alone: dict[str, list[str]] = {}
    for tag in named:
        hearers = [row.slug for row in usable if not row.languages or tag in row.languages]
        if len(hearers) == 1:
            alone.setdefault(hearers[0], []).append(tag)
    anything = [row.slug for row in usable if not row.languages]
    if named and len(anything) == 1:
        alone.setdefault(anything[0], []).append("any other language")
    for slug, tags in alone.items():
        yield Caution(f"alone:{slug}:{','.join(tags)}", "route", pk, (
            f"Route {route.slug}: {slug} is the only one of its chain for {', '.join(tags)}: when"
            " it is out, such calls have nowhere to go. Add another provider that hears them."
        ))  # fmt: skip


def _of_providers(setup: Setup) -> Iterator[Caution]:
    used = {provider for route in setup.routes.values() for provider in route.chain}
    for pk, row in setup.providers.items():
        if row.enabled and pk not in used:
            yield Caution("unused", "provider", pk, (
                f"Provider {row.slug} is in the chain of no route: it gets no call. Add it to a"
                " route, or switch it off."
            ), is_grave=False)  # fmt: skip


def _of_policies(setup: Setup) -> Iterator[Caution]:
    for pk, policy in setup.policies.items():
        users = [row.slug for row in setup.providers.values() if row.policy == pk and row.enabled]
        if policy.shadow and users:
            yield Caution("shadow", "policy", pk, (
                f"Policy {policy.name} is in shadow: no outage of {_listed(users)} moves a call."
                " Untick shadow once its numbers are right."
            ), is_grave=False)  # fmt: skip
        if setup.agent_keys > 1 and policy.distinct_keys == 1 and users:
            yield Caution("one_key", "policy", pk, (
                f"Policy {policy.name}: {setup.agent_keys} agent keys are in use, and what one of"
                f" them reports can take {_listed(users)} out alone. Set distinct_keys to 2 where"
                " each provider is used with two keys or more, or bind each key to its routes."
            ), is_grave=False)  # fmt: skip
        if policy.trips_at_once_only:
            yield Caution("at_once_only", "policy", pk, (
                f"Policy {policy.name}: every threshold is off, and only reasons that trip at once"
                " can open its breakers. Set a failure threshold (2 failures in 240 s is usual)."
            ), is_grave=False)  # fmt: skip


def _of_alerts(setup: Setup) -> Iterator[Caution]:
    for pk, (event, enabled) in setup.templates.items():
        if not enabled:
            yield Caution("template_off", "alerttemplate", pk, (
                f"The alert template of {event} is switched off: nobody in Slack is told of it."
                " Switch it on, or give it a quieter destination instead."
            ), is_grave=event in MOST_IMPORTANT)  # fmt: skip
    if setup.destinations and not any(setup.destinations.values()):
        yield Caution("no_destination", "alertdestination", 0, (
            "No alert destination is switched on: no alert goes anywhere. Switch one on."
        ))  # fmt: skip


def _renamed(before: Setup, after: Setup) -> Iterator[Caution]:
    for pk, old in before.providers.items():
        new = after.providers.get(pk)
        if new and (new.slug, new.kind) != (old.slug, old.kind):
            yield Caution("renamed", "provider", pk, (
                f"{old.slug} ({old.kind}) becomes {new.slug} ({new.kind}): outcomes that agents"
                f" report under {old.slug} are invalid from now on, what they say they can use"
                " names it no more, its counts and overrides begin anew, and its history stays"
                f" under {old.slug}. Have the agents know {new.slug} first."
            ))  # fmt: skip
    for pk, known in before.routes.items():
        now = after.routes.get(pk)
        if now and now.slug != known.slug:
            yield Caution("renamed", "route", pk, (
                f"Route {known.slug} becomes {now.slug}: agents that ask for {known.slug} get 404"
                f" from now on, and go by their own chain. Have them ask for {now.slug} first, or"
                " make a second route and delete this one later."
            ))  # fmt: skip


def _gone(before: Setup, after: Setup) -> Iterator[Caution]:
    for pk in before.routes.keys() - after.routes.keys():
        slug = before.routes[pk].slug
        if slug not in {row.slug for row in after.routes.values()}:
            yield Caution("gone", "route", pk, (
                f"Route {slug}: agents that ask for it get 404 from now on, and go by their own"
                " chain. See first that none does."
            ))  # fmt: skip
    for pk in before.providers.keys() - after.providers.keys():
        row = before.providers[pk]
        if (row.kind, row.slug) not in {(it.kind, it.slug) for it in after.providers.values()}:
            yield Caution("gone", "provider", pk, (
                f"Provider {row.slug}: outcomes that agents report of it are invalid from now on."
                " To keep its history readable and its calls away, switch it off instead."
            ))  # fmt: skip
    for pk in before.templates.keys() - after.templates.keys():
        event, enabled = before.templates[pk]
        if enabled and event not in {event for event, _ in after.templates.values()}:
            yield Caution("gone", "alerttemplate", pk, (
                f"The alert template of {event}: nobody in Slack is told of it any more."
            ))  # fmt: skip
    if any(before.destinations.values()) and not after.destinations:
        yield Caution("no_destination", "alertdestination", 0, (
            "This is the last alert destination: no alert goes anywhere without it."
        ))  # fmt: skip


def _is_shadow(setup: Setup, row: KnownProvider) -> bool:
    policy = setup.policies.get(row.policy)
    return policy is not None and policy.shadow


def _listed(names: Iterable[str], most: int = 5) -> str:
    """Return names on one line, and how many more there are."""
    known = sorted(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
