"""The adapter for Pipecat: `FailoverSTT` sits where your STT service sat. Needs `pipecat-ai`."""

from stt_guard.pipecat.switcher import Budgets, FailoverSTT

__all__ = ["Budgets", "FailoverSTT"]
