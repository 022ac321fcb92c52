"""The supervisor: who falls is started again, later each time; who does not stop is killed."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from controlplane.pulse import Pulse, answer_of
from controlplane.supervisor import Child, Supervisor, spawn, stop
from tests.processes import eventually, free_port

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


SERVING = """
import http.server, sys, threading, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b"here")
    def log_message(self, *_): pass
time.sleep({late_s})
server = http.server.ThreadingHTTPServer(("127.0.0.1", {port}), Answer)
threading.Thread(target=server.serve_forever).start()
"""


@pytest.fixture
def serve():
    """Return a maker of watched children that answer HTTP on a port of their own."""
    supervisors = []

    def make(*, late_s: float = 0, silent_s: float = 1.5) -> Child:
        code = SERVING.format(late_s=late_s, port=(port := free_port()))
        pulse = Pulse(
            lambda timeout_s: answer_of(f"http://127.0.0.1:{port}/", timeout_s) is not None,
            silent_s=silent_s,
        )
        child = Child("web", lambda: spawn([sys.executable, "-c", code]), 1, pulse=pulse)
        supervisors.append(supervisor := Supervisor())
        supervisor.add(child)
        child.watch_all = supervisor.watch
        return child

    yield make
    for supervisor in supervisors:
        for child in supervisor.children:
            child.process.kill()
            child.process.wait()


def watched(child: Child, claim) -> bool:
    """Watch the child until the claim comes true."""
    return eventually(lambda: child.watch_all() or claim(), within_s=30)


def test_a8_a_process_that_runs_and_no_longer_answers_is_killed_and_started_again(serve):
    child = serve()
    assert watched(child, lambda: child.pulse._answered_at)
    hung = child.process
    hung.send_signal(signal.SIGSTOP)

    assert watched(child, lambda: child.process is not hung)
    assert hung.returncode == -signal.SIGKILL
    assert watched(child, lambda: child.pulse._answered_at)


def test_a8_a_process_that_starts_slowly_is_left_alone(serve):
    child = serve(late_s=3, silent_s=0.6)
    first = child.process

    assert watched(child, lambda: child.pulse._answered_at)
    assert child.process is first


def test_a8_a_process_that_answers_late_is_left_alone():
    now = [0.0]
    pulse = Pulse(lambda _timeout_s: next(answers), clock=lambda: now[0])
    answers = iter([True, False, False, True, False, False, False, False])
    said = []
    for now[0] in (0, 5, 10, 14, 16, 18, 20, 30):  # seconds; three misses within 6 s are not enough
        pulse.ask()
        said.append(pulse.is_gone())

    assert said == [False] * 7 + [True]


def test_a8_an_answer_of_the_process_before_says_nothing_of_the_new_one():
    pulse = Pulse(lambda _timeout_s: pulse.forget() is None, silent_s=0)
    pulse.ask()

    assert pulse._answered_at is None
