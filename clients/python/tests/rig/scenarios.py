"""The scenarios in which the client was, or might be, worse than no client at all."""

from collections.abc import Iterator
from typing import Any, Final

from tests.rig.faults import (
    behaves,
    closes,
    complains,
    flaps,
    is_out,
    is_well,
    resets,
    stalls,
)
from tests.rig.recordings import played
from tests.rig.scene import Do, Framework, Scenario
from tests.rig.script import Part, Script, noise, quiet, say, turns

PROVIDERS: Final = ("soniox", "deepgram")
EITHER: Final = ("none", "framework")  # the client must not be worse than the better of these
TALK: Final = Script(quiet(1.0), *turns(9), quiet(1.0))  # 21.8 s
# Two utterances are over before even the first word of one that is 4 s late is there.
BRISK: Final = turns(8, speech_s=0.8, pause_s=0.6)

NOISES: Final[dict[str, tuple[Part, ...]]] = {
    "noise of 1.0 s each 1.5 s": (noise(1.0), quiet(0.5)) * 8,
    "noise of 0.35 s each 0.75 s": (noise(0.35), quiet(0.4)) * 16,
    "two noises of 0.8 s, 8 s between": (noise(0.8), quiet(8.0), noise(0.8)),
    "two noises of 1.5 s, 9 s apart, words between": (
        noise(1.5), quiet(3.5), say(1.2), quiet(4.3), noise(1.5),
    ),
    "four coughs": (noise(0.6), quiet(1.9)) * 4,
    "ten key tones": (noise(0.3), quiet(0.5)) * 10,
}  # fmt: skip

# In the middle of the third utterance.
DROPS: Final[dict[str, tuple[tuple[float, Do], ...]]] = {
    "a reset": ((5.9, resets("primary")),),
    "a close with 1011": ((5.9, closes("primary", 1011)),),
    "a close with 1000": ((5.9, closes("primary", 1000)),),
    "a stall of 6 s": ((5.9, stalls("primary")), (11.9, is_well("primary"))),
    "an error 503 in the stream": ((5.9, complains("primary", 503)),),
}

SECOND: Final[dict[str, tuple[tuple[float, Do], ...]]] = {
    "a reset": ((15.0, resets("other")),),
    "2 s of 503": ((15.0, is_out("other")), (17.0, is_well("other"))),
    "a stall of 6 s": ((15.0, stalls("other")), (21.0, is_well("other"))),
}


def noisy(primary: str, framework: Framework) -> Iterator[Scenario]:
    """Speech to a VAD, and no words."""
    for name, parts in NOISES.items():
        around = (quiet(1.0), *turns(1), quiet(2.0)), (quiet(4.0), *turns(2), quiet(1.0))
        script = Script(*around[0], *parts, *around[1])
        yield Scenario(name, primary, script, framework=framework, against=("none",))


def recorded(primary: str) -> Iterator[Scenario]:
    """Real noise, and what a real VAD makes of it."""
    others = [played(name, 8.0) for name in ("hold_music", "city-ambience", "keyboard-typing")]
    for name, sounds in {"a crowded room, by Silero": [played("crowded-room")],
                         "music, a street and typing, by Silero": others}.items():  # fmt: skip
        parts = (quiet(1.0), *turns(1), *sounds, quiet(1.5), *turns(2), quiet(1.0))
        yield Scenario(name, primary, Script(*parts), against=("none",))


def one_provider(primary: str, framework: Framework) -> Iterator[Scenario]:
    """A chain of one: there is nobody to go to."""
    for name, steps in DROPS.items():
        yield Scenario(f"one provider, {name}", primary, TALK, steps, chain=1,
                       framework=framework, against=("none",))  # fmt: skip


def two_outages(primary: str, framework: Framework) -> Iterator[Scenario]:
    """Both fail in one call, but never at once."""
    script = Script(quiet(1.0), *turns(12), quiet(1.0))
    first = ((5.0, is_out("primary")), (7.0, is_well("primary")))
    for name, steps in SECOND.items():
        # A service alone that comes back after 2 s never meets the stall: who moves may.
        against = ("framework",) if "stall" in name else EITHER
        yield Scenario(f"2 s of 503, and 8 s later {name} of the other", primary, script,
                       (*first, *steps), framework=framework, against=against)  # fmt: skip


def slow(primary: str, framework: Framework) -> Iterator[Scenario]:
    """A region is slow: both are."""
    for late_s in (4.0, 6.0):
        script = Script(quiet(1.0), *BRISK, quiet(late_s + 2.0))
        before = (behaves("primary", latency_s=late_s), behaves("other", latency_s=late_s))
        yield Scenario(f"results of both {late_s:.0f} s late", primary, script, before=before,
                       framework=framework, against=("none",))  # fmt: skip


def bad_targets(primary: str, framework: Framework) -> Iterator[Scenario]:
    """Whom the call could be moved to is not well either. Whoever is connected to it loses that."""
    hung = ((4.0, is_out("other", "hang")),)
    cases: dict[str, tuple[tuple[float, Do], ...]] = {
        "an outage, the other takes 3.2 s to connect": (
            (4.0, behaves("other", connect_delay_s=3.2)), (5.0, is_out("primary")),
        ),
        "an outage of 6 s, the other hangs": (
            *hung, (5.0, is_out("primary")), (11.0, is_well("primary")),
        ),
        "a reset, the other hangs": (*hung, (5.0, resets("primary"))),
        "an outage of 6 s, the other is reset in the swap": (
            (4.0, behaves("other", stream="abort")), (5.0, is_out("primary")),
            (8.0, is_well("other")), (11.0, is_well("primary")),
        ),
    }  # fmt: skip
    for name, steps in cases.items():
        # LiveKit tries again by the clock, before or after the other is well: that is luck.
        times = 3 if framework == "livekit" and "hangs" not in name else 1
        yield Scenario(name, primary, TALK, steps, framework=framework, against=EITHER,
                       times=times)  # fmt: skip


def healing(primary: str, framework: Framework) -> Iterator[Scenario]:
    """Drops that the framework heals by itself."""
    long = Script(quiet(1.0), *turns(1), say(5.0), quiet(1.0), *turns(3), quiet(1.0))
    cases: dict[str, tuple[Script, tuple[tuple[float, Do], ...]]] = {
        "a reset in the middle of 5 s of speech": (long, ((5.7, resets("primary")),)),
        "reset every 10 s": (
            Script(quiet(1.0), *turns(14), quiet(1.0)), ((0.5, flaps("primary", 10.0)),),
        ),
        "reset every 3 s": (TALK, ((0.5, flaps("primary", 3.0)),)),
        "both reset every 6 s": (
            TALK, ((0.5, flaps("primary", 6.0)), (0.5, flaps("other", 6.0))),
        ),
    }  # fmt: skip
    for name, (script, steps) in cases.items():
        yield Scenario(name, primary, script, steps, framework=framework)


def everything() -> list[Scenario]:
    """All of them, longest first: so that none is left to run alone at the end."""
    found: list[Scenario] = []
    families: tuple[Any, ...] = (noisy, one_provider, two_outages, slow, bad_targets, healing)
    for primary in PROVIDERS:
        for family in families:
            for framework in ("pipecat", "livekit"):
                found += family(primary, framework)
        found += recorded(primary)
    return sorted(found, key=lambda one: -one.script.length_s)


SCENARIOS: Final = everything()
