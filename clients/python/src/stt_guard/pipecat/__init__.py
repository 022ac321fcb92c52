"""The adapter for Pipecat: `FailoverSTT` sits where your STT service sat. Needs `pipecat-ai`."""

from stt_guard.failover import Limits, Swap
from stt_guard.pipecat.switcher import FailoverSTT

__all__ = ["FailoverSTT", "Limits", "Swap"]
