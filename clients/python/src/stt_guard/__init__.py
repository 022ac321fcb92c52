"""Keeps a voice agent hearing: which speech provider to use now, and where to go when it fails.

In the order in which a call meets them:

    words      the contract's words as plain values
    guard      SttGuard, the client of a process: decisions within 300 ms, whatever is away
    feed       keeps what the control plane knows fresh in this process
    state      a decision from it, without a request
    memory     the last known state in a file
    call       Call: the verbs of one call
    classify   what an error means
    outcomes   the queue of what was seen
    stall      speech that nobody transcribes
    pipecat    the adapter for Pipecat (extra `pipecat`)
    livekit    the adapter for LiveKit Agents (extra `livekit`)
"""

from stt_guard.call import Call
from stt_guard.classify import classify
from stt_guard.guard import SttGuard
from stt_guard.words import Seen, Step

__version__ = "0.1.0"
__all__ = ["Call", "Seen", "Step", "SttGuard", "__version__", "classify"]
