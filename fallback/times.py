"""Times: milliseconds since the epoch, as moments and as every surface writes them."""

from datetime import UTC, datetime


def rfc3339(ms: int | None) -> str | None:
    """Write milliseconds since the epoch as RFC 3339 in UTC, with milliseconds and `Z`."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def moment(ms: int) -> datetime:
    """Return milliseconds since the epoch as a moment in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def epoch_ms(at: datetime) -> int:
    """Return a moment as whole milliseconds since the epoch."""
    return round(at.timestamp() * 1000)
