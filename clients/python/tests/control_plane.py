"""A real control plane for the tests: `manage.py up` of this repository, on a free port."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHON = os.environ.get("SERVER_PYTHON") or str(REPOSITORY / ".venv/bin/python")
_NOT_OURS = ("DJANGO_", "REDIS_", "DATABASE_", "SLACK_", "SECRET_", "PUBLIC_", "FALLBACK_")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Run inside the server: keys, and for each route its own providers under a policy of its own.
_CONFIGURE = """
import json, sys
from django.db import transaction
from fallback import keys
from fallback.models import ApiKey, Policy, Provider, Route, RouteStep
made = {}
with transaction.atomic():
    for role in ("agent", "operator"):
        row = ApiKey(name=f"tests-{role}", role=role)
        made[role] = keys.issue(row)
        row.save()
    default = Policy.objects.get(name="default")
    quick = Policy.objects.create(name="quick", open_duration_s=3, open_duration_max_s=60)
    for reason in default.reasons.all():
        reason.pk, reason.policy = None, quick
        if reason.reason not in ("auth", "quota"):
            reason.save()
    for route in json.loads(ROUTES):
        policy = quick if route.get("quick") else default
        row = Route.objects.create(slug=route["slug"], name=route["slug"],
                                   on_mid_call_failure=route.get("on_mid_call_failure", "swap"))
        for position, slug in enumerate(route["chain"], start=1):
            provider, _ = Provider.objects.get_or_create(
                kind="stt", slug=slug, defaults={"name": slug, "policy": policy})
            RouteStep.objects.create(route=row, position=position, provider=provider,
                                     settings=route.get("settings", {}).get(slug, {}))
print("MADE " + json.dumps(made))
"""


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ControlPlane:
    """A running control plane with these routes. Each is `{slug, chain, settings?, quick?}`;
    `quick` ones are out for 3 s after a trip, so that a test sees the whole of an outage."""

    def __init__(self, var_dir: Path, routes: list[dict[str, Any]]) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_OURS)}
        self._environment = {**inherited, "VAR_DIR": str(var_dir), "DEBUG": ""}
        self._var_dir = var_dir
        self._process: subprocess.Popen[str] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()
        script = _CONFIGURE.replace("ROUTES", repr(json.dumps(routes)))
        printed = self._manage("shell", "-c", script)
        made = next(line for line in printed.splitlines() if line.startswith("MADE "))
        self.keys: Mapping[str, str] = json.loads(made.removeprefix("MADE "))

    def start(self) -> None:
        """Start it, again too, and return when it is ready."""
        self._process = subprocess.Popen(
            [PYTHON, "manage.py", "up", "--port", str(self.port)],
            cwd=REPOSITORY,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=(self._var_dir / "up.log").open("a"),
            text=True,
        )
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("ready:"):
                return
        sys.stderr.write((self._var_dir / "up.log").read_text()[-4000:])
        raise AssertionError("the control plane did not start")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, or kill it."""
        if self._process:
            self._process.send_signal(how)
            self._process.communicate(timeout=30)
            self._process = None

    def get(self, path: str, **query: str) -> Any:
        """Return what an operator reads at `/api/v1/<path>`; None for a 404."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        return self._send("GET", f"{path}?{asked}" if asked else path)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """Order something as an operator."""
        return self._send("PUT", path, json.dumps(body).encode())

    def calls_outcomes(self, call_id: str) -> list[dict[str, Any]]:
        """Return what the server took of a call, oldest first."""
        known = self.get(f"calls/{call_id}") or {"entries": []}
        return [entry for entry in known["entries"] if entry["type"] == "outcome"]

    def breaker(self, provider: str) -> dict[str, Any]:
        """Return one provider's breaker as the status shows it."""
        return self.get(f"providers/{provider}")

    def _send(self, method: str, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {self.keys['operator']}")
        request.add_header("Content-Type", "application/json")
        try:
            with _DIRECT.open(request, timeout=20) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise AssertionError(error.read()) from error

    def _manage(self, *arguments: str) -> str:
        ran = subprocess.run(
            [PYTHON, "manage.py", *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-4000:]
        return ran.stdout
