"""SHADOW: a second policy beside the live one, and what it would have done.

A provider may name one. The pumps replay what is recorded through it, a few seconds behind and off
the path of decisions: it moves no call, and it tells each trip once.

    following  one step further, under the row's lock
    findings   what it found, beside what the live policy did
"""

from fallback.shadow.findings import Findings, findings
from fallback.shadow.following import follow

__all__ = ["Findings", "findings", "follow"]
