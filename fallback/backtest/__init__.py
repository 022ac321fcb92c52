"""REHEARSAL: the recorded past through `machine`, under policies that were not there.

`rehearse` sets policies side by side, `suggest` searches for better thresholds. Each provider is
replayed by itself, with everything else as it was: the calls that wanted it then want it here.

lane.py    one policy at work on one provider
fates.py   what would have met a call that was sent elsewhere then
replay.py  the past, read once, through all lanes
report.py  what is told of it
search.py  the thresholds that are tried, and their trade-off
"""

from collections.abc import Mapping, Sequence

from fallback.backtest.replay import Progress, Span, Stopped, Subject, run, shares
from fallback.backtest.report import Report
from fallback.backtest.search import suggest
from fallback.domain import Policy

__all__ = ["Progress", "Report", "Span", "Stopped", "rehearse", "run", "suggest"]


def rehearse(
    subjects: Sequence[Subject],
    lanes: Mapping[str, Policy],
    span: Span,
    *,
    progress: Progress = lambda done: True,
) -> Report:
    """Replay the span for each (kind, provider) through each policy, by the lanes' names.

    `progress` is told how much is done, 0 to 1, and answers whether to go on. Raises Stopped.
    A month of a million calls takes seconds and one slot of memory (`tests/benchmarks`).
    """
    replays = [
        run(kind, provider, lanes, span, share)
        for (kind, provider), share in shares(progress, subjects)
    ]
    return Report(span, replays)
