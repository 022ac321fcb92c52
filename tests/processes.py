"""Real processes for tests: `manage.py` in a clean environment, and who is still alive."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from controlplane.env import VARIABLES
from tests.settings import TEST_DATABASE_URL


def clean_environment(var_dir: Path, **variables: str) -> dict[str, str]:
    """Return this environment without anything of ours but VAR_DIR and the variables given."""
    ours = {*VARIABLES, *(f"{name}_FILE" for name in VARIABLES), "DJANGO_SETTINGS_MODULE"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return {**inherited, "VAR_DIR": str(var_dir), **variables}


def database_url() -> str:
    """Return the URL of the database that this test runs on, for processes of its own."""
    name = str(connection.settings_dict["NAME"])
    if TEST_DATABASE_URL:
        return urlunsplit(urlsplit(TEST_DATABASE_URL)._replace(path=f"/{name}"))
    return f"sqlite:///{name}"


def manage(*arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` to its end, within a minute, and return what it printed."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port(*, below: int = 65_536) -> int:
    """Return a port that nobody listens on just now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < below:
            return port


def alive_with(text: str) -> list[int]:
    """Return the processes (Linux) whose command line or environment mentions the text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            zombie = ") Z " in (process / "stat").read_text()
        except OSError:
            continue
        if text.encode() in seen and not zombie and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def eventually(claim: Callable[[], object], *, within_s: float = 10.0) -> bool:
    """Say whether the claim came true in time; processes end when the kernel gets round to it."""
    deadline = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
