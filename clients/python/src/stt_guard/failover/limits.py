"""How long a call waits and how often it tries, before it believes that a provider is gone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. What can move a call waits for proof; nothing here ends one on a doubt.

    The defaults are reasoned and tried on local providers: dead air over all faults against
    needless swaps on noise and on slow providers (README, "Measured").
    """

    # A connection
    connect_s: float = 3.0  # then the next one is tried beside it; three times as long at most
    grace_s: float = 1.0  # for a drop to heal
    disconnect_s: float = 2.0  # for a provider that is left to close

    # A link that comes and goes: this many drops within the time are a failure (`stream`)
    drops: int = 6
    drops_within_s: float = 300.0

    # Speech without a transcript
    speech_s: float = 0.3  # shorter sounds are not worth a doubt
    suspect_s: float = 1.2  # after the end of speech: ask the next provider for its opinion
    believe_s: float = 2.0  # after the end of speech: its words are believed, and it takes over
    speaking_s: float = 3.0  # of speech without a word, from a provider that writes as one speaks
    confirm_s: float = 4.0  # for the next provider to find words in what was said
    late_s: float = 8.0  # a provider that was left and writes within this was slow, not dead
    checks: int = 6  # opinions asked for in one call: each of them is a connection that costs money

    # Nobody left
    on_last_s: float = 15.0  # trying again before the call may end; math.inf: for ever
    tail_s: float = 8.0  # of audio kept to be said again
