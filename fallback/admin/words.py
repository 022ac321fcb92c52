"""How the admin writes times, durations and states; the words are the contract's."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fallback.domain import State
from fallback.messages.values import reported_by

NOTHING = "—"
UNREACHABLE = "unknown (Redis unreachable)"

# Shape and word say the same as the colour: it is never the only signal.
SHAPES = {
    State.CLOSED: "●",
    State.OPEN: "■",
    State.HALF_OPEN: "◐",
    State.FORCED_OPEN: "■",
    State.FORCED_CLOSED: "▲",
    State.SHADOW: "◌",
}
MEANINGS = {
    State.CLOSED: "Healthy: it gets calls.",
    State.OPEN: "Out: new calls go elsewhere.",
    State.HALF_OPEN: "Time is up: probe calls decide whether it is back.",
    State.FORCED_OPEN: "Kept out by an operator.",
    State.FORCED_CLOSED: "Kept in by an operator, however many failures there are.",
    State.SHADOW: "Counts failures and never diverts.",
}


def state_badge(state: str) -> SafeString:
    """Return a state as shape, word and colour."""
    known = State(state) if state in list(State) else None
    return format_html(
        '<span class="state state-{}" title="{}"><span aria-hidden="true">{}</span> {}</span>',
        state or "none",
        MEANINGS[known] if known else "",
        SHAPES[known] if known else "?",
        (state or "none").replace("_", " "),
    )


def duration(length: timedelta) -> str:
    """Return a length in words, its two largest units: “31 min 4 s”."""
    seconds = max(0, int(length.total_seconds()))
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def moment(at: datetime | None, now: datetime | None = None) -> SafeString | str:
    """Return a time with its zone, and how long ago or ahead that is."""
    if at is None:
        return NOTHING
    away = at - (now or timezone.now())
    words = f"in {duration(away)}" if away > timedelta() else f"{duration(-away)} ago"
    return format_html(
        '<time datetime="{}"><span class="nowrap">{} UTC</span>'
        ' <span class="quiet">{}</span></time>',
        at.isoformat(),
        at.strftime("%Y-%m-%d %H:%M:%S"),
        words,
    )


_PLACES = {"admin": "admin", "slack": "Slack", "api": "REST"}


def who_and_where(actor: str) -> tuple[str, str]:
    """Return whose order it was and where it was given: `slack:ana` is ana, in Slack."""
    place, _, name = actor.partition(":")
    return (name, _PLACES[place]) if name and place in _PLACES else (actor, NOTHING)


@dataclass(frozen=True, slots=True)
class Shown:
    """One breaker as `status` gives it, ready to be printed."""

    breaker: dict[str, Any]
    is_fresh: bool

    @property
    def badge(self) -> SafeString:
        """The state; what is only remembered says so."""
        if self.is_fresh:
            return state_badge(self.breaker["state"])
        return format_html(
            '<span class="state state-unknown"><span aria-hidden="true">?</span> {}</span>'
            '<br><span class="quiet">last known: {}</span>',
            UNREACHABLE,
            self.breaker["state"].replace("_", " "),
        )

    @property
    def since(self) -> SafeString | str:
        """When this state began."""
        return moment(_parsed(self.breaker["since"]))

    @property
    def until(self) -> SafeString | str:
        """When it ends by itself."""
        at = _parsed(self.breaker["until"])
        if at is None and self.breaker["override"]:
            return "until cleared"
        return moment(at)

    @property
    def failures(self) -> str:
        """Weighted failures in the window, against the threshold."""
        threshold = self.breaker["failure_threshold"]
        window_s = self.breaker["failure_window_s"]
        of = f"of {threshold} in {window_s} s" if threshold else "(the count rule is off)"
        return f"{self.breaker['failures']} {of}"

    @property
    def reasons(self) -> str:
        """What those failures were."""
        counts = self.breaker["last_reasons"].items()
        return ", ".join(f"{reason} {count}" for reason, count in counts) or NOTHING

    @property
    def keys(self) -> str:
        """Whose API keys reported them; where that holds a trip back, so."""
        return self.breaker["held_back"] or reported_by(self.breaker["keys"]) or NOTHING

    @property
    def probes(self) -> str:
        """Probe calls under way."""
        return f"{self.breaker['leases']} of {self.breaker['probe_slots']} under way"

    @property
    def override(self) -> SafeString | str:
        """Who ordered what, and why."""
        ordered = self.breaker["override"]
        if not ordered:
            return NOTHING
        return format_html("{}: “{}”", ordered["by"], ordered["reason"])


@dataclass(frozen=True, slots=True)
class NotShown:
    """Stands in for a breaker that nothing is known of: disabled, or Redis never answered."""

    why: str
    since: str = NOTHING
    until: str = NOTHING
    failures: str = NOTHING
    reasons: str = NOTHING
    keys: str = NOTHING
    probes: str = NOTHING
    override: str = NOTHING

    @property
    def badge(self) -> SafeString:
        """Why there is no state."""
        return format_html(
            '<span class="state state-unknown"><span aria-hidden="true">?</span> {}</span>',
            self.why,
        )


def _parsed(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
