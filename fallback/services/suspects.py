"""One API key that alone takes several providers out while others are in use: worth a word.

It may be leaked, its agents may be broken, or their network. Nothing is refused for it: the
providers may really be out. Seen by the process that takes the reports, without asking Redis.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from django.utils import timezone

from fallback.catalog import Catalog
from fallback.domain import Kind, Outcome, Recorded
from fallback.models import Role
from fallback.services.configuration import tell_misconfigured

WITHIN_S: Final = 60.0
PROVIDERS: Final = 3
KEYS_MAX: Final = 1_000


class Suspects:
    """Which providers each key took out of late. Bounded; safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._out: OrderedDict[str, dict[str, float]] = OrderedDict()

    def took_out(self, key: str, provider: str) -> list[str]:
        """Note a trip; return the providers that this key took out within `WITHIN_S`."""
        with self._lock:
            now = self._clock()
            of_late = self._out.pop(key, {}) | {provider: now}
            of_late = {name: at for name, at in of_late.items() if now - at < WITHIN_S}
            self._out[key] = of_late
            if len(self._out) > KEYS_MAX:
                self._out.popitem(last=False)
            return sorted(of_late)


shared = Suspects()


def tripped(kind: Kind, outcome: Outcome, recorded: Recorded, config: Catalog) -> None:
    """Note a trip; tell where its key alone made it, made others, and is not the only one."""
    if set(recorded.keys) != {outcome.key} or not _has_others(outcome.key, config):
        return
    out = shared.took_out(outcome.key, outcome.provider)
    if len(out) >= PROVIDERS:
        tell_misconfigured(
            kind,
            f"the API key {outcome.key} alone took {len(out)} providers out",
            f"{', '.join(out)} within {WITHIN_S:.0f} s: where that is no outage, switch the key off"
            " and reset them; a policy with distinct_keys 2 waits for a second key",
        )


def _has_others(key: str, config: Catalog) -> bool:
    now = timezone.now()
    return any(
        one.role is Role.AGENT and one.enabled and one.name != key
        for one in config.keys.values()
        if one.expires_at is None or one.expires_at > now
    )
