"""Every verb: what an agent and an operator can do. The surfaces parse, call one, render.

Here alone it is decided what happens while Redis is away: decisions go on from the last known
state (`standin`), everything that would have to be remembered is refused with BreakerUnavailable.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from fallback import breaker, catalog, decision, metrics, stats
from fallback.catalog import Catalog
from fallback.domain import (
    DIVERTING_VERDICTS,
    FAILURE_KINDS,
    NO_POLICY,
    OVERRIDE_STATES,
    Asked,
    BreakerView,
    Decision,
    EventName,
    Given,
    Kind,
    Mode,
    Order,
    Outcome,
    Override,
    Question,
    Reason,
    Recorded,
    Result,
    Route,
    State,
    Status,
    Verdict,
    Walk,
)
from fallback.errors import BreakerUnavailable, Invalid, NotFound, NoUsableProvider, Problem
from fallback.models import Transition
from fallback.pacing import NotAgainWithin
from fallback.standin import StandIn
from fallback.standing import standing_overrides

OVERRIDE_MAX_S: Final = 30 * 24 * 3600
REASON_MAX: Final = 500
CHASE_S: Final = 1.0  # how often a process looks for a configuration that Redis knows and it not
TELL_EVERY_MS: Final = 10 * 60_000  # the same misconfiguration is told once in this time

log = structlog.get_logger(__name__)
_stand_in = StandIn()


_chase = NotAgainWithin(CHASE_S)
_publish = NotAgainWithin(CHASE_S)
_tell = NotAgainWithin(TELL_EVERY_MS / 1000)


# --- decisions


def make_decision(question: Question) -> Decision:
    """Answer which provider a call should use.

    Redis away: from the last known state, `degraded`. Raises NotFound for an unknown route and
    NoUsableProvider when no step of it could be used by this agent for this call at all.
    """
    began = time.perf_counter()
    made = _decide(question, catalog.current())
    metrics.decided(made.route.slug, made.provider, made.mode, time.perf_counter() - began)
    stats.decided(made.route.kind, made.provider)
    _count_diverted(made)
    _tell_disabled_steps(made)
    return made


def _decide(question: Question, config: Catalog) -> Decision:
    route = _route(question.route, config)
    try:
        asked = decision.ask(question, route)
    except NoUsableProvider as error:
        _tell_misconfigured(route.kind, f"route {route.slug}", str(error))
        raise
    walk = _walk(route.kind, asked, config)
    if walk is None:
        metrics.degraded("decision")
        policies = _policies(route.kind, config)
        local = _stand_in.decide(route.kind, asked, policies)
        return decision.conclude(question, route, local, degraded=True)
    newer = _newer_configuration(walk.revision, config)
    if newer and newer.routes.get(question.route, route) != route:
        return _decide(question, newer)
    return decision.conclude(question, route, walk)


def _walk(kind: Kind, asked: Asked, config: Catalog) -> Walk | None:
    """Ask the shared breakers; None when they cannot be reached, or make no sense."""
    try:
        walk = breaker.decide(kind, asked)
    except BreakerUnavailable:
        return None
    except Exception:  # no fault of ours may refuse a call: it is logged, counted, and got round
        log.exception("decision_failed", route=asked.route)
        metrics.degraded("decision_failed")
        return None
    found = ((finding.provider, finding.breaker) for finding in walk.findings)
    _stand_in.remember(kind, found, now_ms=walk.now_ms, version=walk.version)
    if walk.revision is None or walk.revision < config.revision:
        _publish_soon()
    return walk


def _route(slug: str, config: Catalog) -> Route:
    """Return a route; one that is not known may have been made a moment ago elsewhere."""
    route = config.routes.get(slug)
    if route is None and _chase.is_due():
        route = catalog.refresh().routes.get(slug)
    if route is None:
        known = ", ".join(sorted(config.routes)[:10]) or "none yet"
        raise NotFound(f"There is no route {slug!r}; there are: {known}.")
    return route


def _newer_configuration(revision: int | None, config: Catalog) -> Catalog | None:
    """Return the newer configuration that the breakers already judge by, if it can be had."""
    if revision is None or revision <= config.revision or not _chase.is_due(str(revision)):
        return None
    newer = catalog.refresh()
    return newer if newer.revision > config.revision else None


def _policies(kind: Kind, config: Catalog) -> dict[str, Any]:
    return {slug: policy for (of, slug), policy in config.policies.items() if of == kind}


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
            _tell_misconfigured(made.route.kind, subject, f"step {step.provider.slug} is disabled")


def _tell_misconfigured(kind: Kind, subject: str, detail: str) -> None:
    if not _tell.is_due(f"{kind} {subject}"):
        return
    log.warning("misconfigured", subject=subject, detail=detail)
    try:
        breaker.announce(
            kind, EventName.MISCONFIGURED, subject,
            every_ms=TELL_EVERY_MS, evidence={"detail": detail[:REASON_MAX]},
        )  # fmt: skip
    except BreakerUnavailable:
        metrics.degraded("announce")


# --- outcomes


def report_outcomes(outcomes: Sequence[Outcome]) -> tuple[list[Result], int]:
    """Take what agents saw; return what became of each, in order, and the version now.

    Raises BreakerUnavailable when Redis does not answer: then all may be sent again, ids make it
    safe.
    """
    config = catalog.current()
    results: dict[int, Result] = {}
    version = 0
    by_kind: dict[Kind, list[tuple[int, Outcome, Route | None]]] = {}
    for index, outcome in enumerate(outcomes):
        route = _route_of(outcome, config)
        kind = _kind_of(outcome.provider, route, config)
        if kind is None:
            detail = _unknown_provider(outcome.provider, config)
            results[index] = Result(outcome.id, Status.INVALID, detail=detail)
        else:
            by_kind.setdefault(kind, []).append((index, outcome, route))
    for kind, reports in by_kind.items():
        taken = _record(kind, [(outcome, _steps(outcome, route)) for _, outcome, route in reports])
        version = max(version, *(recorded.version for recorded in taken))
        for (index, outcome, route), recorded in zip(reports, taken, strict=True):
            results[index] = _result(outcome, route, recorded)
            stats.seen(kind, outcome, recorded)
    return [results[index] for index in sorted(results)], version or _stand_in.version


def _record(kind: Kind, reports: list[tuple[Outcome, tuple[str, ...]]]) -> list[Recorded]:
    taken = breaker.record(kind, reports)
    unknown = [index for index, one in enumerate(taken) if one.status == NO_POLICY]
    if not unknown:
        return taken
    publish_configuration()  # Redis is new, or came back empty: now it knows what to judge by
    again = breaker.record(kind, [reports[index] for index in unknown])
    for index, recorded in zip(unknown, again, strict=True):
        if recorded.status == NO_POLICY:
            raise BreakerUnavailable("the breakers have not been configured yet")
        taken[index] = recorded
    return taken


def _result(outcome: Outcome, route: Route | None, recorded: Recorded) -> Result:
    is_failure = outcome.kind in FAILURE_KINDS
    if recorded.status == Status.ACCEPTED:
        reason = outcome.reason if is_failure else ""
        metrics.outcome(outcome.provider, outcome.kind, reason, recorded.effect)
    return Result(
        id=outcome.id,
        status=Status(recorded.status),
        counted=recorded.counted,
        effect=recorded.effect,
        next=decision.next_action(outcome.kind, outcome.reason, route, recorded.swap_to),
        detail=recorded.detail,
    )


def _route_of(outcome: Outcome, config: Catalog) -> Route | None:
    """Return the route of an outcome's call: as it says, else the only one with this provider."""
    if outcome.route:
        return config.routes.get(outcome.route)
    if outcome.kind not in FAILURE_KINDS:
        return None
    found = [
        route
        for route in config.routes.values()
        if any(step.provider.slug == outcome.provider for step in route.steps)
    ]
    return found[0] if len(found) == 1 else None


def _kind_of(provider: str, route: Route | None, config: Catalog) -> Kind | None:
    if route and (route.kind, provider) in config.providers:
        return route.kind
    return next((kind for kind in Kind if (kind, provider) in config.providers), None)


def _unknown_provider(slug: str, config: Catalog) -> str:
    known = ", ".join(sorted({slug for _, slug in config.providers})[:20]) or "none yet"
    return f"there is no provider {slug!r}; there are: {known}"


def _steps(outcome: Outcome, route: Route | None) -> tuple[str, ...]:
    """Whom the call may swap to: nobody when it did not fail, hung up, or is to end."""
    if outcome.kind not in FAILURE_KINDS or outcome.reason == Reason.CANCELLED or not route:
        return ()
    return tuple(step.provider.slug for step in route.steps if step.provider.enabled)


def explain_call(call_id: str) -> dict[str, Any]:
    """Return why a call got what it got: its decisions and outcomes, oldest first.

    Raises NotFound: an uneventful call (its primary, nothing reported) leaves no record.
    """
    for kind in Kind:
        if known := breaker.recall(kind, call_id):
            entries = [_entry(entry) for entry in known["entries"]]
            return {"call_id": call_id, "kind": str(kind), "provider": known["provider"],
                    "entries": entries}  # fmt: skip
    raise NotFound(
        f"Nothing is known of call {call_id!r}: it is over a day ago, or it was uneventful "
        "(its first provider, and nothing reported), of which no record is kept."
    )


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["type"] == "outcome":
        return entry
    excluded = decision.excluded_from(entry.pop("excluded"))
    verdicts = [{"provider": slug, "verdict": verdict} for slug, verdict in entry["verdicts"]]
    is_first = entry.pop("index") == 1 and not excluded
    plain = Mode.PRIMARY if is_first else Mode.FALLBACK
    given = entry.pop("given")
    mode = plain if given in {Given.FIRST, Given.STICKY} else Mode(given)
    return entry | {"mode": str(mode), "verdicts": excluded + verdicts}


# --- orders


def set_override(
    kind: Kind, provider: str, *, state: State, reason: str, for_s: int | None, by: str
) -> BreakerView:
    """Order a breaker into `state`, for `for_s` seconds or, with None, until cleared.

    Raises NotFound, Invalid, BreakerUnavailable.
    """
    _check(kind, provider, _order_problems(state, reason, for_s))
    order = Order("override", provider, by, reason.strip(), state, (for_s or 0) * 1000)
    return _give(kind, order)


def clear_override(kind: Kind, provider: str, *, reason: str, by: str) -> BreakerView:
    """End an operator's order; nothing happens where there is none."""
    _check(kind, provider, [])
    return _give(kind, Order("clear", provider, by, reason.strip()))


def reset_breaker(kind: Kind, provider: str, *, reason: str, by: str) -> BreakerView:
    """Close a breaker and forget all it counted; an override ends too."""
    _check(kind, provider, _reason_problems(reason))
    return _give(kind, Order("reset", provider, by, reason.strip()))


def _give(kind: Kind, order: Order) -> BreakerView:
    view, _ = breaker.order(kind, order)
    log.info("order", kind=kind, provider=order.provider, action=order.action, by=order.by,
             state=order.state, for_ms=order.for_ms, reason=order.reason)  # fmt: skip
    return view


def _check(kind: Kind, provider: str, problems: list[Problem]) -> None:
    config = catalog.current()
    if (kind, provider) not in config.providers:
        config = catalog.refresh()
    if (kind, provider) not in config.providers:
        raise NotFound(f"There is no provider {provider!r} of kind {kind}.")
    if problems:
        raise Invalid("The order cannot be carried out.", problems)


def _order_problems(state: State, reason: str, for_s: int | None) -> list[Problem]:
    problems = _reason_problems(reason)
    if state not in OVERRIDE_STATES:
        expected = ", ".join(sorted(OVERRIDE_STATES))
        problems.append(Problem("state", f"{state!s} is no override; expected one of {expected}."))
    if for_s is not None and not 1 <= for_s <= OVERRIDE_MAX_S:
        limits = f"1 to {OVERRIDE_MAX_S} seconds, or nothing for: until cleared"
        problems.append(Problem("for_s", f"{for_s} is out of range; expected {limits}."))
    return problems


def _reason_problems(reason: str) -> list[Problem]:
    if not reason.strip():
        return [Problem("reason", "A reason is required: it is told to everybody.", "required")]
    if len(reason) > REASON_MAX:
        return [Problem("reason", f"At most {REASON_MAX} characters.")]
    return []


# --- configuration


def publish_configuration() -> None:
    """Have the breakers judge by this process's configuration, unless they know a newer one.

    Where Redis has lost its data, operators' orders that still stand are put back, and the loss
    is told. Raises BreakerUnavailable.
    """
    config = catalog.current()
    if not config.revision:
        return
    overrides, is_known = _past()
    for kind in Kind:
        standing = {slug: order for (of, slug), order in overrides.items() if of == kind}
        status = breaker.configure(
            kind, config.revision, _policies(kind, config), overrides=standing, is_known=is_known
        )
        log.debug("configuration_published", kind=kind, revision=config.revision, status=status)


def _past() -> tuple[dict[tuple[Kind, str], Override], bool]:
    """What history knows, for breakers that know nothing: standing orders, and whether there was
    a past at all. Nothing while the database is away."""
    try:
        standing = standing_overrides(timezone.now())
        return {(kind, slug): order for kind, slug, order in standing}, Transition.objects.exists()
    except DatabaseError:
        log.warning("overrides_unknown", exc_info=True)
        return {}, False


def _publish_soon() -> None:
    """Publish from a thread of its own: the decision that noticed does not wait for it."""
    if _publish.is_due():
        threading.Thread(target=_publish_quietly, name="publish", daemon=True).start()


def _publish_quietly() -> None:
    try:
        publish_configuration()
    except BreakerUnavailable as error:
        log.warning("configuration_not_published", error=str(error))
    finally:
        connections.close_all()
