"""The settings of a fresh process: embedded defaults, and what a deployment must say itself."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.processes import clean_environment

READ = """
import json, sys
from controlplane import settings
print(json.dumps({name: str(getattr(settings, name)) for name in sys.argv[1:]}))
"""


def load(var_dir: Path, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Import the settings in a process of their own and print those named, as JSON."""
    return subprocess.run(
        [sys.executable, "-c", READ, *names],
        cwd=settings.BASE_DIR,
        env=clean_environment(var_dir, **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def values(var_dir: Path, *names: str, **environment: str) -> dict[str, str]:
    """Return the named settings as text."""
    return json.loads(load(var_dir, *names, **environment).stdout)


def test_the_secret_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    first = values(tmp_path, "SECRET_KEY")
    second = values(tmp_path, "SECRET_KEY")

    assert first == second
    assert len(first["SECRET_KEY"]) >= 50
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_a_given_secret_key_is_written_nowhere(tmp_path):
    assert values(tmp_path, "SECRET_KEY", SECRET_KEY="given") == {"SECRET_KEY": "given"}
    assert not (tmp_path / "secret_key").exists()


def test_a_shared_database_asks_for_a_shared_secret_key(tmp_path):
    refused = load(tmp_path, DATABASE_URL="postgres://db/control")

    assert refused.returncode != 0
    assert "DATABASE_URL is set but SECRET_KEY is not" in refused.stderr


def test_debug_is_off_and_cookies_are_secure_unless_said_otherwise(tmp_path):
    found = values(tmp_path, "DEBUG", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")

    assert list(found.values()) == ["False", "True", "True"]


def test_plain_http_is_said_by_the_public_url(tmp_path):
    found = values(tmp_path, "SESSION_COOKIE_SECURE", PUBLIC_URL="http://127.0.0.1:8000")

    assert found == {"SESSION_COOKIE_SECURE": "False"}


def test_the_host_of_the_public_url_is_allowed(tmp_path):
    found = values(tmp_path, "ALLOWED_HOSTS", PUBLIC_URL="https://stt.example.com")

    assert "stt.example.com" in found["ALLOWED_HOSTS"]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL"),
        ({"REDIS_MODE": "cluster"}, "REDIS_MODE=cluster needs REDIS_URL"),
        ({"REDIS_MODE": "sentinel", "REDIS_URL": "redis://main/0"}, "REDIS_SENTINELS=host:port"),
        ({"FALLBACK_NAMESPACE": "a{b}"}, "FALLBACK_NAMESPACE"),
        ({"DEBUG": "maybe"}, "DEBUG"),
    ],
)
def test_a_wrong_deployment_stops_at_start_with_what_is_wrong(tmp_path, environment, told):
    refused = load(tmp_path, **environment)

    assert refused.returncode != 0
    assert told in refused.stderr


def test_only_one_module_reads_the_environment():
    readers = {
        path.relative_to(settings.BASE_DIR).as_posix()
        for package in ("controlplane", "fallback")
        for path in (settings.BASE_DIR / package).rglob("*.py")
        if "os.environ.get" in path.read_text() or "os.getenv" in path.read_text()
    }

    assert readers == {"controlplane/env.py"}
