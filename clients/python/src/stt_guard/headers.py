"""What each request says of its sender: the key, the versions at work, and the trace it is part of.

Neither a framework nor OpenTelemetry is imported here: a process that does without stays as it is.
"""

import platform
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any, Final

from stt_guard.version import __version__

TOLD: Final = ("aiohttp", "pipecat-ai", "livekit-agents")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def headers(key: str) -> dict[str, str]:
    """Return what goes with every request of a client."""
    return {"Authorization": f"Bearer {key}", "User-Agent": user_agent()}


@cache
def user_agent() -> str:
    """Return `stt-guard/0.2.0 (Python 3.11.7; aiohttp 3.14.5; …)` with what is installed."""
    found = {"Python": platform.python_version()}
    for name in TOLD:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    told = "; ".join(f"{name} {version}" for name, version in found.items())
    return f"stt-guard/{__version__} ({told})"


def trace_headers(traceparent: str | None) -> Mapping[str, str]:
    """Return the header of this trace, or of OpenTelemetry's current span where none is given.

    Empty where there is none, or it is not of the W3C's form: a wrong one must cost no decision.
    """
    text = _current_span() if traceparent is None else traceparent
    return {"traceparent": text} if _TRACEPARENT.fullmatch(text) else {}


def _current_span() -> str:
    trace: Any = sys.modules.get("opentelemetry.trace")  # used only where the program has it
    if trace is None:
        return ""
    try:
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return ""
        return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
    except Exception:  # another version's words: no trace is worth a call
        return ""
