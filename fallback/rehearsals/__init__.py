"""Rehearsals as jobs: asked for in the admin, run by child processes of the pumps.

Never in a web process, whose time belongs to decisions: `ask` writes a row, a pump's `Runner`
claims it and starts `manage.py rehearse --job`, and `work` does it there at a low priority. All
that is said between them (progress, the wish to stop, the answer) goes through the row, so that
any number of web processes and pumps may take part, and each of them may be killed.

    queue    asked for, claimed, ended: every change of a row's state
    runner   the pump's part: child processes, watched
    work     the child's part: the past, replayed
    spans    which past
    table    the answer on a terminal
"""

from fallback.rehearsals.queue import Busy, ask, stop, waits_for
from fallback.rehearsals.runner import Runner
from fallback.rehearsals.spans import SPANS

__all__ = ["SPANS", "Busy", "Runner", "ask", "stop", "waits_for"]
