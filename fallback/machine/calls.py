"""What is remembered of one call. The twin of lua/call.lua."""

import copy
from dataclasses import dataclass, field
from typing import Any

from fallback.domain import LIMITS, Memory, Outcome


@dataclass
class Call:
    """What a call was given, what it reported, and so what it may not be given again."""

    touched_ms: int = 0
    is_quiet: bool = False
    provider: str = ""
    route: str = ""
    is_diverted: bool = False
    failed: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    saved: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    entries: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0  # of the texts of its outcomes

    @property
    def is_full(self) -> bool:
        """Whether no more is remembered of this call."""
        return len(self.entries) >= LIMITS["call_entries"] or self.bytes >= LIMITS["call_bytes"]

    def weigh(self, outcome: Outcome) -> None:
        """Count what an outcome takes; its id is stored twice."""
        texts = (outcome.id, outcome.id, outcome.host, outcome.code, outcome.message)
        self.bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

    def add_entry(self, **entry: Any) -> None:
        """Remember a decision or an outcome while there is room."""
        if not self.is_full:
            self.entries.append({name: value for name, value in entry.items() if value is not None})


def recall(calls: dict[str, Call], call_id: str, now_ms: int, *, is_kept: bool) -> Call:
    """Return what is known of a call, a copy where it is not to be written again; an old record is
    no record."""
    call = calls.get(call_id)
    if call is None:
        return Call()
    kept_ms = LIMITS["quiet_call_ms"] if call.is_quiet else LIMITS["call_ms"]
    is_live = now_ms - kept_ms < call.touched_ms <= now_ms + LIMITS["tolerance_ms"]
    if not is_live:
        return Call()
    return call if is_kept else copy.deepcopy(call)


def write(
    calls: dict[str, Call], call_id: str, call: Call, *, now_ms: int, is_quiet: bool, memory: Memory
) -> None:
    """Store a call, with the time it is kept from."""
    is_unheard_of = call.is_quiet or call.touched_ms == 0
    call.is_quiet = is_quiet or (memory == Memory.BRIEF and is_unheard_of)
    call.touched_ms = now_ms
    calls[call_id] = call
