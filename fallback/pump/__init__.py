"""WHERE EVENTS GO: from the stream through `HANDLERS`, in one database transaction per batch.

    worker       the turns: what is due when, and what is waited for
    carrying     entries into the handlers; whose fault it is when that fails
    heart        its hold on what it has in hand, and whom it waits for when it hangs

An entry is acknowledged after the commit and not before, and everything that a handler does is
known by the event's id: a pump may be killed at any point, and any number of them may run. One
thread reads every kind in turn (on a Cluster two kinds are two slots, which no one command can
read) and waits for `stt` alone, so that the others come a quarter of a second later at worst; in
return there is one database connection, one order and one place to stop.

Once a second it is also the clock of the breakers, and holds history against them.
"""

from fallback.pump.carrying import DELIVERIES_MAX, HANDLERS, Handler
from fallback.pump.worker import STALE_MS, Pump

__all__ = ["DELIVERIES_MAX", "HANDLERS", "STALE_MS", "Handler", "Pump"]
