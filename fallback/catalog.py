"""Configuration as plain values, cached per process: the hot path never touches the ORM.

Reading what is held costs an attribute look-up. A background thread looks at the revision every
`LOOK_EVERY_S` seconds while anybody asks, and loads everything, in a constant number of queries,
when the number is another one. A database that is slow or away changes nothing: the last values
stay, and `age_s` says how old they are. Nothing here talks to Redis.

Decisions take what is held, at once (`current`). GET status waits for the look when nobody asked
for so long that what is held may be of another day (`confirmed`). A page, which reads the database
anyway, asks it for the revision and shows that one (`newest`).
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.db import connections

from fallback import domain, metrics
from fallback.domain import Kind, Named
from fallback.models import (
    ApiKey,
    ConfigRevision,
    Policy,
    Provider,
    Role,
    Route,
    RouteStep,
    rules_of,
)

LOOK_EVERY_S = 2.0
FIRST_WAIT_S = 0.2  # a decision answers within 0.3 s, even the first of a process
CONFIRM_WAIT_S = 1.0  # how long a page waits for the database to confirm what is held
LOAD_ANYWAY_S = 300.0  # heals what was written past the signals, by hand or by `QuerySet.update`
STUCK_AFTER_S = 30.0  # a look that hangs in the database is left to itself after this

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as requests are checked against it: never the secret, only its keyed hash."""

    public: str
    name: str
    role: Role
    secret_hash: str = field(repr=False)
    enabled: bool
    expires_at: datetime | None
    routes: frozenset[str] = frozenset()  # that it may ask for and report on; empty: all


@dataclass(frozen=True, slots=True)
class Catalog:
    """The whole configuration at one revision; 0 and empty when it was never loaded."""

    revision: int = 0
    routes: Mapping[str, domain.Route] = field(default_factory=dict)
    providers: Mapping[tuple[Kind, str], domain.Provider] = field(default_factory=dict)
    policies: Mapping[tuple[Kind, str], domain.Policy] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)

    def holds(self, what: Named, name: str) -> bool:
        """Say whether there is such a route, or a provider with this slug, of whatever kind and
        disabled or not."""
        if what is Named.ROUTE:
            return name in self.routes
        return any((kind, name) in self.providers for kind in Kind)


def current() -> Catalog:
    """Return what is held, and have the background thread look when that is due.

    Only the first call of a process may wait, at most `FIRST_WAIT_S`.
    """
    return _cache.current()


def confirmed() -> Catalog:
    """Return what the database confirmed within the last `LOOK_EVERY_S`.

    When that is longer ago, wait for the look that is under way, else for a new one, at most
    `CONFIRM_WAIT_S`. After the database failed or timed out, nobody waits for it until it has
    answered again. Never for a decision, which must not wait.
    """
    return _cache.confirmed()


def newest() -> Catalog:
    """Return the configuration as it is now, for a page: whoever changed it looks for the change.

    Asks for the revision in the calling thread, and where it is not the one that is held, waits
    for a look, at most `CONFIRM_WAIT_S`. Raises what the database raises.
    """
    revision = ConfigRevision.current()
    held = current()
    if held.revision != revision:
        return refresh(CONFIRM_WAIT_S)
    return held if revision else confirmed()


def refresh(wait_s: float = 0.15) -> Catalog:
    """Have the background thread look now, wait for it at most `wait_s`, return what is held."""
    return _cache.refresh(wait_s)


def looked_at_now(wait_s: float = CONFIRM_WAIT_S) -> Catalog | None:
    """Return the configuration as a look finds it that begins after now; None when the database
    does not answer within `wait_s`. For what must not be said of a configuration of a moment ago.
    """
    return _cache.looked_at_now(wait_s)


def reload() -> Catalog:
    """Load everything now, in this thread and its transaction; for tests and commands.

    Raises what the database raises.
    """
    return _cache.load_here()


def age_s() -> float:
    """Return the seconds since the database last confirmed what is held; infinite if never."""
    return _cache.age_s()


def failed_looks() -> int:
    """Return how often the database could not be read since this process started."""
    return _cache.failures


def load(held: Catalog | None = None) -> Catalog:
    """Read the configuration, or return `held` if its revision still is the database's.

    The revision is read first: what changes during the load has a higher one, and is found by
    the next look.
    """
    revision = ConfigRevision.current()
    if held is not None and revision and held.revision == revision:
        return held
    rows = list(Provider.objects.select_related("policy"))
    providers = {row.pk: _provider(row) for row in rows}
    policies = _policies()
    return Catalog(
        revision=revision,
        routes=_routes(providers),
        providers={(provider.kind, provider.slug): provider for provider in providers.values()},
        policies={
            (Kind(row.kind), row.slug): policies[row.policy_id]
            for row in rows
            if row.policy_id in policies  # else deleted since
        },
        keys=_keys(),
    )


def _policies() -> dict[int, domain.Policy]:
    rows = Policy.objects.prefetch_related("reasons")
    return {row.pk: row.as_value(rules_of(row.reasons.all())) for row in rows}


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


def _routes(providers: Mapping[int, domain.Provider]) -> dict[str, domain.Route]:
    """Return the routes by slug. Plain tuples, not model instances: there may be thousands."""
    steps: defaultdict[int, list[domain.Step]] = defaultdict(list)
    chains = RouteStep.objects.order_by("route_id", "position", "id")
    for route_id, provider_id, settings in chains.values_list(
        "route_id", "provider_id", "settings"
    ):
        if provider := providers.get(provider_id):  # else added since the providers were read
            merged = {**provider.settings, **settings} if settings else provider.settings
            steps[route_id].append(domain.Step(provider, merged))
    return {
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
        ) in Route.objects.order_by("slug").values_list(
            "id",
            "slug",
            "name",
            "kind",
            "fallback_enabled",
            "on_mid_call_failure",
            "last_resort",
        )
    }


def _keys() -> dict[str, Key]:
    columns = ("public", "name", "role", "secret_hash", "enabled", "expires_at", "routes")
    rows = ApiKey.objects.values_list(*columns)
    return {
        public: Key(public, name, Role(role), secret_hash, enabled, expires_at, frozenset(routes))
        for public, name, role, secret_hash, enabled, expires_at, routes in rows
    }


class Cache:
    """Holds one catalog and keeps it fresh. All state is guarded by one condition."""

    def __init__(
        self,
        load: Callable[[Catalog | None], Catalog] = load,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._load = load
        self._clock = clock
        self._changed = threading.Condition()
        self._held = Catalog()
        self._confirmed_at: float | None = None  # the database last answered
        self._loaded_at: float | None = None
        self._looked_at: float | None = None  # a look was last asked for
        self._asked = 0  # looks asked for, looks done: a change during a look needs another
        self._done = 0
        self._worker: threading.Thread | None = None
        self._worker_since = 0.0
        self._is_failing = False
        self._is_late = False  # a wait for it timed out since it last answered

    def current(self) -> Catalog:
        """Return what is held; see the module's function."""
        looked_at = self._looked_at
        if looked_at is None:
            return self.refresh(FIRST_WAIT_S)
        if self._confirmed_at is None and self._done == 0:
            return self._wait(1, FIRST_WAIT_S)
        if self._clock() - looked_at > LOOK_EVERY_S:
            self._ask()
        return self._held

    def confirmed(self) -> Catalog:
        """Return what is held, once the database has confirmed it; see the module's function."""
        if self.age_s() <= LOOK_EVERY_S:
            return self._held
        if self._is_failing or self._is_late:
            return self.current()
        with self._changed:
            number = self._asked if self._asked > self._done else self._ask()
            if not self._changed.wait_for(lambda: self._done >= number, CONFIRM_WAIT_S):
                self._is_late = True
            return self._held

    def refresh(self, wait_s: float) -> Catalog:
        """Ask for a look that begins after now, and wait for it at most `wait_s`."""
        return self._wait(self._ask(), wait_s)

    def looked_at_now(self, wait_s: float) -> Catalog | None:
        """Return what a look that begins after now finds, None when it does not in time."""
        began = self._clock()
        held = self.refresh(wait_s)
        confirmed_at = self._confirmed_at
        return held if confirmed_at is not None and confirmed_at >= began else None

    def load_here(self) -> Catalog:
        """Load everything in the calling thread."""
        with self._changed:
            number = self._asked = self._asked + 1
        catalog = self._load(None)
        self._take(number, catalog)
        return catalog

    def join(self, timeout_s: float) -> None:
        """Wait for the look that is under way, at most `timeout_s`; for tests."""
        if worker := self._worker:
            worker.join(timeout_s)

    def age_s(self) -> float:
        """Return the seconds since the database last confirmed what is held."""
        confirmed_at = self._confirmed_at
        return float("inf") if confirmed_at is None else self._clock() - confirmed_at

    def _ask(self) -> int:
        with self._changed:
            self._asked += 1
            self._looked_at = self._clock()
            if self._worker is None or self._clock() - self._worker_since > STUCK_AFTER_S:
                self._worker = threading.Thread(target=self._work, name="catalog", daemon=True)
                self._worker_since = self._clock()
                self._worker.start()
            return self._asked

    def _wait(self, number: int, wait_s: float) -> Catalog:
        with self._changed:
            self._changed.wait_for(lambda: self._done >= number, wait_s)
            return self._held

    def _work(self) -> None:
        """Look until nobody asked for more; the thread and its connection end with that."""
        try:
            while (number := self._next_look()) is not None:
                self._look(number)
        finally:
            connections.close_all()

    def _next_look(self) -> int | None:
        with self._changed:
            if self._worker is not threading.current_thread():
                return None  # it hung, and another has taken over
            if self._asked > self._done:
                self._worker_since = self._clock()
                return self._asked
            self._worker = None
            return None

    def _look(self, number: int) -> None:
        loaded_at = self._loaded_at
        is_recent = loaded_at is not None and self._clock() - loaded_at < LOAD_ANYWAY_S
        try:
            catalog = self._load(self._held if is_recent else None)
        except Exception as error:
            # Whatever the database does, decisions go on with what is held. One line a spell.
            self._fail(number, error)
        else:
            self._take(number, catalog)

    def _take(self, number: int, catalog: Catalog) -> None:
        with self._changed:
            if number <= self._done:
                return  # a look that hung: a later one has been taken
            self._done = number
            now = self._looked_at = self._confirmed_at = self._clock()
            if catalog is not self._held:
                self._loaded_at = now
            self._held = catalog
            was_failing, self._is_failing = self._is_failing, False
            self._is_late = False
            self._changed.notify_all()
        metrics.configured(routes=catalog.routes, providers=[slug for _, slug in catalog.providers])
        if was_failing:
            log.info("configuration_readable_again", revision=catalog.revision)

    def _fail(self, number: int, error: Exception) -> None:
        with self._changed:
            self.failures += 1
            self._done = max(self._done, number)
            was_failing, self._is_failing = self._is_failing, True
            self._changed.notify_all()
        metrics.degraded("configuration")
        if not was_failing:
            log.warning(
                "configuration_unreadable",
                revision=self._held.revision,
                age_s=round(self.age_s(), 1),
                exc_info=error,
            )


_cache = Cache()
