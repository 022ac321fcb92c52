"""What a fleet saw of one outage, in figures: from its calls, and from the server's transitions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any, Final

from tests.rig.fleet_worker import Talk
from tests.rig.load import Lateness

LOST: Final = ("shed", "stale", "invalid", "waiting", "unsent")  # never taken by the server
COUNTED: Final = ("queued", "accepted", "duplicate", "refused", *LOST)


@dataclass(frozen=True, slots=True)
class Spell:
    """A half-open spell, as the server tells it; `proof` is the call that ended it."""

    begun_s: float
    over_s: float
    result: str  # the state after it
    proof: str


@dataclass(frozen=True, slots=True)
class Found:
    """What was seen of one outage. Times are in Unix seconds."""

    out_s: float
    healed_s: float
    in_progress: frozenset[str]  # calls on the primary as it went out, with words to come
    talks: Sequence[Talk]
    counts: Mapping[str, int]
    spells: Sequence[Spell]
    incident: Mapping[str, Any]
    lateness: Lateness

    @property
    def cut_off(self) -> list[Talk]:
        """Calls begun before the outage, and not over, that lost their provider."""
        return [talk for talk in self.talks if talk.begun_s < self.out_s and talk.failed_s]

    @property
    def moved(self) -> list[Talk]:
        """Those of them that were heard to their end all the same."""
        return [talk for talk in self.cut_off if talk.late_s is not None and talk.is_whole]

    @property
    def hurt(self) -> list[Talk]:
        """New calls that began on the provider that was out, but for probes."""
        return [talk for talk in self._new() if talk.failed_s and talk.mode != "probe"]

    @property
    def diverted(self) -> list[Talk]:
        """New calls that began elsewhere."""
        return [talk for talk in self._new() if talk.mode == "fallback"]

    @property
    def probes(self) -> list[Talk]:
        """Every call that was to try the provider first."""
        return [talk for talk in self.talks if talk.mode == "probe"]

    @property
    def back(self) -> list[Talk]:
        """Calls begun on the primary again, but for probes: first those that began first."""
        later = (talk for talk in self.talks if talk.begun_s > self.healed_s)
        return [talk for talk in _by_beginning(later) if talk.mode == "primary"]

    @property
    def lost(self) -> int:
        """Outcomes that the server never had."""
        return sum(self.counts[name] for name in LOST)

    def probes_in(self, spell: Spell) -> list[Talk]:
        """The probes decided in a spell: it lies between their question and their answer."""
        return [
            talk
            for talk in self.probes
            if talk.begun_s <= spell.over_s and talk.decided_s >= spell.begun_s
        ]

    def _new(self) -> list[Talk]:
        return _by_beginning(talk for talk in self.talks if talk.begun_s >= self.out_s)


def _by_beginning(talks: Iterable[Talk]) -> list[Talk]:
    return sorted(talks, key=lambda talk: talk.begun_s)


def spells_of(transitions: Sequence[Mapping[str, Any]]) -> list[Spell]:
    """Return the half-open spells that are over, of transitions as the API gives them: newest
    first."""
    moves = list(reversed(transitions))
    return [
        Spell(_unix_s(begun), _unix_s(over), over["to"], over["evidence"].get("call", ""))
        for begun, over in pairwise(moves)
        if begun["to"] == "half_open"
    ]


def _unix_s(move: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(move["at"]).timestamp()


def total(stats: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Add up what became of the outcomes of several guards."""
    told = list(stats)
    return {name: sum(one[name] for one in told) for name in COUNTED}


# --- printed


def rows(found: Found) -> list[list[str]]:
    """Return the figures as rows of a table."""
    return [*_of_calls(found), *_of_spells(found), *_of_outcomes(found)]


def _of_calls(found: Found) -> list[list[str]]:
    return [
        ["calls in all / not heard to their end", f"{len(found.talks):,} / {_unheard(found)}"],
        [
            "calls in progress that lost their provider / heard on the other one to their end",
            f"{len(found.cut_off)} / {len(found.moved)}",
        ],
        ["of these, how late their first word on the other one was heard", _late(found.moved)],
        ["new calls hurt: begun on the provider that was out", _hurt(found)],
        ["the first diverted call began", _after(found.diverted[:1], found.out_s, "the outage")],
        ["diverted", _diverted(found)],
        ["diverted / hurt / saved, by the server's incident", _counted(found.incident)],
    ]


def _of_spells(found: Found) -> list[list[str]]:
    at = ", ".join(f"{spell.begun_s - found.out_s:.1f}" for spell in found.spells)
    each = ", ".join(str(len(found.probes_in(spell))) for spell in found.spells)
    results = ", ".join(spell.result for spell in found.spells)
    known = sum(
        spell.proof in {talk.id for talk in found.probes_in(spell)} for spell in found.spells
    )
    return [
        ["half open, after the outage", f"{at} s"],
        ["probes in each, and then", f"{each} ({results})"],
        ["of these, the call that the server names", f"{known} of {len(found.spells)}"],
        ["healed", f"{found.healed_s - found.out_s:.1f} s after the outage"],
        ["back on the primary", _after(found.back[:1], found.healed_s, "the heal")],
    ]


def _of_outcomes(found: Found) -> list[list[str]]:
    names = ("queued", "accepted", "duplicate", "refused")
    told = " / ".join(f"{found.counts[name]:,}" for name in names)
    return [["outcomes / accepted / duplicate / refused / lost", f"{told} / {found.lost:,}"]]


def _unheard(found: Found) -> int:
    return sum(not talk.is_whole for talk in found.talks)


def _late(talks: Sequence[Talk]) -> str:
    late = [talk.late_s for talk in talks if talk.late_s is not None]
    return f"{median(late):.2f} s median, {max(late):.2f} s at most" if late else "none"


def _hurt(found: Found) -> str:
    last = found.hurt[-1:]
    return f"{len(found.hurt)}, the last {_after(last, found.out_s, 'the outage')}" if last else "0"


def _after(talks: Sequence[Talk], since_s: float, what: str) -> str:
    return f"{talks[0].begun_s - since_s:.2f} s after {what}" if talks else "never"


def _diverted(found: Found) -> str:
    asked = sum(talk.source == "remote" for talk in found.diverted)
    return f"{len(found.diverted):,}, {asked} of them by a request"


def _counted(incident: Mapping[str, Any]) -> str:
    return " / ".join(f"{incident[name]:,}" for name in ("diverted", "hurt", "saved"))
