"""Who the master is, by the newest word of the Sentinels, for every alias alike.

redis-py believes the first Sentinel that answers. During a failover that may be one that has not
heard of it yet, so here all are asked at once and the newest configuration counts. A master that
changed is left by every pool of this process: its idle connections are closed at once, those in
use when they come back.
"""

import threading
import weakref
from concurrent.futures import wait
from functools import partial
from typing import Any, Final, NamedTuple

from django_redis.pool import SentinelConnectionFactory
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from controlplane.redis_connections import BoundedPool
from fallback.aside import Aside

SOON_S: Final = 0.1  # what answers within this time is waited for
LATEST_S: Final = 0.6  # when none has answered by then, none will

Address = tuple[str, int]


class Word(NamedTuple):
    """What one Sentinel says. The number of its configuration grows with every failover."""

    epoch: int
    address: Address
    is_leaving: bool  # a failover is under way, and this is still the master before it


class Sentinels(Sentinel):
    """All Sentinels of one master. Safe for threads."""

    def __init__(self, sentinels: Any, **options: Any) -> None:
        super().__init__([], **options)  # type: ignore[no-untyped-call]
        same: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "driver_info": None}
        same |= self.sentinel_kwargs
        pools = [BoundedPool(host=host, port=port, **same) for host, port in sentinels]
        self.sentinels = [Redis(connection_pool=pool) for pool in pools]
        self._aside = Aside("sentinel", threads=2 * len(self.sentinels), at_most_s=LATEST_S)
        self._known: dict[str, Address] = {}
        self._leaving: set[str] = set()
        self._pools: weakref.WeakSet[SentinelConnectionPool] = weakref.WeakSet()
        self._lock = threading.Lock()

    def discover_master(self, service_name: str) -> Address:
        """Return the master's address: by the newest word, or the last one while none answers.

        Raises MasterNotFoundError when none ever named one.
        """
        words = self._words(service_name)
        with self._lock:
            if words:
                address = self._known[service_name] = max(words).address
                is_leaving = any(one.is_leaving and one.address == address for one in words)
                (self._leaving.add if is_leaving else self._leaving.discard)(service_name)
            if service_name in self._known:
                return self._known[service_name]
        raise MasterNotFoundError(f"No Sentinel names a master called {service_name!r}")

    def is_leaving(self, service_name: str) -> bool:
        """Whether a failover was under way at the last look and its new master not named yet: it
        may take calls already, and the old one does not know."""
        return service_name in self._leaving

    def serve(self, pool: SentinelConnectionPool) -> None:
        """Have this pool follow the master, whichever alias notices first."""
        self._pools.add(pool)

    def follow(self, service_name: str) -> Address:
        """Look up the master, and have every pool leave the one before. Raises as above."""
        address = self.discover_master(service_name)
        for pool in list(self._pools):
            if pool.service_name == service_name and pool.master_address != address:
                pool.proxy.master_address = address
                pool.disconnect(inuse_connections=False)
        return address

    def _words(self, service_name: str) -> list[Word]:
        """Return what each Sentinel says that answers in time."""
        asked = [
            self._aside.start(partial(_word, sentinel, service_name)) for sentinel in self.sentinels
        ]
        done, waiting = wait(asked, timeout=SOON_S)
        while waiting and not any(_answer(one) for one in done):
            more, waiting = wait(waiting, timeout=LATEST_S, return_when="FIRST_COMPLETED")
            done |= more
            if not more:
                break
        return [word for word in map(_answer, done) if word]


def _word(sentinel: Any, service_name: str) -> Word | None:
    """Ask one Sentinel. In the middle of a failover only its second answer is the new master."""
    pipeline = sentinel.pipeline(transaction=False)
    pipeline.sentinel_master(service_name)
    pipeline.sentinel_get_master_addr_by_name(service_name)
    state, address = pipeline.execute()
    if not address:
        return None
    host, port = address
    host = host.decode() if isinstance(host, bytes) else host
    is_under_way = "failover_in_progress" in state["flags"]
    is_leaving = is_under_way and (host, port) == (state["ip"], state["port"])
    return Word(int(state["config-epoch"]), (host, port), is_leaving)


def _answer(future: Any) -> Word | None:
    try:
        return future.result()  # type: ignore[no-any-return] # done
    except (RedisError, OSError, LookupError, ValueError, TypeError):  # none, or none that we know
        return None


class MasterConnectionFactory(SentinelConnectionFactory):  # type: ignore[misc] # it has no types
    """One set of Sentinels for all aliases of a process, and bounded connections to the master."""

    _sets: dict[str, Sentinels] = {}
    _sets_lock = threading.Lock()

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        given = {name: options[name] for name in ("SENTINELS", "SENTINEL_KWARGS")}
        key = repr(sorted(given.items(), key=str))
        with self._sets_lock:
            if key not in self._sets:
                self._sets[key] = Sentinels(
                    options["SENTINELS"], sentinel_kwargs=options["SENTINEL_KWARGS"]
                )
            self._sentinel = self._sets[key]

    def get_connection_pool(self, params: dict[str, Any]) -> SentinelConnectionPool:
        """Return a new pool, which follows the master from now on."""
        pool: SentinelConnectionPool = super().get_connection_pool(params)
        self._sentinel.serve(pool)
        return pool
