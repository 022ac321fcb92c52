"""What a client is told: by its arguments, and by the environment where they are left out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

FeedMode = Literal["auto", "poll", "off"]
NAMES: Final = {"url": "STT_GUARD_URL", "key": "STT_GUARD_KEY", "route": "STT_GUARD_ROUTE"}
FEED: Final = "STT_GUARD_FEED"
STATE_FILE: Final = "STT_GUARD_STATE_FILE"


@dataclass(frozen=True, slots=True)
class Told:
    """What a client is told. `url` has no slash at its end; `can_use` empty: whoever is known."""

    url: str
    key: str
    route: str
    can_use: tuple[str, ...]
    feed: FeedMode
    state_file: Path | None


def read(
    *,
    url: str | None,
    key: str | None,
    route: str | None,
    can_use: Sequence[str] | None,
    feed: str | None,
    state_file: str | Path | None,
) -> Told:
    """Return what holds. An empty variable counts as one that is not set.

    Raises ValueError that names each argument and variable that is missing or cannot be right.
    """
    given = {"url": url, "key": key, "route": route}
    found = {name: value or os.environ.get(NAMES[name], "") for name, value in given.items()}
    if missing := [f"{name} (or {NAMES[name]})" for name, value in found.items() if not value]:
        raise ValueError(f"an SttGuard must be told its {', its '.join(missing)}")
    if not found["url"].startswith(("http://", "https://")):
        raise ValueError(f"url must begin with http:// or https://, not {found['url']!r}")
    path = state_file or os.environ.get(STATE_FILE)
    return Told(
        url=found["url"].rstrip("/"),
        key=found["key"],
        route=found["route"],
        can_use=_chain(can_use),
        feed=_feed(feed or os.environ.get(FEED) or "auto"),
        state_file=Path(path) if path else None,
    )


def _chain(can_use: Sequence[str] | None) -> tuple[str, ...]:
    if can_use is None:
        return ()
    if isinstance(can_use, str) or not can_use:
        raise ValueError("can_use must be a list of at least one provider, or be left out")
    return tuple(dict.fromkeys(can_use))


def _feed(mode: str) -> FeedMode:
    if mode not in get_args(FeedMode):
        raise ValueError(f"feed (or {FEED}) must be auto, poll or off, not {mode!r}")
    return cast(FeedMode, mode)
