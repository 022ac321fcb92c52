"""A lane as plain JSON, so that it can go on another day, in another process.

Knows the kinds of values that a lane is made of, and none of its fields. What it reads comes from
a database: it makes no value but of these kinds.
"""

from collections import deque
from dataclasses import fields, is_dataclass
from typing import Any, Final

from fallback.backtest.fates import Fates
from fallback.backtest.lane import Counts, Lane
from fallback.domain import Breaker, Lease, Override, Policy, State
from fallback.machine import Fleet, Machine
from fallback.machine.calls import Call

VALUES: Final[dict[str, type[Any]]] = {
    one.__name__: one for one in (Breaker, Call, Counts, Fleet, Lease, Override)
}
CONTAINERS: Final[dict[str, type[Any]]] = {"deque": deque, "set": set, "tuple": tuple}
NOT_STORED: Final = frozenset({"policy", "fates", "moves", "told"})  # given anew, or told already


def stored(lane: Lane) -> dict[str, Any]:
    """Return where a lane stands, ready for JSON."""
    return {name: _plain(value) for name, value in vars(lane).items() if name not in NOT_STORED}


def restored(data: dict[str, Any], policy: Policy, fates: Fates) -> Lane | None:
    """Return the lane that was stored; None when another version stored it, or it is damaged."""
    try:
        lane = Lane(data["provider"], policy, fates, int(data["start_ms"]))
        if vars(lane).keys() - NOT_STORED != data.keys():
            return None
        for name, value in data.items():
            setattr(lane, name, _value(value))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    fleet = lane.machine.fleet
    fleet.policies = {lane.provider: policy}
    for name, rows in fleet.failures.items():  # one of before keys were remembered has no key
        fleet.failures[name] = {(*key, "")[:4]: at for key, at in rows.items()}
    return lane


def _plain(value: Any) -> Any:
    if isinstance(value, Machine):
        return {"!": "Machine", "fleet": _plain(value.fleet)}
    if isinstance(value, State):
        return {"!": "State", "value": str(value)}
    if is_dataclass(value) and type(value).__name__ in VALUES:
        kept = [field.name for field in fields(value) if field.name not in {"policies", "events"}]
        return {"!": type(value).__name__} | {name: _plain(getattr(value, name)) for name in kept}
    if isinstance(value, dict):
        return {"!": "dict", "rows": [[_plain(key), _plain(one)] for key, one in value.items()]}
    if type(value).__name__ in CONTAINERS:
        return {"!": type(value).__name__, "rows": [_plain(one) for one in value]}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a lane cannot be stored with a {type(value).__name__} in it")


def _value(data: Any) -> Any:
    if isinstance(data, list):
        return [_value(one) for one in data]
    if not isinstance(data, dict):
        return data
    name = data["!"]
    if name == "dict":
        return {_value(key): _value(one) for key, one in data["rows"]}
    if name in CONTAINERS:
        return CONTAINERS[name](_value(one) for one in data["rows"])
    if name == "State":
        return State(data["value"])
    if name == "Machine":
        return Machine(_value(data["fleet"]))
    return VALUES[name](**{key: _value(one) for key, one in data.items() if key != "!"})
