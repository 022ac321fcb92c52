"""The contract's examples, for the schema and its page: one outage, seen from each resource."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample


def _asked(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def _answered(name: str, value: Any) -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True, status_codes=["200"])


_SETTINGS: Final = {"model": "nova-3"}
_NEXT: Final = {"action": "swap", "provider": "deepgram"}
_OUTCOME_ID: Final = "CA5f0c:soniox:init_failure"

DECISION: Final = [
    _asked(
        "A call begins",
        {
            "route": "breeze-buddy",
            "call_id": "CA5f0c",
            "language": "hi-IN",
            "can_use": ["soniox", "deepgram"],
            "host": "pod-7",
        },
    ),
    _answered(
        "The primary is out",
        {
            "call_id": "CA5f0c",
            "route": "breeze-buddy",
            "provider": "deepgram",
            "mode": "fallback",
            "order": [
                {"provider": "deepgram", "settings": _SETTINGS},
                {"provider": "soniox", "settings": {}},
            ],
            "probe": None,
            "on_mid_call_failure": "swap",
            "why": [
                {
                    "provider": "soniox",
                    "verdict": "open",
                    "until": "2026-11-22T12:31:04.000Z",
                    "detail": "2 failures in 240 s (threshold 2)",
                },
                {"provider": "deepgram", "verdict": "admitted"},
            ],
            "degraded": False,
            "version": 4711,
            "decided_at": "2026-11-22T12:01:04.120Z",
        },
    ),
]

OUTCOMES: Final = [
    _asked(
        "A provider refused the connection",
        {
            "outcomes": [
                {
                    "id": _OUTCOME_ID,
                    "call_id": "CA5f0c",
                    "provider": "soniox",
                    "kind": "init_failure",
                    "reason": "auth",
                    "code": "401",
                    "message": "Incorrect API key",
                    "age_ms": 0,
                    "host": "pod-7",
                    "route": "breeze-buddy",
                }
            ]
        },
    ),
    _answered(
        "It tripped the breaker",
        {
            "results": [
                {
                    "id": _OUTCOME_ID,
                    "status": "accepted",
                    "counted": True,
                    "effect": "tripped",
                    "next": _NEXT,
                }
            ],
            "version": 4712,
        },
    ),
]

STATUS: Final = [
    _answered(
        "One provider is out",
        {
            "version": 4712,
            "at": "2026-11-22T12:01:05.000Z",
            "verdict": "degraded",
            "pump_lag_s": 0.2,
            "degraded": False,
            "breakers": [
                {
                    "provider": "soniox",
                    "kind": "stt",
                    "state": "open",
                    "since": "2026-11-22T12:01:04.000Z",
                    "until": "2026-11-22T12:31:04.000Z",
                    "cause": "failure_threshold",
                    "failures": 2,
                    "failure_threshold": 2,
                    "failure_window_s": 240,
                    "trips": 1,
                    "leases": 0,
                    "probe_slots": 1,
                    "override": None,
                    "last_reasons": {"connection": 2},
                    "keys": {"pods-eu": 2},
                    "held_back": None,
                    "incident": 17,
                }
            ],
            "routes": [
                {
                    "route": "breeze-buddy",
                    "kind": "stt",
                    "fallback_enabled": True,
                    "on_mid_call_failure": "swap",
                    "order": [
                        {
                            "provider": "deepgram",
                            "settings": _SETTINGS,
                            "languages": [],
                            "position": 2,
                        },
                        {"provider": "soniox", "settings": {}, "languages": [], "position": 1},
                    ],
                }
            ],
            "unknown_names": [
                {
                    "what": "provider",
                    "name": "soniox2",
                    "route": "breeze-buddy",
                    "host": "pod-7",
                    "by": "api:my-agents",
                    "last_seen": "2026-11-22T12:00:31.000Z",
                }
            ],
            "more_unknown_names": False,
        },
    ),
]

OVERRIDE: Final = [
    _asked(
        "Out for half an hour",
        {"state": "forced_open", "for_s": 1800, "reason": "their status page says outage"},
    )
]
