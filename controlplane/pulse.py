"""Whether a process that runs still answers: one that is stopped, or whose interpreter is held,
looks alive to the kernel and serves nobody.

A process is called hung only when it answered once, and then not for `silent_s` and `MISSES` times
in a row. One that starts slowly, or is so busy that it answers late, is left alone.
"""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final

SILENT_S: Final = 15.0
MISSES: Final = 3

DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Pulse:
    """Asks again and again, in a thread of its own, whether one process answers."""

    def __init__(
        self,
        answers: Callable[[float], bool],
        *,
        silent_s: float = SILENT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`answers` asks once, and waits at most for the seconds it is given."""
        self._answers = answers
        self._clock = clock
        self._silent_s = silent_s
        self._lock = threading.Lock()
        self._round = 0  # which process: an answer for the one before says nothing
        self._answered_at: float | None = None
        self._misses = 0

    def start(self) -> None:
        """Ask from now on. The thread ends with this process."""
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def forget(self) -> None:
        """Another process is to be judged now; it counts from its own first answer."""
        with self._lock:
            self._round += 1
            self._answered_at, self._misses = None, 0

    def is_gone(self) -> bool:
        """Whether the process answered once and has been silent for too long since."""
        with self._lock:
            if self._answered_at is None or self._misses < MISSES:
                return False
            return self._clock() - self._answered_at >= self._silent_s

    def ask(self) -> None:
        """Ask once and note the answer."""
        asked_of = self._round
        answered = self._answers(self._silent_s / MISSES)
        with self._lock:
            if asked_of != self._round:
                return
            if answered:
                self._answered_at, self._misses = self._clock(), 0
            else:
                self._misses += 1

    def _run(self) -> None:
        while True:
            self.ask()
            time.sleep(self._silent_s / (5 * MISSES))


def answer_of(url: str, timeout_s: float) -> bytes | None:
    """Return what a URL answers, past any proxy; None when nothing does. A refusal is an answer."""
    try:
        with DIRECT.open(url, timeout=timeout_s) as response:
            return bytes(response.read(1000))
    except urllib.error.HTTPError as refusal:
        with refusal:
            return b""
    except (OSError, http.client.HTTPException):  # URLError and timeouts are OSErrors
        return None
