"""The adapter for LiveKit Agents. Needs `livekit-agents`.

`guarded_session` is all that an agent needs; `failover_stt` and `watch` are its parts.
"""

from stt_guard.failover import Limits, Swap
from stt_guard.livekit.adapter import FailoverAdapter, failover_stt
from stt_guard.livekit.session import guarded_session, watch

__all__ = ["FailoverAdapter", "Limits", "Swap", "failover_stt", "guarded_session", "watch"]
