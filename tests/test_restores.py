"""A database that is restored while agents ask: what is held stays, and half of it is not taken.

With PostgreSQL's own tools, section by section, as a restore of real size passes through them.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import connection

from fallback import services
from fallback.models import ApiKey
from tests.configuration import make_route
from tests.processes import database_url, eventually
from tests.rest import make_key
from tests.web_process import Other, web_process

TEST_DATABASE_URL = os.environ.get("TEST_DATABASE_URL", "")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgres,
    pytest.mark.skipif(
        not TEST_DATABASE_URL or not shutil.which("pg_restore"),
        reason="needs TEST_DATABASE_URL and PostgreSQL's tools",
    ),
]

RESTORED = "stt_restored"
FIRST = ("fallback_apikey", "fallback_configrevision")  # as pg_restore does: by name


def run(*command: str) -> str:
    """Run one of PostgreSQL's tools; return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sql(url: str, text: str) -> None:
    """Carry out a statement."""
    run("psql", "--quiet", "--no-psqlrc", "--dbname", url, "--command", text)


@pytest.fixture
def restored() -> Iterator[str]:
    """Make a database of our own beside the test's; return its URL."""
    sql(TEST_DATABASE_URL, f"DROP DATABASE IF EXISTS {RESTORED} WITH (FORCE)")
    sql(TEST_DATABASE_URL, f"CREATE DATABASE {RESTORED}")
    yield urlunsplit(urlsplit(TEST_DATABASE_URL)._replace(path=f"/{RESTORED}"))
    sql(TEST_DATABASE_URL, f"DROP DATABASE IF EXISTS {RESTORED} WITH (FORCE)")


def test_a3_a_restore_in_progress_is_not_taken_for_the_configuration(
    restored: str, tmp_path: Path
) -> None:
    make_route()
    key, gone = make_key(), make_key(name="gone")
    services.publish_configuration()
    dump = str(tmp_path / "dump")
    connection.close()
    run("pg_dump", "--format", "custom", "--file", dump, "--dbname", database_url())
    whole = ["pg_restore", "--no-owner", "--dbname", restored]
    run(*whole, dump)
    asked = iter(range(10_000))

    def statuses(other: Other, seconds: float) -> set[int]:
        """Return how decisions are answered for so long."""
        over, found = time.monotonic() + seconds, set()
        while time.monotonic() < over:
            found.add(other.decide(key, next(asked)).status_code)
            time.sleep(0.03)
        return found

    with web_process(tmp_path / "old", restored) as old:
        before = statuses(old, 0.3)
        sql(restored, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        while_dropped = statuses(old, 1.2)
        run(*whole, "--section", "pre-data", dump)
        while_empty = statuses(old, 1.5)
        _, told_when_empty = old.readiness()
        with web_process(tmp_path / "new", restored, ready=503) as new:
            first_contact = new.decide(key, next(asked))
            restore_tables(whole, dump, tmp_path, only=FIRST)
            while_half = statuses(old, 1.2), statuses(new, 1.2)
            _, told_when_half = new.readiness()
            restore_tables(whole, dump, tmp_path, but=FIRST)
            run(*whole, "--section", "post-data", dump)
            is_well = eventually(lambda: new.readiness()[0] == 200)
            after = statuses(old, 1.2), statuses(new, 0.3)
            known = [old.decide(gone, 1).status_code, old.decide("stt_made.up", 1).status_code]

    assert (before, while_dropped, while_empty) == ({200}, {200}, {200})
    assert told_when_empty["checks"]["configuration"]["status"] == "degraded"
    assert "finish its restore" in told_when_empty["checks"]["configuration"]["detail"]
    assert first_contact.status_code == 503
    assert first_contact.json()["code"] == "configuration_unavailable"
    assert first_contact.headers["Retry-After"] == "1"
    assert while_half == ({200}, {503})
    assert "0 of 1 Policy" in told_when_half["checks"]["configuration"]["detail"]
    assert is_well
    assert after == ({200}, {200})
    assert known == [200, 401]
    assert ApiKey.objects.count() == 2


def restore_tables(
    restore: list[str],
    dump: str,
    directory: Path,
    *,
    only: tuple[str, ...] = (),
    but: tuple[str, ...] = (),
) -> None:
    """Restore the rows of these tables, or of all others."""
    listed = run("pg_restore", "--section", "data", "--list", dump).splitlines()
    lines = [line for line in listed if line and not line.startswith(";")]
    chosen = [line for line in lines if not but or not names(line, but)]
    chosen = [line for line in chosen if not only or names(line, only)]
    assert len(chosen) < len(lines)
    (directory / "list").write_text("\n".join(chosen) + "\n")
    run(*restore, "--use-list", str(directory / "list"), dump)


def names(line: str, tables: tuple[str, ...]) -> bool:
    """Whether a line of a dump's list is about one of these tables."""
    return any(f" {table} " in line or f" {table}_id_seq " in line for table in tables)
