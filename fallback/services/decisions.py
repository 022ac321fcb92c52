"""Decisions: which provider a call should use. Always answered."""

import time
from dataclasses import replace

import structlog

from fallback import breaker, catalog, deadline, decision, metrics, past, standin, stats
from fallback.catalog import Catalog
from fallback.domain import (
    DIVERTING_VERDICTS,
    Asked,
    Decision,
    Kind,
    Memory,
    Mode,
    Question,
    Route,
    Verdict,
    Walk,
)
from fallback.errors import (
    BreakerUnavailable,
    ConfigurationUnavailable,
    NotFound,
    NoUsableProvider,
)
from fallback.services import bounds, budget, unknown
from fallback.services.configuration import policies_of, publish_soon, tell_misconfigured

log = structlog.get_logger(__name__)


def make_decision(
    question: Question, *, by: str = "", routes: frozenset[str] = frozenset()
) -> Decision:
    """Answer which provider a call should use.

    Redis away: from the last known state, `degraded`. Raises NotFound for an unknown route,
    ConfigurationUnavailable for one that may exist and that nobody could look for, and
    NoUsableProvider when no step of it could be used by this agent for this call at all.
    `by`: whose key asks, as `api:<its name>`; `routes`: those it is bound to, none: all. Raises
    NotYours for another.
    """
    bounds.check_route(question.route, routes)
    began = time.perf_counter()
    with deadline.within(deadline.CALL_S):
        config, is_certain = catalog.chased(
            lambda it: question.route in it.routes, f"route {question.route}"
        )
        named = (*(question.can_use or ()), *question.failed)
        unknown.note(config, route=question.route, providers=named, host=question.host, by=by)
        if question.route not in config.routes and not is_certain:
            raise ConfigurationUnavailable(
                f"Route {question.route!r} is not known here, and the database could not be asked"
                " in time whether it is new."
            )
        made = _decide(question, config, by)
    metrics.decided(made.route.slug, made.provider, made.mode, time.perf_counter() - began)
    stats.decided(made.route.kind, made.provider)
    _count_diverted(made)
    _tell_disabled_steps(made)
    return made


def _decide(question: Question, config: Catalog, by: str) -> Decision:
    route = _route(question.route, config)
    try:
        asked = decision.ask(question, route)
    except NoUsableProvider as error:
        tell_misconfigured(route.kind, f"route {route.slug}", str(error))
        raise
    memory = budget.memory_for(by)
    if memory is not Memory.FULL:
        asked = replace(asked, memory=memory)
    walk, is_sure = _walk(route.kind, asked, config)
    if walk is None:
        metrics.degraded("decision")
        policies = policies_of(route.kind, config)
        local = standin.shared.decide(route.kind, asked, policies)
        return decision.conclude(question, route, local, degraded=True)
    budget.decided(by, asked, walk)
    if not is_sure:
        metrics.degraded("decision_unconfirmed")
        return decision.conclude(question, route, walk, degraded=True)
    revision = walk.revision or 0
    newer, _ = catalog.chased(lambda it: it.revision >= revision, f"revision {revision}")
    if newer.routes.get(question.route, route) != route:
        return _decide(question, newer, by)
    return decision.conclude(question, route, walk)


def _walk(kind: Kind, asked: Asked, config: Catalog) -> tuple[Walk | None, bool]:
    """Ask the shared breakers, and whether their server is the master; None when they cannot be
    reached, or make no sense. What is not the master's is told to nobody else."""
    try:
        walk = breaker.decide(kind, asked)
    except BreakerUnavailable:
        return None, False
    except Exception:  # no fault of ours may refuse a call: it is logged, counted, and got round
        log.exception("decision_failed", route=asked.route)
        metrics.degraded("decision_failed")
        return None, False
    if not breaker.is_sure():
        return walk, False
    past.decided(kind, asked, walk)
    found = ((finding.provider, finding.breaker) for finding in walk.findings)
    standin.shared.remember(kind, found, now_ms=walk.now_ms, version=walk.version)
    if walk.revision is None or walk.revision < config.revision:
        publish_soon()
    return walk, True


def _route(slug: str, config: Catalog) -> Route:
    route = config.routes.get(slug)
    if route is None:
        known = ", ".join(sorted(config.routes)[:10]) or "none yet"
        raise NotFound(f"There is no route {slug!r}; there are: {known}.")
    return route


def _count_diverted(made: Decision) -> None:
    """Count whom the call would have used. A call asking again is on its way already."""
    if made.mode in {Mode.BYPASS, Mode.PRIMARY}:
        return
    for line in made.why:
        if line.provider == made.provider or line.verdict == Verdict.ADMITTED:
            return
        if line.verdict in DIVERTING_VERDICTS:
            metrics.diverted(line.provider)
            stats.diverted(made.route.kind, line.provider)
            return


def _tell_disabled_steps(made: Decision) -> None:
    """A disabled step is refused on save; one that is met all the same is skipped and told."""
    for step in made.route.steps:
        if not step.provider.enabled:
            subject = f"route {made.route.slug}"
            tell_misconfigured(made.route.kind, subject, f"step {step.provider.slug} is disabled")
