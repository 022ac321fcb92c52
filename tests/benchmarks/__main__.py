"""Runs the benchmarks that are named, all of them if none is."""

import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.stage import stage
from tests.benchmarks.table import print_rows

NAMES = ("redis", "routes", "python", "http", "rehearsal")


def main(names: list[str]) -> None:
    """Set the stage, run, print a table for each."""
    if unknown := set(names) - set(NAMES):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {' '.join(NAMES)}")
    began = time.monotonic()
    directory = tempfile.TemporaryDirectory(prefix="stt-bench-")
    with directory as path, stage(Path(path)) as ready:
        # Only now: they import models, and models need Django to be set up.
        from tests.benchmarks import http_side, python_side, redis_side, rehearsal

        benchmarks = {
            "redis": ("Redis side", redis_side.run),
            "routes": ("Routes", python_side.run_routes),
            "python": ("From Python", python_side.run),
            "http": ("HTTP", http_side.run),
            "rehearsal": ("A month of a million calls", rehearsal.run),
        }
        for name in names or NAMES:
            title, run = benchmarks[name]
            print_rows(title, run(ready))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
