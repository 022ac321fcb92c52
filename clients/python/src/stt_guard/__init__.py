"""Keeps a voice agent hearing: which speech provider to use now, and where to go when it fails.

In the order in which a call meets them:

    words        the contract's words as plain values
    guard        SttGuard, the client of a process: decisions within 300 ms, whatever is away
    local        the same without a server, for tests and offline work
    environment  what a client is told by its arguments and the environment
    links        what a guard has in each event loop that it is used in
    link         what it holds in one
    feed         keeps what the control plane knows fresh in this process
    state        a decision from it, without a request
    ask          a decision by the server
    headers      what each request says of its sender
    unknown      names that the server does not know
    memory       the last known state in a file
    keeper       keeps that file fresh where no process listens
    call         Call: the verbs of one call
    classify     what an error means
    outcomes     sends what was seen
    waiting      what was seen and is not sent yet
    failover     what a call does when its provider fails, the same for every framework
    building     a provider's service, whatever operators have set for it
    pipecat      the adapter for Pipecat (extra `pipecat`)
    livekit      the adapter for LiveKit Agents (extra `livekit`)
"""

from stt_guard.call import Call
from stt_guard.classify import classify
from stt_guard.guard import SttGuard, default_guard
from stt_guard.version import __version__
from stt_guard.words import Seen, Step

__all__ = ["Call", "Seen", "Step", "SttGuard", "__version__", "classify", "default_guard"]
