"""The contract's words as plain values: what a decision is, and what can be seen of a provider.

Nothing is decided here, and nothing is imported but the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Settings = Mapping[str, Any]
Mode = Literal["primary", "fallback", "probe", "last_resort", "bypass"]
Kind = Literal["init_failure", "mid_call_failure", "stall"]
Reason = Literal[
    "connection",
    "timeout",
    "server_error",
    "stream",
    "stall",
    "auth",
    "quota",
    "rate_limit",
    "bad_request",
    "cancelled",
    "unknown",
]
Source = Literal["remote", "pushed", "last_known", "local_chain"]

INIT_FAILURE: Final = "init_failure"
MID_CALL_FAILURE: Final = "mid_call_failure"
STALL: Final = "stall"
FAILURES: Final = frozenset({INIT_FAILURE, MID_CALL_FAILURE, STALL})
# What another try within the call does not heal: a key, an empty account, a wrong setting.
LASTING: Final[frozenset[Reason]] = frozenset({"auth", "quota", "bad_request"})

CALL_ID_MAX: Final = 128  # characters, the server's limit
TEXT_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Step:
    """A provider that this call may use, with its settings for this route."""

    provider: str
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whom a call should use. `order` is the whole chain, best first, so a swap asks nobody."""

    order: tuple[Step, ...]
    mode: Mode
    source: Source
    lease: str | None = None
    on_mid_call_failure: Literal["swap", "end"] = "swap"

    @property
    def provider(self) -> str:
        """The first of the order."""
        return self.order[0].provider


@dataclass(frozen=True, slots=True)
class Seen:
    """A failure in the contract's words. `code` is the provider's own (a status, a close code)."""

    reason: Reason = "unknown"
    code: str | None = None
    retry_after_s: float | None = None
