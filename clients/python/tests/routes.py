"""The routes that the tests use: each with providers of its own, so that none moves another's."""

from typing import Any

from tests.cases import CASES


def route(slug: str, **values: Any) -> dict[str, Any]:
    """Return a route over two providers named after it, `soniox` first unless `chain` says else."""
    return {"slug": slug, "chain": [f"soniox-{slug}", f"deepgram-{slug}"], **values}


_SETTINGS = {
    "soniox-settings": {"model": "stt-rt-v5", "language_hints": ["hi"]},
    "deepgram-settings": {"model": "nova-3", "endpointing": 300},
}
ROUTES: list[dict[str, Any]] = [
    route("plain"),
    route("settings", settings=_SETTINGS),
    route("resend"),
    route("trip", quick=True),
    route("probe", quick=True),
    route("pushed", quick=True),
    route("fleet", quick=True),
    route("fleet-outage", quick=True),
    route("quiet"),
    route("ends", on_mid_call_failure="end"),
    route("killed"),
    route("livekit"),
    route("example"),
    route("short"),
    *(
        {
            "slug": case.route,
            "chain": [f"{case.primary}-{case.route}", f"{case.standby}-{case.route}"],
            "on_mid_call_failure": "end" if case.fault == "end" else "swap",
        }
        for case in CASES
    ),
]
