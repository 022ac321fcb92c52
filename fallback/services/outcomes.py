"""Outcomes: what agents saw, and why a call got what it got."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from fallback import breaker, catalog, deadline, decision, metrics, past, standin, stats
from fallback.catalog import Catalog
from fallback.domain import (
    FAILURE_KINDS,
    NO_POLICY,
    Effect,
    Given,
    Kind,
    Mode,
    Named,
    Outcome,
    Reason,
    Recorded,
    Result,
    Route,
    Status,
)
from fallback.errors import BreakerUnavailable, NotFound, NotYours
from fallback.messages.blocks import clean
from fallback.services import bounds, budget, suspects, unknown
from fallback.services.configuration import publish_configuration

API: Final = "api:"  # what the name of a key is signed with
KEY_MAX: Final = 100

log = structlog.get_logger(__name__)


def report_outcomes(
    outcomes: Sequence[Outcome], *, by: str = "", routes: frozenset[str] = frozenset()
) -> tuple[list[Result], int]:
    """Take what agents saw; return what became of each, in order, and the version now.

    Raises BreakerUnavailable when Redis does not answer: then all may be sent again, ids make it
    safe. `by`: whose key reports, as `api:<its name>`; `routes`: those it is bound to, none: all.
    What names another route or its providers is invalid; raises NotYours where all of it does.
    """
    with deadline.within(deadline.CALL_S):
        return _report(outcomes, by, routes)


def _report(
    outcomes: Sequence[Outcome], by: str, routes: frozenset[str]
) -> tuple[list[Result], int]:
    key = clean(by.removeprefix(API), KEY_MAX)
    outcomes = [
        replace(
            outcome, key=key, memory=budget.memory_for(by, is_of_note=budget.is_of_note(outcome))
        )
        for outcome in outcomes
    ]
    config, _ = catalog.chased(
        lambda it: all(_is_known(one, it) for one in outcomes), _names_of(outcomes)
    )
    foreign = _foreign(outcomes, config, routes)
    results: dict[int, Result] = {}
    version = 0
    by_kind: dict[Kind, list[tuple[int, Outcome, Route | None]]] = {}
    for index, outcome in enumerate(outcomes):
        if index in foreign:
            results[index] = Result(outcome.id, Status.INVALID, detail=foreign[index])
            continue
        _note_unknown(outcome, config, by)
        route = _route_of(outcome, config)
        kind = _kind_of(outcome.provider, route, config)
        if kind is None:
            detail = _unknown_provider(outcome.provider, config)
            results[index] = Result(outcome.id, Status.INVALID, detail=detail)
        else:
            by_kind.setdefault(kind, []).append((index, outcome, route))
    for kind, reports in by_kind.items():
        taken = _record(kind, [(outcome, _steps(outcome, route)) for _, outcome, route in reports])
        now = max(recorded.version for recorded in taken)
        version = max(version, now)
        for (index, outcome, route), recorded in zip(reports, taken, strict=True):
            results[index] = _result(outcome, route, recorded)
            if recorded.status == Status.ACCEPTED:
                budget.reported(by, outcome)
            _log_trip(kind, outcome, recorded)
            if recorded.effect == Effect.TRIPPED:
                suspects.tripped(kind, outcome, recorded, config)
            stats.seen(kind, outcome, recorded)
            past.seen(kind, outcome, route, recorded)
    return [results[index] for index in sorted(results)], version or standin.shared.version


def _foreign(
    outcomes: Sequence[Outcome], config: Catalog, routes: frozenset[str]
) -> dict[int, str]:
    """Return what is wrong with each outcome that a key bound to `routes` may not send."""
    if not routes:
        return {}
    mine = {slug for _, slug in bounds.reached(config, routes)}
    found = {}
    for index, outcome in enumerate(outcomes):
        if outcome.route and outcome.route not in routes:
            found[index] = bounds.not_yours(outcome.route, routes)
        elif outcome.provider not in mine:
            found[index] = bounds.out_of_reach(outcome.provider)
    if found and len(found) == len(outcomes):
        raise NotYours(found[0])
    return found


def _log_trip(kind: Kind, outcome: Outcome, recorded: Recorded) -> None:
    """Say whose keys took a provider out: a leaked or broken one must be found."""
    if recorded.effect in {Effect.TRIPPED, Effect.PROBE_FAILED}:
        log.warning(
            "provider_out", kind=kind, provider=outcome.provider, effect=recorded.effect,
            reason=outcome.reason, by=outcome.key, keys=dict(recorded.keys), host=outcome.host,
            call=outcome.call_id, route=outcome.route,
        )  # fmt: skip


def _is_known(outcome: Outcome, config: Catalog) -> bool:
    is_route_known = not outcome.route or config.holds(Named.ROUTE, outcome.route)
    return is_route_known and config.holds(Named.PROVIDER, outcome.provider)


def _names_of(outcomes: Sequence[Outcome]) -> str:
    """Return what these outcomes name, as one short subject."""
    return f"names {hash(frozenset((one.route, one.provider) for one in outcomes))}"


def _note_unknown(outcome: Outcome, config: Catalog, by: str) -> None:
    named = (outcome.provider,)
    unknown.note(config, route=outcome.route, providers=named, host=outcome.host, by=by)


def _record(kind: Kind, reports: list[tuple[Outcome, tuple[str, ...]]]) -> list[Recorded]:
    taken = breaker.record(kind, reports)
    unknown = [index for index, one in enumerate(taken) if one.status == NO_POLICY]
    if not unknown:
        return taken
    publish_configuration()  # Redis is new, or came back empty: now it knows what to judge by
    again = breaker.record(kind, [reports[index] for index in unknown])
    for index, recorded in zip(unknown, again, strict=True):
        if recorded.status == NO_POLICY:
            raise BreakerUnavailable("The breakers have not been configured yet.")
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
        f"Nothing is known of call {call_id!r}: it is over a day ago (15 minutes where "
        "nothing happened to it), beyond what its key may have remembered, or it was uneventful "
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
