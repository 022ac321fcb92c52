"""What is wrong with the surroundings is told by every command in one sentence, and what to do."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django.db
import psycopg
import pytest
from psycopg import OperationalError

from controlplane import complaints
from tests.processes import clean_environment, free_port, manage

COMMANDS = [["up"], ["pump"], ["migrate"], ["check", "--database", "default"]]


def told(*command: str, var_dir: Path, **variables: str) -> str:
    """Return what a command that fails says: one sentence, and no traceback."""
    if command == ("up",):
        command = ("up", "--port", str(free_port()))
    done = manage(*command, environment=clean_environment(var_dir, **variables))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """Mount a file system of its own in the block; skip where this is not allowed."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root, where mounting is allowed, has a full or read-only disk at hand")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a8_a_read_only_volume_is_told(tmp_path, command):
    with mounted(tmp_path / "var", "ro,mode=700"):
        text = told(*command, var_dir=tmp_path / "var")

    assert f"{tmp_path}/var cannot be written (read-only file system)" in text
    assert "Set VAR_DIR" in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a8_a_full_volume_is_told(tmp_path, command):
    with mounted(var_dir := tmp_path / "var", "size=200k,mode=700"):
        (var_dir / "secret_key").write_text("a-key-for-tests-only-that-is-long-enough")
        fill(var_dir / ".filling")
        text = told(*command, var_dir=var_dir)

    assert "full" in text
    assert "Make room" in text


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a8_a_damaged_database_is_told(tmp_path, command):
    (tmp_path / "db.sqlite3").write_bytes(b"not a database" * 1000)
    text = told(*command, var_dir=tmp_path)

    assert f"{tmp_path}/db.sqlite3 is damaged" in text
    assert "put a backup in its place" in text


def test_a8_a_wrong_setting_is_told(tmp_path):
    assert "PORT is set to something" in told("pump", var_dir=tmp_path, PORT="many")


def test_a8_a_database_that_is_away_is_told():
    with pytest.raises(OperationalError) as refused:
        psycopg.connect(f"postgres://nobody@127.0.0.1:{free_port()}/none")
    text = complaints.sentence(django.db.OperationalError(*refused.value.args))

    assert text.startswith("The database cannot be reached: connection")
    assert "\n" not in text
    assert complaints.lasting(django.db.OperationalError(*refused.value.args)) == ""


def test_an_error_of_the_program_is_shown_as_it_is(tmp_path):
    done = manage("loaddata", "/nowhere.json", environment=clean_environment(tmp_path))

    assert "CommandError" in done.stderr
