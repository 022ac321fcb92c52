"""A real web process beside the test's own, on the same Redis: `manage.py web`, and a client."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings

from tests.processes import clean_environment, eventually, free_port

CALLERS = 64
ORDER = {"state": "forced_open", "reason": "a test", "for_s": 60}


class Other:
    """The other web process, over HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CALLERS + 8)
        self.client = httpx.Client(base_url=f"{self.url}/api/v1/", timeout=10, limits=limits)
        self._pool = ThreadPoolExecutor(CALLERS)

    def close(self) -> None:
        """Let go of the connections and threads."""
        self.client.close()
        self._pool.shutdown()

    def send(self, key: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send one request with a key."""
        return self.client.request(
            method, path, json=body, headers={"Authorization": f"Bearer {key}"}
        )

    def at_once(self, count: int, send: Callable[[int], httpx.Response]) -> list[int]:
        """Send so many requests at the same moment; return their statuses, sorted."""
        gate = threading.Barrier(count)

        def one(number: int) -> int:
            gate.wait()
            return send(number).status_code

        return sorted(self._pool.map(one, range(count)))

    def warm(self, key: str) -> None:
        """Open the connections and start the threads, so that the next requests meet at once."""
        self.at_once(CALLERS, lambda number: self.send(key, "GET", "status"))

    def decide(self, key: str, number: int, route: str = "breeze-buddy") -> httpx.Response:
        """Ask for a call."""
        asked = {"route": route, "call_id": f"{route}-{number}"}
        return self.send(key, "POST", "decisions", asked)

    def force_open(self, key: str) -> httpx.Response:
        """Give an order."""
        return self.send(key, "PUT", "providers/soniox/override", ORDER)

    def soniox(self, key: str) -> dict[str, Any]:
        """Return the breaker as GET status shows it."""
        rows = self.send(key, "GET", "status").json()["breakers"]
        return next(row for row in rows if row["provider"] == "soniox")

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Return the status of /readyz, and its body; 0 while nobody listens."""
        try:
            answer = httpx.get(f"{self.url}/readyz?role=web", timeout=2)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()


@contextmanager
def web_process(directory: Path, database: str, *, ready: int = 200) -> Iterator[Other]:
    """Run a web process on this database in the block, once /readyz answers `ready`."""
    port = free_port()
    directory.mkdir(exist_ok=True)
    environment = clean_environment(
        directory, DATABASE_URL=database, REDIS_URL=settings.REDIS_URL,
        FALLBACK_NAMESPACE=settings.FALLBACK_NAMESPACE, SECRET_KEY=settings.SECRET_KEY,
        PUBLIC_URL="http://testserver", ALLOWED_HOSTS="*", LOG_LEVEL="warning",
    )  # fmt: skip
    with (directory / "web.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "web", "--port", str(port)],
            cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        other = Other(port)
        try:
            is_up = eventually(lambda: other.readiness()[0] == ready, within_s=30)
            assert is_up, (directory / "web.log").read_text()
            yield other
        finally:
            process.kill()
            process.wait()
            other.close()
