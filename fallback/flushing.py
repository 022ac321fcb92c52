"""A thread that writes what a process gathered, every few seconds and once more at its end."""

import atexit
import threading
import time
from collections.abc import Callable

import structlog

from fallback import metrics
from fallback.errors import BreakerUnavailable

log = structlog.get_logger(__name__)


class Flusher:
    """Calls `flush` every `every_s` seconds from a thread of its own, once `start` was called."""

    def __init__(self, name: str, flush: Callable[[], None], every_s: float) -> None:
        self._name, self._flush, self._every_s = name, flush, every_s
        self._lock = threading.Lock()
        self._is_started = False

    def start(self) -> None:
        """Start the thread, unless it was started. Cheap enough for every call."""
        if self._is_started:
            return
        with self._lock:
            is_first, self._is_started = not self._is_started, True
        if is_first:
            threading.Thread(target=self._keep_flushing, name=self._name, daemon=True).start()

    def _keep_flushing(self) -> None:
        atexit.register(self._flush_quietly)
        while True:
            time.sleep(self._every_s)
            self._flush_quietly()

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except BreakerUnavailable as error:
            log.debug("flush_waits", of=self._name, error=str(error))
        except Exception:  # what is gathered for looking back is not worth a dead thread
            log.exception("flush_failed", of=self._name)
            metrics.degraded(self._name)
