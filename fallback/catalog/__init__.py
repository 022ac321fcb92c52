"""Configuration as plain values, cached per process: the hot path never touches the ORM.

Reading what is held costs an attribute look-up. A background thread looks at the revision every
`LOOK_EVERY_S` seconds while anybody asks, and loads everything, in a constant number of queries,
when the number is another one. A database that is slow or away, or that does not hold a whole
configuration, changes nothing: the last values stay, `age_s` says how old they are, and `trouble`
why. Nothing here talks to Redis.

    values     the configuration as plain values
    loading    from rows to values, and only from all of the rows
    cache      what is held, the looks, and who waits for one

`current` never waits. `confirmed` waits for a look where nobody asked for so long that what is
held may be of another day. `chased` waits where something is named that is not known here. A page,
which reads the database anyway, asks it for the revision and shows that one (`newest`).
"""

from collections.abc import Callable

from fallback.catalog.cache import (
    CHASE_PACE_S,
    CHASE_WAIT_S,
    CONFIRMED_S,
    LOAD_ANYWAY_S,
    LOOK_EVERY_S,
    MISSES_MAX,
    MISSES_S,
    STUCK_AFTER_S,
    Cache,
)
from fallback.catalog.loading import NotWhole, load, seal
from fallback.catalog.values import Catalog, Key
from fallback.models import ConfigRevision

__all__ = [
    "CHASE_PACE_S",
    "CHASE_WAIT_S",
    "CONFIRMED_S",
    "CONFIRM_WAIT_S",
    "LOAD_ANYWAY_S",
    "LOOK_EVERY_S",
    "MISSES_MAX",
    "MISSES_S",
    "STUCK_AFTER_S",
    "Cache",
    "Catalog",
    "Key",
    "NotWhole",
    "age_s",
    "chased",
    "confirmed",
    "current",
    "failed_looks",
    "load",
    "looked_at_now",
    "newest",
    "refresh",
    "reload",
    "seal",
    "trouble",
]

CONFIRM_WAIT_S = 1.0  # how long a page or an order waits for the database


def current() -> Catalog:
    """Return what is held, and have the background thread look when that is due.

    Only the first call of a process may wait, at most `FIRST_WAIT_S`.
    """
    return _cache.current()


def confirmed(wait_s: float | None = None) -> Catalog:
    """Return what the database confirmed within the last `CONFIRMED_S`.

    When that is longer ago, wait for a look, at most `wait_s` (`CONFIRM_WAIT_S`). After the
    database failed or was too slow, nobody waits for it until it has answered again.
    """
    return _cache.confirmed(CONFIRM_WAIT_S if wait_s is None else wait_s)


def chased(knows: Callable[[Catalog], bool], subject: str) -> tuple[Catalog, bool]:
    """Return a configuration that `knows` what somebody named, if need be after a look.

    What is not known here may have been made elsewhere a moment ago, so all who name it wait for a
    look that begins after now, at most `CHASE_WAIT_S` and until their deadline. False where the
    look was not done in time, or failed: then it is not certain that there is no such thing.
    However many things are named how often, there are at most 1 / `CHASE_PACE_S` looks a second,
    and a `subject` that looks did not find `MISSES_MAX` times is not waited for until `MISSES_S`
    after the first.
    """
    return _cache.chased(knows, subject, CHASE_WAIT_S)


def newest() -> Catalog:
    """Return the configuration as it is now, for a page: whoever changed it looks for the change.

    Asks for the revision in the calling thread, and where it is not the one that is held, waits
    for a look, at most `CONFIRM_WAIT_S`. Raises what the database raises.
    """
    revision = ConfigRevision.current()
    held = current()
    if held.revision != revision:
        return refresh(CONFIRM_WAIT_S)
    return held if revision else confirmed()


def refresh(wait_s: float = CHASE_WAIT_S) -> Catalog:
    """Have the background thread look now, wait for it at most `wait_s`, return what is held."""
    return _cache.refresh(wait_s)


def looked_at_now(wait_s: float = CONFIRM_WAIT_S) -> Catalog | None:
    """Return the configuration as a look finds it that begins after now; None when the database
    does not answer within `wait_s`. For what must not be said of a configuration of a moment ago.
    """
    return _cache.looked_at_now(wait_s)


def reload() -> Catalog:
    """Load what there is now, whole or not, in this thread and its transaction; for tests.

    Raises what the database raises.
    """
    return _cache.load_here()


def age_s() -> float:
    """Return the seconds since the database last confirmed what is held; infinite if never."""
    return _cache.age_s()


def trouble() -> str:
    """Return why the last look at the database took nothing, in words fit for anybody; empty where
    it did, or where there was none yet."""
    return _cache.trouble


def failed_looks() -> int:
    """Return how often the database could not be read since this process started."""
    return _cache.failures


_cache = Cache()
