"""What a benchmark runs on: a database, a Redis server and web processes of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane.embedded_redis import EmbeddedRedis
from controlplane.env import VARIABLES
from controlplane.supervisor import spawn, stop

START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is. `key`: an agent's API key."""

    var_dir: Path
    redis_socket: Path
    key: str

    @contextmanager
    def web(self, application: str) -> Iterator[int]:
        """Serve an application as `up` does, logs to a file; yield its port."""
        port = _free_port()
        told = {"BENCHMARK_REDIS": str(self.redis_socket), "BENCHMARK_KEY": self.key}
        arguments = ["-m", "uvicorn", application, "--port", str(port), "--lifespan", "off"]
        arguments += ["--no-access-log", "--proxy-headers"]
        log = self.var_dir / f"{application.split(':')[0]}.log"
        with log.open("w") as lines:
            stderr = os.dup(2)
            os.dup2(lines.fileno(), 2)
            try:
                process = spawn([sys.executable, *arguments], env={**os.environ, **told})
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
        try:
            _wait(port, process, log)
            yield port
        finally:
            stop(process, timeout_s=15)


@contextmanager
def stage(var_dir: Path) -> Iterator[Stage]:
    """Set up Django on a seeded database and a Redis server, all in `var_dir`."""
    for variable in VARIABLES - {"EMBEDDED_REDIS_BIN"}:
        os.environ.pop(variable, None)
        os.environ.pop(f"{variable}_FILE", None)
    os.environ |= {
        "VAR_DIR": str(var_dir),
        "PUBLIC_URL": "http://127.0.0.1",
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
    }
    server = EmbeddedRedis(var_dir, binary=os.environ.get("EMBEDDED_REDIS_BIN", ""))
    server.start()
    try:
        yield Stage(var_dir, server.socket, _configure())
    finally:
        server.stop()


def _configure() -> str:
    """Migrate and seed the database, publish it to the breakers, and return a new key."""
    # Only now: the settings read the environment as soon as they are imported.
    import django
    from django.core.management import call_command

    django.setup()
    from fallback import catalog, keys, services
    from fallback.models import ApiKey

    call_command("migrate", verbosity=0)
    call_command("seed", verbosity=0)
    row = ApiKey(name="benchmark", role="agent")
    key = keys.issue(row)
    row.save()
    catalog.reload()
    services.publish_configuration()
    return key


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"no web process came up:\n{log.read_text()[-2000:]}")
