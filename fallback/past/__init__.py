"""THE RECORDED PAST: what the breakers were told, kept for rehearsals to replay.

The verbs gather in memory (`recorder`), a thread writes parts to Redis (`slots`), the pump stores
each slot of ten minutes in the database once it is over (`keeping`), and `read` gives it back in
order. Nothing here is on the decision path, each step may be done twice, and each is bounded: what
finds no room is dropped, counted with its slot, and told.
"""

from fallback.past.keeping import Keeper, forget
from fallback.past.reading import read
from fallback.past.recorder import decided, flush, flush_quietly, seen
from fallback.past.sightings import (
    NOBODY,
    Failure,
    Flag,
    Reporter,
    Sighting,
    Slot,
    What,
    call_number,
)

__all__ = [
    "NOBODY",
    "Failure",
    "Flag",
    "Keeper",
    "Reporter",
    "Sighting",
    "Slot",
    "What",
    "call_number",
    "decided",
    "flush",
    "flush_quietly",
    "forget",
    "read",
    "seen",
]
