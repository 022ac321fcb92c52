"""WHERE AN OUTAGE IS DRILLED: simulated calls through the real REST API, one provider failing.

    plan      what is drilled: how many calls, who fails, when, for how long
    stage     a route of its own on this database, a key for it, and the clearing away
    client    the REST API as an agent's client uses it
    calls     one simulated call: it asks, fails or is heard, obeys, and hangs up
    tally     what happened, the line that shows it, and the verdict
    outage    all of it together, from the first call to the last

Nothing in here decides anything about breakers: it sees what any agent sees.
"""

from fallback.drill.client import is_local
from fallback.drill.outage import run
from fallback.drill.plan import ROUTE, DrillError, Plan
from fallback.drill.stage import staged
from fallback.drill.tally import Tally

__all__ = ["ROUTE", "DrillError", "Plan", "Tally", "is_local", "run", "staged"]
