"""docs/production.md, followed by a newcomer: its commands run, and what it names exists."""

import os
import re
import subprocess

import pytest
from django.conf import settings
from django.core.management import get_commands

from controlplane.env import VARIABLES
from tests.processes import clean_environment

GUIDE = (settings.BASE_DIR / "docs" / "production.md").read_text(encoding="utf-8")


def first_start() -> str:
    """Return the commands of the first start, as they are written."""
    (block,) = re.findall(r"```sh\n(.*?)```", GUIDE, flags=re.DOTALL)
    return block


@pytest.mark.slow
def test_b_the_first_start_works_as_it_is_written(tmp_path, redis_url):
    environment = clean_environment(
        tmp_path,
        DATABASE_URL=f"sqlite:///{tmp_path}/production.sqlite3",
        REDIS_URL=redis_url,
        SECRET_KEY=settings.SECRET_KEY,
        PUBLIC_URL="https://stt.example.com",
        DJANGO_SUPERUSER_PASSWORD="correct-horse-battery",
    )
    commands = first_start().replace("createsuperuser", "createsuperuser --noinput")
    assert os.path.exists(settings.BASE_DIR / ".venv/bin/python")
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_b_every_command_that_is_named_exists():
    named = set(re.findall(r"manage\.py (\w+)", GUIDE))

    assert {"migrate", "seed", "createsuperuser", "check", "web", "pump"} <= named
    assert named <= set(get_commands())


def test_b_every_variable_that_is_named_is_read():
    named = set(re.findall(r"\b([A-Z]+_[A-Z_]+)\b", GUIDE))

    assert named - VARIABLES == set()
