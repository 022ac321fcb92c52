"""From rows to values, in a constant number of queries; and only from all of the rows.

A database that is being restored, or was flushed, answers like any other: with the rows that it
has. So each change leaves the number of rows beside its revision (`seal`), and what has fewer is
not taken for the configuration.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final

from django.db import models, transaction

from fallback import domain
from fallback.catalog.values import Catalog, Key
from fallback.domain import Kind
from fallback.models import (
    ApiKey,
    ConfigRevision,
    Policy,
    PolicyReason,
    Provider,
    Role,
    Route,
    RouteStep,
    rules_of,
)

READ: Final[tuple[type[models.Model], ...]] = (
    Policy, PolicyReason, Provider, Route, RouteStep, ApiKey,
)  # fmt: skip
TRIES: Final = 3  # a change in the middle of a load has it begin again, so often


class NotWhole(Exception):  # noqa: N818 - what it says, not what went wrong
    """The database answers, and does not hold a whole configuration. Fit for anybody to read."""


def load(held: Catalog | None = None) -> Catalog:
    """Read the configuration, or return `held` if its revision still is the database's.

    The revision is read first: what changes during the load has a higher one, and is found by
    the next look. Raises NotWhole where rows are missing, and what the database raises.
    """
    lacking: list[str] = []
    for _ in range(TRIES):
        revision, sealed = ConfigRevision.with_rows()
        if not revision:
            raise NotWhole(
                "the database holds no configuration: run manage.py seed, or finish its restore"
            )
        if held is not None and held.revision == revision:
            return held
        found, rows = _read(revision)
        lacking = [f"{rows[name]} of {n} {name}" for name, n in sealed.items() if rows[name] < n]
        if not lacking:
            return found
        if ConfigRevision.current() == revision:
            break
    raise NotWhole(
        f"the database holds a part of the configuration ({', '.join(lacking)} rows): finish its"
        " restore; if rows were removed by hand, save any setting in the admin"
    )


def load_as_it_is() -> Catalog:
    """Read the configuration, whole or not. Raises what the database raises."""
    return _read(ConfigRevision.current())[0]


def seal() -> None:
    """Leave the number of rows beside the revision, unless it is there. Raises what the database
    raises.

    Whoever changes the configuration holds the revision's lock to the end of the transaction, so
    under that lock the rows are those of the revision.
    """
    if ConfigRevision.is_sealed():
        return
    with transaction.atomic():
        ConfigRevision.lock()
        ConfigRevision.seal({model.__name__: model._default_manager.count() for model in READ})


def _read(revision: int) -> tuple[Catalog, Counter[str]]:
    """Return the configuration, and how many rows of each model it was made of."""
    rows = list(Provider.objects.select_related("policy"))
    providers = {row.pk: _provider(row) for row in rows}
    policies, reasons = _policies()
    routes, steps = _routes(providers)
    keys = _keys()
    found = Catalog(
        revision=revision,
        routes=routes,
        providers={(provider.kind, provider.slug): provider for provider in providers.values()},
        policies={
            (Kind(row.kind), row.slug): policies[row.policy_id]
            for row in rows
            if row.policy_id in policies  # else deleted since
        },
        keys=keys,
    )
    return found, Counter(
        Provider=len(rows), Policy=len(policies), PolicyReason=reasons,
        Route=len(routes), RouteStep=steps, ApiKey=len(keys),
    )  # fmt: skip


def _policies() -> tuple[dict[int, domain.Policy], int]:
    """Return the policies by row, and how many rows say what counts."""
    rows = [(row, list(row.reasons.all())) for row in Policy.objects.prefetch_related("reasons")]
    return (
        {row.pk: row.as_value(rules_of(reasons)) for row, reasons in rows},
        sum(len(reasons) for _, reasons in rows),
    )


def _provider(row: Provider) -> domain.Provider:
    return domain.Provider(
        slug=row.slug,
        kind=Kind(row.kind),
        name=row.name,
        enabled=row.enabled,
        languages=tuple(row.languages),
        settings=row.settings,
        credential_hint=row.credential_hint,
        policy_name=row.policy.name,
    )


def _routes(providers: Mapping[int, domain.Provider]) -> tuple[dict[str, domain.Route], int]:
    """Return the routes by slug, and how many steps there are. Plain tuples, not model instances:
    there may be thousands."""
    steps: defaultdict[int, list[domain.Step]] = defaultdict(list)
    count = 0
    chains = RouteStep.objects.order_by("route_id", "position", "id")
    for route_id, provider_id, settings in chains.values_list(
        "route_id", "provider_id", "settings"
    ):
        count += 1
        if provider := providers.get(provider_id):  # else added since the providers were read
            merged = {**provider.settings, **settings} if settings else provider.settings
            steps[route_id].append(domain.Step(provider, merged))
    columns = (
        "id", "slug", "name", "kind", "fallback_enabled", "on_mid_call_failure", "last_resort",
    )  # fmt: skip
    routes = {
        slug: domain.Route(
            slug=slug,
            name=name,
            kind=Kind(kind),
            fallback_enabled=fallback_enabled,
            on_mid_call_failure=domain.MidCallAction(on_mid_call_failure),
            last_resort=domain.LastResort(last_resort),
            steps=tuple(steps[route_id]),
        )
        for (
            route_id,
            slug,
            name,
            kind,
            fallback_enabled,
            on_mid_call_failure,
            last_resort,
        ) in Route.objects.order_by("slug").values_list(*columns)
    }
    return routes, count


def _keys() -> dict[str, Key]:
    columns = ("public", "name", "role", "secret_hash", "enabled", "expires_at", "routes")
    rows = ApiKey.objects.values_list(*columns)
    return {
        public: Key(public, name, Role(role), secret_hash, enabled, expires_at, frozenset(routes))
        for public, name, role, secret_hash, enabled, expires_at, routes in rows
    }
