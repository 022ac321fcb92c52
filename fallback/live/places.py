"""How many may listen to the feed in one process: all together, with one key, and one person.

A fleet of pods that share a key has its places, and half of them stay for others; whatever keys
take, people at the dashboard find some that are kept for them.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

CLIENTS_MAX: Final = 5_000  # in one process; where descriptors are few, most of those
PER_KEY_SHARE: Final = 2.0  # one key may have this fraction of all: a half
PEOPLE_SHARE: Final = 25  # this fraction is kept for people
PER_PERSON: Final = 20  # tabs of one browser, and of others


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens: a key by its public part, or a person by their number."""

    kind: Literal["key", "person"]
    name: str


class Places:
    """The places of one process. Not for threads: the event loop's alone."""

    def __init__(self, room: int) -> None:
        """`room`: how many connections the process may have."""
        self.most = min(CLIENTS_MAX, room * 3 // 4)
        self.most_of = {"key": max(1, int(self.most / PER_KEY_SHARE)), "person": PER_PERSON}
        self.for_people = self.most // PEOPLE_SHARE
        self.held: Counter[Listener] = Counter()
        self.count = 0

    def take(self, who: Listener) -> str:
        """Give a place and return "", or return in words why there is none."""
        most = self.most_of[who.kind]
        if self.held.get(who, 0) >= most:
            whose = "this API key" if who.kind == "key" else "your account"
            return f"{whose} has all {most} places it may have here"
        kept = self.for_people if who.kind == "key" else 0
        if self.count >= self.most - kept:
            return f"all {self.most - kept} places are taken"
        self.held[who] += 1
        self.count += 1
        return ""

    def leave(self, who: Listener) -> None:
        """Take a place back."""
        self.count -= 1
        self.held[who] -= 1
        if not self.held[who]:
            del self.held[who]
