"""Callers in a process of their own, as many at once as threads: `python -m tests.callers …`.

Arguments: the Redis URL, the process's number, how many threads, and `fail` or `decide`. Prints
`ready`, waits for a line on standard input, then prints one result per caller.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import redis

from fallback.breaker import Breakers
from fallback.domain import Kind
from tests.scenes import CHAIN, asked, outcome

NAMESPACE = "crowd"


def breakers(url: str) -> Breakers:
    """Return the breakers that all callers share."""
    client = redis.Redis.from_url(url, protocol=2, socket_timeout=20)
    return Breakers(connect=lambda: client, namespace=NAMESPACE)


def main(url: str, process: str, threads: str, verb: str) -> None:
    """Have every thread make its one call at the same moment."""
    shared, barrier = breakers(url), threading.Barrier(int(threads))

    def call(number: int) -> str:
        name = f"call-{process}-{number}"
        barrier.wait()
        if verb == "fail":
            report = outcome(name, "soniox", "init_failure")
            return shared.record(Kind.STT, [(report, CHAIN)])[0].effect
        walk = shared.decide(Kind.STT, asked(name))
        return f"{walk.given} {walk.lease}"

    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(int(threads)) as pool:
        for result in pool.map(call, range(int(threads))):
            print(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
