"""`manage.py up`, run for real: it serves, stops cleanly, leaves no orphan, keeps its state."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import redis

from controlplane.embedded_redis import socket_path
from tests.processes import alive_with, clean_environment, eventually, free_port, manage
from tests.server import redis_of, running

pytestmark = pytest.mark.slow


def get(url: str) -> bytes:
    """Return the body of a page, asked past any proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=10) as response:
        return response.read()


def test_it_serves_what_it_says_and_stops_cleanly_on_a_signal(tmp_path):
    with running(tmp_path, port := free_port()) as up:
        ready = json.loads(get(f"http://127.0.0.1:{port}/readyz"))
        page = get(f"http://127.0.0.1:{port}/admin/login/")
        style = get(f"http://127.0.0.1:{port}/static/admin/css/base.css")
        up.send_signal(signal.SIGINT)

        assert up.wait(30) == 0
        assert (ready["status"], b"<form" in page, b"{" in style) == ("ok", True, True)
        assert re.search(r"name +admin\n +password +\S{16}\n", up.said)
        assert not alive_with(str(tmp_path))


def test_killed_hard_it_leaves_no_orphan_and_starts_again_with_its_state(tmp_path):
    port = free_port()
    with running(tmp_path, port) as up:
        redis_of(tmp_path).set("state", "open")
        assert eventually(lambda: is_written(tmp_path))
        up.kill()
        up.wait()

        assert eventually(lambda: not alive_with(str(tmp_path)))
    with running(tmp_path, port) as up:
        assert redis_of(tmp_path).get("state") == "open"
        assert "the one printed at the first start" in up.said


def is_written(var_dir: Path) -> bool:
    """Say whether Redis has written all it was told; on a busy disk it puts that off."""
    found = redis_of(var_dir).info("persistence")
    return found["aof_buffer_length"] == 0


def test_a_redis_that_was_killed_is_started_again_with_its_state(tmp_path):
    with running(tmp_path, free_port()):
        client = redis_of(tmp_path)
        client.set("state", "open")
        assert eventually(lambda: is_written(tmp_path))
        before = client.info("server")["process_id"]
        subprocess.run(["kill", "-9", str(before)], check=True)

        assert eventually(lambda: socket_answers(tmp_path, other_than=before))
        assert client.get("state") == "open"


def children(up: subprocess.Popen[str]) -> dict[str, int]:
    """Return the process ids of web and pump under an `up`."""
    found = {}
    for pid in Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        found |= {name: int(pid) for name in ("web", "pump") if name.encode() in words}
    return found


def test_a8_a_web_process_and_a_pump_that_hang_are_started_again(tmp_path):
    with running(tmp_path, port := free_port(), "--hung-after", "3") as up:
        hung = children(up)
        assert eventually(lambda: is_read(f"http://127.0.0.1:{port + 1}/livez"))
        time.sleep(1)  # until the pulse has been felt once
        for pid in hung.values():
            os.kill(pid, signal.SIGSTOP)

        assert eventually(lambda: not set(children(up).values()) & set(hung.values()), within_s=30)
        assert eventually(lambda: is_read(f"http://127.0.0.1:{port}/readyz"), within_s=30)


def is_read(url: str) -> bool:
    """Say whether a page can be had."""
    try:
        return bool(get(url))
    except OSError:
        return False


def socket_answers(var_dir: Path, *, other_than: int) -> bool:
    """Say whether a server answers that is not the process named."""
    try:
        return redis_of(var_dir).info("server")["process_id"] != other_than
    except redis.exceptions.RedisError:
        return False


def test_a_taken_port_is_told_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = manage("up", "--port", port, environment=clean_environment(tmp_path))

    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in refused.stderr
    assert not socket_path(tmp_path).exists()


def test_a6_a_database_of_an_unreleased_version_is_refused_in_one_sentence(tmp_path):
    environment = clean_environment(tmp_path)
    assert manage("migrate", environment=environment).returncode == 0
    with sqlite3.connect(tmp_path / "db.sqlite3") as database:
        database.execute("ALTER TABLE fallback_alert DROP COLUMN sending_key")
    database.close()
    refused = manage("up", "--port", str(free_port()), environment=environment)

    assert refused.returncode == 1
    assert "no column fallback_alert.sending_key" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_one_on_the_same_state_is_refused(tmp_path):
    with running(tmp_path, free_port()):
        refused = manage("up", "--port", str(free_port()), environment=clean_environment(tmp_path))

    assert refused.returncode == 1
    assert "another `up` runs on" in refused.stderr


def test_a_given_password_is_used_and_not_printed(tmp_path):
    with running(tmp_path, free_port(), DJANGO_SUPERUSER_PASSWORD="as-you-like-it-42") as up:
        assert "as-you-like-it-42" not in up.said
