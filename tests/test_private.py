"""VAR_DIR and the embedded Redis's socket are for one user alone, and another's are not used."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from django.conf import settings

from controlplane import embedded_redis, private
from controlplane.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from controlplane.private import NotPrivate
from tests.processes import clean_environment, manage
from tests.strangers import (
    UID,
    listening_stranger,
    needs_stranger,
    shared_place,
    stranger_reads,
)


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


def migrated(var_dir: Path) -> None:
    """Make the database, with the mask that most shells have."""
    command = f"umask 022; exec {sys.executable} manage.py migrate --verbosity 0"
    subprocess.run(
        ["sh", "-c", command], cwd=settings.BASE_DIR, env=clean_environment(var_dir), check=True
    )


@pytest.fixture
def place():
    """Return a place that other users can look into."""
    with shared_place() as found:
        yield found


@needs_stranger
def test_s3_no_other_user_can_read_the_database(place):
    migrated(place / "var")
    files = [path for path in (place / "var").rglob("*") if path.is_file()]

    assert place / "var" / "db.sqlite3" in files
    assert mode(place / "var") == 0o700
    assert {mode(path) for path in files} == {0o600}
    assert not any(stranger_reads(path) for path in files)


@needs_stranger
def test_s3_a_database_of_before_is_closed_to_others(place):
    migrated(var_dir := place / "var")
    var_dir.chmod(0o755)
    (database := var_dir / "db.sqlite3").chmod(0o644)
    (var_dir / "db.sqlite3.backup").touch()
    assert stranger_reads(database)
    manage("check", environment=clean_environment(var_dir))

    assert (mode(var_dir), mode(database)) == (0o700, 0o600)
    assert not stranger_reads(database)


def test_s3_a_new_directory_is_for_this_user_alone(tmp_path):
    private.var_dir(tmp_path / "deep" / "var")

    assert mode(tmp_path / "deep" / "var") == 0o700


def test_s3_a_directory_that_everybody_shares_is_refused_and_left_as_it_is(place):
    with pytest.raises(NotPrivate, match=rf"a shared place.*{place}/stt"):
        private.var_dir(place)
    assert mode(place) == 0o1777


def test_s3_a_directory_that_holds_other_things_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)

    with pytest.raises(NotPrivate, match=r"holds other things \(letters\)"):
        private.var_dir(tmp_path)
    assert mode(tmp_path) == 0o755


def test_s3_a_private_directory_may_hold_other_things(tmp_path):
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o700)

    private.var_dir(tmp_path)


@needs_stranger
def test_s3_a_directory_of_another_user_is_refused(tmp_path):
    os.chown(tmp_path, UID, UID)

    with pytest.raises(NotPrivate, match=f"user {UID} owns"):
        private.var_dir(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what root owns")
@pytest.mark.parametrize(("bits", "is_taken"), [(0o770, True), (0o2775, True), (0o777, False)])
def test_s3_a_volume_that_root_mounted_is_taken_unless_everybody_may_write(
    tmp_path, monkeypatch, bits: int, is_taken: bool
):
    (volume := tmp_path / "volume").mkdir()
    volume.chmod(bits)
    monkeypatch.setattr(private.os, "geteuid", lambda: UID)
    if is_taken:
        private.var_dir(volume)
    else:
        with pytest.raises(NotPrivate, match="everybody may write to"):
            private.var_dir(volume)
    assert mode(volume) == bits


@needs_stranger
def test_s12_a_socket_directory_of_another_user_is_joined_by_no_process(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    var_dir = place / ("d" * 120)
    socket = embedded_redis.socket_path(var_dir)
    environment = {**clean_environment(var_dir), "TMPDIR": str(place)}
    assert socket.parent.parent == place
    with listening_stranger(socket):
        refused = [
            manage(*command, environment=environment)
            for command in (["up"], ["pump"], ["check", "--database", "default"])
        ]
        with pytest.raises(EmbeddedRedisError, match=f"user {UID} owns"):
            EmbeddedRedis(var_dir).start()

    assert {done.returncode for done in refused} == {1}
    assert all(f"{socket.parent} user {UID} owns" in done.stderr for done in refused)
    assert not any("Traceback" in done.stderr for done in refused)


@needs_stranger
def test_s12_the_first_client_makes_the_directory_so_that_nobody_else_can(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    var_dir = place / ("d" * 120)
    environment = {**clean_environment(var_dir), "TMPDIR": str(place)}
    assert manage("check", environment=environment).returncode == 0

    made = embedded_redis.socket_path(var_dir).parent
    assert (mode(made), made.stat().st_uid) == (0o700, os.geteuid())


@pytest.mark.parametrize("other", ["link", "file"])
def test_s12_what_is_no_directory_is_refused(tmp_path, other: str):
    path = tmp_path / "redis"
    path.symlink_to(tmp_path) if other == "link" else path.touch()

    with pytest.raises(NotPrivate, match="not a directory"):
        private.directory(path)


def test_s12_a_socket_that_is_none_is_refused(tmp_path):
    (tmp_path / "redis.sock").touch()

    with pytest.raises(NotPrivate, match="no socket of this user"):
        private.socket(tmp_path / "redis.sock")
    private.socket(tmp_path / "none.sock")
