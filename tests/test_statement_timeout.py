"""How long one statement may take on PostgreSQL: bounded in web processes, and in no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.processes import clean_environment
from tests.settings import TEST_DATABASE_URL

NOBODYS = "postgres://nobody@127.0.0.1:9/none"  # never connected to
SAID = "print(settings.DATABASES['default']['OPTIONS'].get('options', 'none'))"
ASKED = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT pg_sleep(20)")
"""


def run(var_dir: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"SECRET_KEY": "a-key-for-tests", "DATABASE_URL": NOBODYS} | environment
    return subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, check=False, timeout=60,
        env=clean_environment(var_dir, **given), capture_output=True, text=True,
    )  # fmt: skip


WEB = "import controlplane.asgi\nfrom django.conf import settings\n"
OTHER = "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'controlplane.settings'\n"
OTHER += "import django\ndjango.setup()\nfrom django.conf import settings\n"


def test_s1_a_statement_of_a_web_process_is_limited_and_of_others_not(tmp_path: Path) -> None:
    web = run(tmp_path, WEB + SAID)
    off = run(tmp_path, WEB + SAID, DATABASE_STATEMENT_TIMEOUT_S="0")
    other = run(tmp_path, OTHER + SAID)

    assert web.stdout.strip() == "-c statement_timeout=15000"
    assert (off.stdout.strip(), other.stdout.strip()) == ("none", "none")


@pytest.mark.postgres
@pytest.mark.skipif(not TEST_DATABASE_URL, reason="TEST_DATABASE_URL names no PostgreSQL")
def test_s1_postgresql_ends_a_statement_that_takes_too_long(tmp_path: Path) -> None:
    given = {"DATABASE_URL": os.environ["DATABASE_URL"], "DATABASE_STATEMENT_TIMEOUT_S": "1"}
    done = run(tmp_path, WEB + ASKED, **given)

    assert "canceling statement due to statement timeout" in done.stderr
