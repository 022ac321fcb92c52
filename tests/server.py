"""`manage.py up` for tests: the real thing, on a free port and a directory of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from django.conf import settings

from controlplane.embedded_redis import socket_path
from tests.processes import clean_environment


@contextmanager
def running(
    var_dir: Path, port: int, *options: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run `up` in the block; its process has `said`, what it printed until it was ready."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--port", str(port), *options],
        cwd=settings.BASE_DIR,
        env=clean_environment(var_dir, **environment),
        stdout=subprocess.PIPE,
        stderr=(var_dir / "up.log").open("w"),
        text=True,
    )
    process.said = "".join(iter_until(process, "ready:"))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def iter_until(process: subprocess.Popen[str], word: str) -> Iterator[str]:
    """Yield the lines up to the one that starts with the word, or to the end."""
    for line in process.stdout:
        yield line
        if line.startswith(word):
            return


def redis_of(var_dir: Path) -> redis.Redis:
    """Return a client of the server that `up` runs."""
    return redis.Redis(unix_socket_path=str(socket_path(var_dir)), decode_responses=True)
