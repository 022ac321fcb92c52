"""WHAT IS KEPT OF THE PAST: events into transitions and incidents, exactly once, in any order.

    recording.py   events -> rows; an incident is worked out from all that is known of it
    positions.py   which numbered events came, which never did, which came twice with two meanings
    repair.py      history held against the breakers as they are, once every event was carried
    retention.py   what is old enough to be forgotten

Events may come late, twice, in another order or not at all; pumps may die at any point. Nothing
here talks to Redis.
"""

from fallback.history.recording import record
from fallback.history.repair import reconcile
from fallback.history.retention import forget

__all__ = ["forget", "reconcile", "record"]
