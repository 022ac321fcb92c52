"""WHAT HAPPENED PER MINUTE: calls, failures and first transcripts of each provider.

The decision path counts in memory (`tally`), a thread writes the counts of this process to Redis
(`minutes`), the pump adds up all processes into the database (`rollup`), and `series` reads that.
Each step writes absolute numbers, so that doing one twice changes nothing, and any number of
processes and pumps may. Where Redis stays away too long the oldest minutes are dropped, and said.
"""

from fallback.stats.rollup import RollUp, forget
from fallback.stats.series import Series, read
from fallback.stats.tally import decided, diverted, flush, seen

__all__ = ["RollUp", "Series", "decided", "diverted", "flush", "forget", "read", "seen"]
