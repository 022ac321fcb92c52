"""Everything as it is now, as one value with four readers: REST, dashboard, feed and Slack.

Redis out of reach: the last that this process knew, with `degraded: true`. Nothing known: no
breakers, every route in its configured order, and the verdict `unknown`.

Whoever asks is shown a look at Redis that began after they asked, so that what was done before, by
whatever process, is in it. Any number who ask at once share one look; looks take half of the time
at most, and one that finds nothing new builds nothing.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections

from fallback import breaker, catalog, metrics, stream
from fallback.catalog import Catalog
from fallback.domain import (
    ADMITTING_STATES,
    BreakerView,
    Kind,
    LastResort,
    Override,
    Policy,
    Route,
    State,
    Step,
    UnknownName,
)
from fallback.errors import BreakerUnavailable, NotFound
from fallback.messages.values import held_back
from fallback.models import Incident
from fallback.times import rfc3339

log = structlog.get_logger(__name__)

LAG_FRESH_S: Final = 1.0
ASK_AGAIN_S: Final = 5.0  # how long a database that failed is left alone
ASK_S: Final = 0.15
INCIDENTS_KEPT: Final = 1_000
STALE_PUMP_S: Final = 10.0  # a lag beyond this is a change that pollers must see
VOLATILE: Final = frozenset({"at", "pump_lag_s"})  # what changes though nothing happened

Views = Mapping[tuple[Kind, str], BreakerView]


@dataclass(frozen=True, slots=True)
class Status:
    """The body of GET status, shared by all who ask (read it, never change it), and its ETag."""

    body: Mapping[str, Any]
    etag: str


def current() -> Status:
    """Return the status: the breakers of after this call, the configuration as the database had it
    `catalog.CONFIRMED_S` ago or less, if need be after waiting for it a moment. Never raises."""
    catalog.confirmed()
    return _board.current()


def build() -> Mapping[str, Any]:
    """Return the body of GET status, ready for JSON. Never raises."""
    return current().body


def newest() -> Mapping[str, Any]:
    """Return the body of GET status for a page: of the configuration as it is now, whatever process
    changed it. Asks the database for the revision, and raises what it raises."""
    catalog.newest()
    return _board.current().body


def provider_status(kind: Kind, slug: str) -> Mapping[str, Any]:
    """Return one breaker as GET status lists it, of a disabled provider too.

    Raises NotFound; BreakerUnavailable when nothing was ever known of it.
    """
    if (kind, slug) not in catalog.confirmed().providers:
        catalog.refresh()  # it may have been made a moment ago elsewhere
    if (kind, slug) not in catalog.current().providers:
        raise NotFound(f"There is no provider {slug} of kind {kind}.")
    for shown in build()["breakers"]:
        if (shown["provider"], shown["kind"]) == (slug, kind):
            return dict(shown)
    return shown_breaker(breaker.snapshot(kind, [slug]).views[0])


def shown_breaker(view: BreakerView) -> dict[str, Any]:
    """Write a breaker that was just looked at as GET status lists it."""
    policy = catalog.current().policies.get((view.kind, view.provider), Policy())
    return _breaker(view, policy, _board.incidents.numbers([view.breaker.incident]))


def order_now(route: Route, views: Views) -> list[Step]:
    """Return the enabled steps as calls take them now: those that admit, then the rest.

    A breaker that nothing is known of admits. What is open or half open goes before what an
    operator forced open; with `last_resort` soonest, whoever is back first goes first.
    """
    steps = [step for step in route.steps if step.provider.enabled]
    if not route.fallback_enabled:
        return steps

    def rank(step: Step) -> tuple[int, float]:
        view = views.get((route.kind, step.provider.slug))
        if view is None or view.breaker.state in ADMITTING_STATES:
            return 0, 0
        soonest = route.last_resort is LastResort.SOONEST
        back_ms = float(view.until_ms or 0) if soonest else 0
        return (2 if view.breaker.state is State.FORCED_OPEN else 1), back_ms

    return sorted(steps, key=rank)


def judge(routes: Iterable[Route], views: Views) -> str:
    """Return the verdict: `critical` if a route has nobody who admits, `degraded` if one is out."""
    worst = "healthy"
    for route in routes:
        admits = [
            view is None or view.breaker.state in ADMITTING_STATES
            for step in route.steps
            if step.provider.enabled
            for view in [views.get((route.kind, step.provider.slug))]
        ]
        if not any(admits):
            return "critical"
        if not all(admits):
            worst = "degraded"
    return worst


@dataclass(slots=True)
class Known:
    """What Redis last said, kept for when it does not answer."""

    views: dict[tuple[Kind, str], BreakerView] = field(default_factory=dict)
    versions: dict[Kind, int] = field(default_factory=dict)
    unknown: dict[Kind, tuple[list[UnknownName], bool]] = field(default_factory=dict)
    now_ms: int | None = None
    lag_s: float | None = None
    lag_at_s: float = float("-inf")


class Board:
    """Looks at Redis for whoever asks; many readers at once make one look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._asked = 0  # how many asked; those up to `_served` were there before the last look
        self._served = 0
        self._is_looking = False
        self._rests_until_s = float("-inf")
        self._held: Status | None = None
        self._made_of: tuple[Any, ...] = ()
        self._known = Known()
        self.incidents = Incidents(clock)

    def current(self) -> Status:
        """Return what a look finds that begins after now; one reader looks for all that wait."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.wait_for(lambda: self._served >= mine or not self._is_looking)
            if self._held and self._served >= mine:
                return self._held
            self._is_looking = True
        served = self._served
        try:
            time.sleep(max(0.0, self._rests_until_s - self._clock()))
            asked, began_s = self._asked, self._clock()
            found = self._held = self._build(catalog.current())
            served, self._rests_until_s = asked, 2 * self._clock() - began_s
        finally:
            with self._changed:
                self._is_looking, self._served = False, served
                self._changed.notify_all()
        return found

    def _build(self, config: Catalog) -> Status:
        answered = self._look(config)
        known = self._known
        views = {
            name: view
            for name, view in sorted(known.views.items())
            if name in config.providers and config.providers[name].enabled
        }
        keys = [view.breaker.incident for view in views.values()]
        numbers = self.incidents.numbers(keys)
        lag_s = known.lag_s if answered else None
        made_of = (
            config, answered, views, dict(known.versions), dict(known.unknown),
            [numbers.get(key) for key in keys], lag_s is not None and lag_s > STALE_PUMP_S,
        )  # fmt: skip
        now_ms = known.now_ms if answered and known.now_ms else int(time.time() * 1000)
        passing = {"at": rfc3339(now_ms), "pump_lag_s": lag_s}
        if self._held and made_of == self._made_of:
            return Status({**self._held.body, **passing}, self._held.etag)
        self._made_of = made_of
        can_judge = config.revision > 0 and (answered or bool(known.views))
        body = {
            "version": max(known.versions.values(), default=0),
            "at": passing["at"],
            "verdict": judge(config.routes.values(), views) if can_judge else "unknown",
            "pump_lag_s": lag_s,
            "degraded": not answered,
            "breakers": [
                _breaker(view, config.policies.get(name, Policy()), numbers)
                for name, view in views.items()
            ],
            "routes": [_route(route, views) for route in config.routes.values()],
            "unknown_names": _unknown_names(known.unknown, config),
            "more_unknown_names": any(has_more for _, has_more in known.unknown.values()),
        }
        return Status(body, _etag(body))

    def _look(self, config: Catalog) -> bool:
        """Read every kind in use, one call each; False at the first that does not answer, and when
        the server that does is not known to be the master."""
        kinds = sorted({kind for kind, _ in config.providers})
        try:
            for kind in kinds:
                slugs = [slug for of, slug in config.providers if of == kind]
                found = breaker.snapshot(kind, slugs)
                self._known.views.update({(kind, view.provider): view for view in found.views})
                self._known.versions[kind] = found.version
                self._known.now_ms = found.now_ms
            self._measure_lag(kinds)
            self._read_unknown({*kinds, Kind.STT})  # there names of no known route are kept
        except BreakerUnavailable as error:
            log.info("status from the last known state", error=str(error))
            metrics.degraded("status")
            return False
        return breaker.is_sure()

    def _measure_lag(self, kinds: Iterable[Kind]) -> None:
        """Ask how far the pumps are behind, once Redis has just answered: this may wait long."""
        if self._clock() - self._known.lag_at_s >= LAG_FRESH_S:
            ages_ms = [stream.lag(kind).age_ms for kind in kinds]
            self._known.lag_s = max(ages_ms) / 1000 if ages_ms else None
            self._known.lag_at_s = self._clock()

    def _read_unknown(self, kinds: Iterable[Kind]) -> None:
        """Read what agents name and nobody configured; damaged, it costs nothing but itself."""
        for kind in kinds:
            try:
                names = breaker.unknown_names(kind, now_ms=self._known.now_ms or 0)
            except BreakerUnavailable as error:
                log.info("status without unknown names", kind=kind, error=str(error))
            else:
                self._known.unknown[kind] = names


class Incidents:
    """The numbers of incidents, which only the database knows: asked once for each.

    An incident that the pump has not stored yet has none, and neither has one while the database
    is away: the status must not depend on it, so the database is asked in a thread that nobody
    waits for longer than `ASK_S`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self._failed_at_s = float("-inf")
        self._asking: threading.Thread | None = None

    def numbers(self, keys: Iterable[str]) -> Mapping[str, int]:
        """Return the numbers of those incidents that have one, by the event that opened them."""
        missing = {key for key in keys if key} - self._numbers.keys()
        if len(self._numbers) > INCIDENTS_KEPT:
            self._numbers = {}
        hangs = self._asking is not None and self._asking.is_alive()
        if missing and not hangs and self._clock() - self._failed_at_s > ASK_AGAIN_S:
            self._asking = threading.Thread(
                target=self._ask, args=(missing,), name="incident-numbers", daemon=True
            )
            self._asking.start()
            self._asking.join(ASK_S)
        return self._numbers

    def _ask(self, missing: Iterable[str]) -> None:
        try:
            found = Incident.objects.filter(key__in=missing).values_list("key", "id")
            self._numbers.update(found)
        except DatabaseError as error:
            self._failed_at_s = self._clock()
            log.warning("status without incident numbers", error=str(error))
            metrics.degraded("status_incidents")
        finally:
            connections.close_all()  # this thread's own; with a pool they go back to it


def _breaker(view: BreakerView, policy: Policy, incidents: Mapping[str, int]) -> dict[str, Any]:
    """Write one breaker as the contract does; times that are not there are null.

    While it is out nothing is in its window: then the failures are those that tripped it.
    """
    kept = view.breaker
    proof = {} if kept.state in ADMITTING_STATES else kept.evidence
    return {
        "provider": view.provider,
        "kind": view.kind,
        "state": kept.state,
        "since": rfc3339(kept.since_ms or None),
        "until": rfc3339(view.until_ms),
        "cause": kept.cause or None,
        "failures": view.failures or proof.get("failures", 0),
        "failure_threshold": policy.failure_threshold,
        "failure_window_s": policy.failure_window_s,
        "trips": kept.trips,
        "leases": view.leases,
        "probe_slots": policy.probe_slots,
        "override": _override(kept.override),
        "last_reasons": dict(view.last_reasons or proof.get("reasons", {})),
        "keys": dict(view.keys or proof.get("keys", {})),
        "held_back": _held_back(view, policy) or None,
        "incident": incidents.get(kept.incident),
    }


def _held_back(view: BreakerView, policy: Policy) -> str:
    """Return why failures enough trip nothing where a quorum of API keys is missing."""
    trips = any(policy.rule(reason).trips_at_once for reason in view.last_reasons)
    trips = trips or 0 < policy.failure_threshold <= view.failures
    is_held = trips and len(view.keys) < policy.distinct_keys > 1
    return held_back(view.failures, view.keys, policy.distinct_keys) if is_held else ""


def _route(route: Route, views: Views) -> dict[str, Any]:
    """Write one route. `position` is a step's place in the chain, 1 is the primary: with it a
    client that hears of a change puts the chain in order again by itself."""
    positions = {step.provider.slug: index for index, step in enumerate(route.steps, start=1)}
    return {
        "route": route.slug,
        "kind": route.kind,
        "fallback_enabled": route.fallback_enabled,
        "on_mid_call_failure": route.on_mid_call_failure,
        "order": [
            {
                "provider": step.provider.slug,
                "settings": step.settings,
                "languages": step.provider.languages,
                "position": positions[step.provider.slug],
            }
            for step in order_now(route, views)
        ],
    }


def _unknown_names(
    known: Mapping[Kind, tuple[list[UnknownName], bool]], config: Catalog
) -> list[dict[str, Any]]:
    """Write the names that agents use and that are unknown even now; what nobody said is null."""
    named = {(one.what, one.name): one for names, _ in known.values() for one in names}
    return [
        {
            "what": one.what,
            "name": one.name,
            "route": one.route or None,
            "host": one.host or None,
            "by": one.by or None,
            "last_seen": rfc3339(one.at_ms),
        }
        for _, one in sorted(named.items())
        if not config.holds(one.what, one.name)
    ]


def _override(override: Override | None) -> dict[str, Any] | None:
    if override is None:
        return None
    return {
        "state": override.state,
        "by": override.by,
        "reason": override.reason,
        "until": rfc3339(override.until_ms),
    }


def _etag(body: Mapping[str, Any]) -> str:
    """Return a weak tag of all that matters in the body: a poller's 304 must mean "no news"."""
    lag_s = body["pump_lag_s"]
    news = {name: value for name, value in body.items() if name not in VOLATILE}
    news["is_pump_stale"] = lag_s is not None and lag_s > STALE_PUMP_S
    text = json.dumps(news, separators=(",", ":"), sort_keys=True)
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


_board = Board()
