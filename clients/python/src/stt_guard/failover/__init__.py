"""What a call does when its provider fails: the rules, the same for every framework.

limits    how long to wait and how often to try, each of them settable
drops     when a link that comes and goes is a failure
stall     when speech without a transcript is worth a second opinion
tail      what the caller said since the last transcript, to be said again
fairness  waiting that does not count the time in which this process was blocked
legs      what an adapter implements: Leg, a provider's connection, and Host, its pipeline
stage     who listens, who is about to, and how one takes over from the other
search    who can be had, when nobody listens
opinions  a doubt: another provider hears the same sound, and what follows from that
engine    Failover: what an adapter tells, and what follows from drops and failures
"""

from stt_guard.failover.engine import Failover
from stt_guard.failover.fairness import wait_fairly
from stt_guard.failover.legs import Host, Leg, Swap
from stt_guard.failover.limits import Limits

__all__ = ["Failover", "Host", "Leg", "Limits", "Swap", "wait_fairly"]
