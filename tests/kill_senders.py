"""Start pumps with their senders and kill them (-9) at random points, so many times.

Run as a script; prints how many were killed. Each is a fork of this process, as in kill_pumps, and
has the name of the one whose place it takes, as under `up`. The timing is the real one but for the
time that a message may be under way, which this Slack does not need.
"""

import os
import random
import signal
import sys
import threading
import time

import django

SETTLE_S = 1.0


def start(name: str, seed: int) -> int:
    """Fork a pump with its sender; return its process id."""
    from fallback import pump  # only after django.setup()
    from fallback.alerts.claims import Timing
    from fallback.alerts.sender import Sender

    process = os.fork()
    if process:
        return process
    random.seed(seed)
    stop = threading.Event()
    timing = Timing(settle_s=SETTLE_S)
    threading.Thread(target=Sender(name=name, timing=timing).run, args=[stop], daemon=True).start()
    pump.Pump(name, batch=20).run(stop)
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
        place = luck.randrange(at_once)
        os.kill(living[place], signal.SIGKILL)
        os.waitpid(living[place], 0)
        killed += 1
        living[place] = start(f"pump-{place}", seed + at_once + killed)
    for process in living:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    print(killed + len(living))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
