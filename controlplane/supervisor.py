"""Child processes that die with their parent, and are started again when they fall over or hang.

The parent watches and restarts; if it is itself killed, the kernel kills the children (Linux), so
that none is left to hold a port or a socket.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from controlplane.pulse import Pulse

log = structlog.get_logger(__name__)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 30.0
# A process that hangs is asked to end, and killed after this.
HUNG_GRACE_S = 3.0
# A child that ran this long was well: its next fall is a first one again.
STEADY_AFTER_S = 60.0


def spawn(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in its own session, tied to this one's life.

    Its own session, because Ctrl-C in the terminal would else reach it before the parent, which
    stops the children in order. On Linux it is killed when the *thread* that called this ends.
    """
    parent = os.getpid()

    def tie_to_parent() -> None:
        if LIBC is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=tie_to_parent,
    )


def stop(process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
    """Ask the process to end, and kill it after `timeout_s`."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Child:
    """A process to keep running. `start` returns None where somebody else runs it already.

    With a `pulse`, it is also ended and started again when it runs on without answering.
    """

    name: str
    start: Callable[[], subprocess.Popen[bytes] | None]
    stop_timeout_s: float
    pulse: Pulse | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started_at_s: float = field(default=0.0, init=False)
    next_start_s: float | None = field(default=None, init=False)
    backoff_s: float = field(default=BACKOFF_FIRST_S, init=False)
    kill_at_s: float | None = field(default=None, init=False)

    def launch(self, now_s: float) -> None:
        """Start the process. Raises OSError or RuntimeError if it cannot be had."""
        self.started_at_s = now_s
        self.next_start_s = self.kill_at_s = None
        if self.pulse is not None:
            self.pulse.forget()
        self.process = self.start()

    def watch(self, now_s: float) -> None:
        """Notice that the process fell or hangs, and start it again when its wait is over."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            self._end_if_hung(now_s)
            return
        if self.next_start_s is None:
            self._plan_restart(now_s, code)
        elif now_s >= self.next_start_s:
            self._restart(now_s)

    def _end_if_hung(self, now_s: float) -> None:
        """Ask a process that no longer answers to end; kill it when it does not do that either."""
        if self.process is None or self.pulse is None:
            return
        if self.kill_at_s is not None:
            if now_s >= self.kill_at_s:
                self.process.kill()
        elif self.pulse.is_gone():
            log.error("child_hangs", child=self.name, killed_in_s=HUNG_GRACE_S)
            self.process.terminate()
            self.kill_at_s = now_s + HUNG_GRACE_S

    def _plan_restart(self, now_s: float, code: int) -> None:
        """Set the time of the next start: soon after a long run, later after each quick fall."""
        if now_s - self.started_at_s > STEADY_AFTER_S:
            self.backoff_s = BACKOFF_FIRST_S
        self.next_start_s = now_s + self.backoff_s
        log.warning("child_fell", child=self.name, exit_code=code, restart_in_s=self.backoff_s)
        self.backoff_s = min(self.backoff_s * 2, BACKOFF_LAST_S)

    def _restart(self, now_s: float) -> None:
        """Start again; one that cannot even be started waits like one that fell."""
        try:
            self.launch(now_s)
        except (OSError, RuntimeError):
            log.exception("child_not_started", child=self.name)


class Supervisor:
    """Children started in order and stopped in the reverse of it."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def add(self, child: Child) -> None:
        """Start the child now, and keep it running from now on."""
        child.launch(time.monotonic())
        self.children.append(child)
        if child.pulse is not None:
            child.pulse.start()

    def watch(self) -> None:
        """Restart who fell. Call it a few times a second."""
        for child in self.children:
            child.watch(time.monotonic())

    def stop(self) -> None:
        """Stop the last one started first; each has its bound, after which it is killed."""
        for child in reversed(self.children):
            if child.process is not None:
                stop(child.process, timeout_s=child.stop_timeout_s)
