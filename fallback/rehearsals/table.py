"""A rehearsal's answer on a terminal."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

FIGURES: Final = (
    ("trips", "trips"),
    ("first failure to trip, median s", "detection_s.median"),
    ("first failure to trip, longest s", "detection_s.longest"),
    ("calls hurt", "hurt"),
    ("calls diverted", "diverted"),
    ("  while it was in fact healthy", "diverted_healthy"),
    ("  of which nobody can tell", "fate_unknown"),
    ("flaps", "flaps"),
    ("alerts", "alerts"),
    ("seconds out", "out_s"),
)


def report_table(report: dict[str, Any]) -> str:
    """Return today's values beside the proposed, a table for each eventful provider."""
    seen, span = report["recorded"], report["span"]
    parts = [
        f"{span['since']} to {span['until']}: {seen['calls']} calls, {seen['failures']} failures"
        + (f"; {seen['dropped']} sightings were dropped" if seen["dropped"] else "")
    ]
    calm = [row["provider"] for row in report["providers"] if _is_calm(row)]
    parts += ["\n".join(_provider(row)) for row in report["providers"] if not _is_calm(row)]
    if calm:
        parts.append(f"nothing happened on {', '.join(calm)}")
    return "\n\n".join(parts)


def points_table(found: dict[str, Any]) -> str:
    """Return the points of a search that no other beats in both, and today's."""
    rows = [point for point in found["points"] if point["is_best"] or point["is_today"]]
    if not rows:
        return "Nothing was recorded in that time."
    names = list(rows[0]["values"])
    head = ["", *names, "hurt", "moved for nothing", "trips"]
    lines = [
        [
            "today" if point["is_today"] else "",
            *(str(point["values"][name]) for name in names),
            str(point["hurt"]),
            str(point["moved_for_nothing"]),
            str(point["trips"]),
        ]
        for point in rows
    ]
    return "\n".join(_aligned([head, *lines]))


def _is_calm(row: dict[str, Any]) -> bool:
    moved = any(lane["transitions"] for lane in row["lanes"].values())
    return not (row["failures"] or moved)


def _provider(row: dict[str, Any]) -> Iterable[str]:
    lanes = row["lanes"]
    lines = [[row["provider"], *lanes]]
    lines += [
        [label, *(_shown(_at(lane, path)) for lane in lanes.values())] for label, path in FIGURES
    ]
    yield from _aligned(lines)
    for name, lane in lanes.items():
        for number in lane["missed"]:
            yield f"{name} would have missed incident #{number}"


def _at(lane: dict[str, Any], path: str) -> Any:
    value: Any = lane
    for name in path.split("."):
        value = value[name]
    return value


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _aligned(lines: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for first, *rest in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()
