"""Another user of the same machine, for tests of what others can reach; only root can play one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

UID = 65534
# The system's, for this one may be where strangers cannot reach.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin")
SETPRIV = shutil.which("setpriv")

needs_stranger = pytest.mark.skipif(
    os.geteuid() != 0 or PYTHON is None or SETPRIV is None,
    reason="only root, with setpriv and a Python in /usr, can run something as another user",
)

LISTEN = """
import os, socket, sys
os.makedirs(os.path.dirname(sys.argv[1]))
os.chmod(os.path.dirname(sys.argv[1]), 0o777)
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
server.listen()
print("listening", flush=True)
while True:
    client, _ = server.accept()
    while client.recv(10_000):
        client.sendall(b"+PONG\\r\\n")
"""


def as_stranger(*command: str) -> list[str]:
    """Return the command as another user, without any group, would give it."""
    who = ["--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
    return [str(SETPRIV), *who, *command]


def stranger_reads(path: Path) -> bool:
    """Say whether another user can read the file."""
    found = subprocess.run(as_stranger("cat", str(path)), capture_output=True, check=False)
    return found.returncode == 0


@contextmanager
def listening_stranger(socket: Path) -> Iterator[None]:
    """Have another user make the socket's directory and answer there as a Redis would."""
    command = as_stranger(str(PYTHON), "-c", LISTEN, str(socket))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/")
    try:
        assert process.stdout.readline() == b"listening\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def shared_place() -> Iterator[Path]:
    """Make a directory like /tmp: everybody may write there, and remove only what is theirs."""
    place = Path(tempfile.mkdtemp(prefix="stt-shared-", dir="/tmp"))
    place.chmod(0o1777)
    try:
        yield place
    finally:
        shutil.rmtree(place)
