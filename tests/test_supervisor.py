"""The supervisor: who falls is started again, later each time; who does not stop is killed."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from controlplane.supervisor import Child, Supervisor, spawn, stop
from tests.processes import eventually

NOTING = """
import signal, sys, time
def note(word): open({notes!r}, "a").write(word)
def terminate(*_): {on_terminate}
signal.signal(signal.SIGTERM, terminate)
note("up ")
time.sleep(60)
"""


def noting(notes: Path, *, on_terminate: str) -> list[str]:
    """Return a command that notes when it is up, and does what it is told when asked to stop."""
    code = NOTING.format(notes=str(notes), on_terminate=on_terminate)
    return [sys.executable, "-c", code]


def fallen() -> subprocess.Popen[bytes]:
    """Return a process that has ended."""
    process = spawn([sys.executable, "-c", ""])
    process.wait()
    return process


def test_a_child_that_fell_starts_again_after_its_wait():
    starts = []
    child = Child("web", lambda: starts.append(1) or fallen(), stop_timeout_s=1)
    child.launch(0.0)
    child.watch(1.0)
    child.watch(1.4)

    assert len(starts) == 1
    child.watch(1.5)
    assert len(starts) == 2


def test_each_quick_fall_doubles_the_wait_up_to_its_bound():
    child = Child("web", fallen, stop_timeout_s=1)
    child.launch(0.0)
    waits, now_s = [], 1.0
    for _ in range(8):
        child.watch(now_s)
        waits.append(child.next_start_s - now_s)
        now_s = child.next_start_s
        child.watch(now_s)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_child_that_ran_long_starts_again_soon():
    child = Child("web", fallen, stop_timeout_s=1)
    child.backoff_s = 30.0
    child.launch(0.0)
    child.watch(61.0)

    assert child.next_start_s == 61.5


def test_a_child_that_cannot_be_started_again_is_tried_later():
    ways = iter([fallen, lambda: spawn(["/nowhere/at/all"]), fallen])
    child = Child("redis", lambda: next(ways)(), stop_timeout_s=1)
    child.launch(0.0)
    for now_s in (1.0, 2.0, 3.0, 5.0):
        child.watch(now_s)

    assert next(ways, None) is None


def test_a_process_that_ignores_the_request_to_stop_is_killed(tmp_path):
    process = spawn(noting(tmp_path / "notes", on_terminate="pass"))
    eventually((tmp_path / "notes").exists)
    stop(process, timeout_s=0.2)

    assert process.returncode == -signal.SIGKILL


def test_the_last_one_started_is_stopped_first(tmp_path):
    supervisor, notes = Supervisor(), tmp_path / "notes"
    for name in ("redis", "web"):
        command = noting(notes, on_terminate=f"note('{name} '); sys.exit()")
        supervisor.add(Child(name, partial(spawn, command), stop_timeout_s=5))
    eventually(lambda: notes.exists() and notes.read_text() == "up up ")
    supervisor.stop()

    assert notes.read_text() == "up up web redis "
