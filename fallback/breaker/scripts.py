"""The text of the scripts: a clock, what the domain knows, the shared parts, and one verb."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fallback.breaker.wire import policy_values
from fallback.domain import BREAKER_ACTOR, LIMITS, Policy

LUA = Path(__file__).resolve().parent.parent / "lua"

# What each verb is made of, in order. The clock goes before all of it, and the domain's numbers
# before the state, which uses them; what needs neither comes first, and may answer at once.
PARTS: Mapping[str, tuple[str, ...]] = {
    "decide": ("healthy", "state", "call", "decide"),
    "record": ("state", "evidence", "call", "record"),
    "order": ("state", "order"),
    "configure": ("state", "evidence", "configure"),
    "snapshot": ("state", "evidence", "snapshot"),
    "announce": ("state", "announce"),
    "unknown": ("state", "unknown"),
    "look": ("look",),
    "release": ("state", "release"),
}


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis runs it."""

    verb: str
    text: str
    sha: str


def build(clock: str | None = None) -> dict[str, Script]:
    """Return every script by verb. `clock`: other Lua that defines `clock_us()`, for tests: the
    production text cannot be told the time."""
    known = {"clock": clock or _read("clock"), "state": _domain() + _read("state")}
    return {
        verb: _script(verb, [known.get(part) or _read(part) for part in ("clock", *parts)])
        for verb, parts in PARTS.items()
    }


def _read(name: str) -> str:
    return (LUA / f"{name}.lua").read_text(encoding="utf-8")


def _script(verb: str, parts: list[str]) -> Script:
    text = "\n".join(parts)
    return Script(verb, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _domain() -> str:
    """The domain's own numbers as Lua, so that no number is written down twice."""
    return (
        f"local limits = {_literal(LIMITS)}\n"
        f"local BREAKER_ACTOR = {_literal(BREAKER_ACTOR)}\n"
        f"local function default_policy() return {_literal(policy_values(Policy()))} end\n"
    )


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_literal(one)}" for name, one in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else repr(value)
