"""What happened in a drill: the counts, the line that shows them, and the verdict."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fallback.drill.plan import OPEN_S, Plan

TRIP_WITHIN_S: Final = 2.0
RECOVER_WITHIN_S: Final = OPEN_S + 3.0  # after it is well: one more open time, and a probe's call
SLOW_MS: Final = 300.0


@dataclass(slots=True)
class Tally:
    """Counts of one drill; times in seconds since its first call."""

    plan: Plan
    calls: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    waits_ms: list[float] = field(default_factory=list)  # for each decision
    errors: Counter[str] = field(default_factory=Counter)
    failures: int = 0  # reported of the failing provider
    failures_to_trip: int = 0
    hurt: set[str] = field(default_factory=set)
    diverted: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    unheard: set[str] = field(default_factory=set)
    admitted: list[tuple[float, float]] = field(default_factory=list)  # asked, answered
    probes: int = 0
    probes_now: int = 0
    probes_at_once: int = 0
    probes_failed: int = 0
    tripped_at_s: float | None = None
    recovered_at_s: float | None = None
    degraded: int = 0
    state: str = "?"

    @property
    def saved(self) -> int:
        """Calls that the failing provider hurt and that were heard all the same."""
        return len(self.hurt & self.heard)

    @property
    def strays(self) -> int:
        """Calls sent to the failing provider while it was out, and not as its probe.

        Asked after the trip was told, answered before the proof of its health was sent: decisions
        that crossed with either are nobody's mistake.
        """
        if self.tripped_at_s is None:
            return 0
        back_s = float("inf") if self.recovered_at_s is None else self.recovered_at_s
        return sum(
            asked_s > self.tripped_at_s and answered_s < back_s
            for asked_s, answered_s in self.admitted
        )

    def decided(self, call: str, answer: dict[str, Any], asked_s: float, answered_s: float) -> None:
        """Count a decision."""
        mode = answer["mode"]
        self.modes[mode] += 1
        self.waits_ms.append((answered_s - asked_s) * 1000)
        self.degraded += answer["degraded"]
        if mode == "fallback":
            self.diverted.add(call)
        if mode != "probe" and answer["provider"] == self.plan.provider:
            self.admitted.append((asked_s, answered_s))

    def probing(self, change: int) -> None:
        """Count a probe that begins (1) or ends (-1)."""
        self.probes += change > 0
        self.probes_now += change
        self.probes_at_once = max(self.probes_at_once, self.probes_now)

    def took_effect(self, effect: str, sent_s: float, told_s: float) -> None:
        """Note what an outcome did to the breaker."""
        if effect == "tripped" and self.tripped_at_s is None:
            self.tripped_at_s, self.failures_to_trip = told_s, self.failures
        self.probes_failed += effect == "probe_failed"
        if effect == "recovered":
            self.recovered_at_s = sent_s

    def line(self, at_s: float) -> str:
        """Return the progress in one line of at most 100 characters."""
        broken = "FAILING" if self.plan.is_failing(self.plan.provider, at_s) else "well"
        return (
            f"{at_s:5.1f} s  {self.plan.provider} {broken}, breaker {self.state}  "
            f"calls {self.calls}  hurt {len(self.hurt)}  diverted {len(self.diverted)}  "
            f"probes {self.probes}"
        )

    def report(self) -> str:
        """Return the verdict: what happened in words, each promise kept or broken, PASS or FAIL."""
        broken = list(self.broken())
        lines = [*self._story(), "", *(f"  BROKEN  {promise}" for promise in broken)]
        return "\n".join([*lines, "FAIL" if broken else "PASS"])

    def broken(self) -> Iterator[str]:
        """Yield each promise that was not kept."""
        tripped_s = self._after_s(self.tripped_at_s, self.plan.fail_after_s)
        recovered_s = self._after_s(self.recovered_at_s, self.plan.healed_at_s)
        promises = {
            "it never tripped": tripped_s is not None,
            f"it tripped only after {tripped_s} s": (tripped_s or 0) <= TRIP_WITHIN_S,
            "it did not recover": recovered_s is not None,
            f"it recovered only after {recovered_s} s": (recovered_s or 0) <= RECOVER_WITHIN_S,
            f"{self.strays} calls were sent to a provider that was out": not self.strays,
            f"{self.probes_at_once} probes at once; one is allowed": self.probes_at_once <= 1,
            f"{len(self.unheard)} calls were never heard": not self.unheard,
            f"errors: {_counts(self.errors)}": not self.errors,
            f"1 decision in 20 took over {SLOW_MS:.0f} ms": self._wait_ms(0.95) <= SLOW_MS,
        }
        yield from (text for text, is_kept in promises.items() if not is_kept)

    def _story(self) -> Iterator[str]:
        tripped_s = self._after_s(self.tripped_at_s, self.plan.fail_after_s)
        recovered_s = self._after_s(self.recovered_at_s, self.plan.healed_at_s)
        tripped = f"{tripped_s} s after the outage began, {self.failures_to_trip} failures seen"
        recovered = f"{recovered_s} s after the provider was well"
        yield f"tripped      {'never' if tripped_s is None else tripped}"
        yield f"calls        {self.calls}: {_counts(self.modes)}"
        yield f"hurt         {len(self.hurt)} calls in which {self.plan.provider} failed"
        yield f"saved        {self.saved} of these were heard through another provider"
        yield f"diverted     {len(self.diverted)} calls that never tried it"
        yield f"probes       {self.probes}, {self.probes_failed} failed"
        yield f"recovered    {'never' if recovered_s is None else recovered}"
        yield (
            f"decisions    {self._wait_ms(0.5):.0f} ms in the middle, {self._wait_ms(0.99):.0f} ms "
            f"at 99 %, {self.degraded} degraded"
        )

    @staticmethod
    def _after_s(at_s: float | None, since_s: float) -> float | None:
        return None if at_s is None else round(max(0.0, at_s - since_s), 2)

    def _wait_ms(self, share: float) -> float:
        waits = sorted(self.waits_ms)
        return waits[min(len(waits) - 1, int(len(waits) * share))] if waits else 0.0


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"
