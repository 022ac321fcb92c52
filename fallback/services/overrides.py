"""Operators' orders to a breaker: an override, its end, a reset."""

from typing import Final

import structlog

from fallback import breaker, catalog
from fallback.domain import OVERRIDE_STATES, BreakerView, Kind, Order, State
from fallback.errors import Invalid, NotFound, Problem
from fallback.texts import clean

OVERRIDE_MAX_S: Final = 30 * 24 * 3600
REASON_MAX: Final = 500

log = structlog.get_logger(__name__)


def set_override(
    kind: Kind, provider: str, *, state: State, reason: str, for_s: int | None, by: str
) -> BreakerView:
    """Order a breaker into `state`, for `for_s` seconds or, with None, until cleared.

    Raises NotFound, Invalid, BreakerUnavailable.
    """
    _check(kind, provider, _order_problems(state, reason, for_s))
    order = Order("override", provider, by, _cleaned(reason), state, (for_s or 0) * 1000)
    return _give(kind, order)


def clear_override(kind: Kind, provider: str, *, reason: str, by: str) -> BreakerView:
    """End an operator's order; nothing happens where there is none."""
    _check(kind, provider, [])
    return _give(kind, Order("clear", provider, by, _cleaned(reason)))


def reset_breaker(kind: Kind, provider: str, *, reason: str, by: str) -> BreakerView:
    """Close a breaker and forget all it counted; an override ends too."""
    _check(kind, provider, _reason_problems(reason))
    return _give(kind, Order("reset", provider, by, _cleaned(reason)))


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


def _cleaned(reason: str) -> str:
    """Return a reason as it is told and logged, whichever door it came in by."""
    return clean(reason, REASON_MAX)


def _reason_problems(reason: str) -> list[Problem]:
    if not _cleaned(reason):
        return [Problem("reason", "A reason is required: it is told to everybody.", "required")]
    if len(reason) > REASON_MAX:
        return [Problem("reason", f"At most {REASON_MAX} characters.")]
    return []
