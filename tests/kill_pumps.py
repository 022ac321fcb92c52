"""Start pumps, kill them (-9) at random points and start others, until told to stop.

Prints how many were killed.

Run as a script: Django is loaded once and each pump is a fork of this process, which takes
milliseconds instead of a second, so that most are killed at work. A handler behind the real ones
writes one row for each event that it is given, with nothing that would refuse a second one.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import django

EFFECTS = "test_pump_effects"


def insert_effects(events: Sequence) -> Sequence:
    """Leave a trace of each event, in the same transaction as everything else."""
    from django.db import connection  # only after django.setup()

    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {EFFECTS} (event_id) VALUES (%s)", [[event.id] for event in events]
        )
    return events


def start(name: str, seed: int) -> int:
    """Fork a pump; return its process id."""
    from fallback import pump  # only after django.setup()

    process = os.fork()
    if process:
        return process
    random.seed(seed)
    handlers = (*pump.HANDLERS, insert_effects)
    pump.Pump(name, handlers=handlers, stale_ms=500, batch=20).run(threading.Event())
    os._exit(1)


def main(at_once: int, stop_file: Path, seed: int) -> None:
    """Keep `at_once` pumps running, each until it is killed, half a second later on average."""
    django.setup()
    _load_before_forking()
    luck, killed = random.Random(seed), 0
    living = [start(f"pump-{i}", seed + i) for i in range(at_once)]
    while not stop_file.exists():
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


def _load_before_forking() -> None:
    """Read the configuration once for all, and leave no connection for two processes to share."""
    from django.db import connection  # only after django.setup()

    from fallback import catalog

    catalog.reload()
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
