"""Start pumps with their senders and kill them (-9) at random points, so many times.

Run as a script; prints how many were killed. Each is a fork of this process, as in kill_pumps.
The timing is short, so that what a dead sender left is taken up within seconds.
"""

import os
import random
import signal
import sys
import threading
import time

import django

LEASE_S, SETTLE_S = 4.0, 1.0


def start(name: str, seed: int) -> int:
    """Fork a pump with its sender; return its process id."""
    from fallback import pump  # only after django.setup()
    from fallback.alerts.delivery import Timing
    from fallback.alerts.sender import Sender

    process = os.fork()
    if process:
        return process
    random.seed(seed)
    stop = threading.Event()
    timing = Timing(lease_s=LEASE_S, settle_s=SETTLE_S, backoff_s=0.1)
    threading.Thread(target=Sender(timing=timing).run, args=[stop], daemon=True).start()
    pump.Pump(name, stale_ms=500, batch=20).run(stop)
    os._exit(1)


def main(at_once: int, kills: int, seed: int) -> None:
    """Keep `at_once` running until `kills` were killed, each half a second old on average."""
    django.setup()
    from tests.kill_pumps import _load_before_forking  # it imports Django too

    _load_before_forking()
    luck, killed = random.Random(seed), 0
    living = [start(f"pump-{i}", seed + i) for i in range(at_once)]
    while killed < kills:
        time.sleep(luck.uniform(0, 0.9) / at_once)
        victim = living.pop(luck.randrange(len(living)))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        killed += 1
        living.append(start(f"pump-{at_once + killed}", seed + at_once + killed))
    for process in living:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    print(killed + len(living))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
