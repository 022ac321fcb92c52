"""What the control plane last told, and a decision from it without a request.

Pure: every time is passed in, in seconds of a monotonic clock. The server's clock is known by the
`at` of its messages, so an agent's own wall clock does not matter.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from stt_guard.words import Decision, Mode, Source, Step

ADMITTING: Final = frozenset({"closed", "forced_closed", "shadow"})
FORCED_OPEN: Final = "forced_open"


@dataclass(frozen=True, slots=True)
class Place:
    """A provider's place in a route. `position` 1 is the primary, 0 is not told."""

    step: Step
    position: int
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A chain, its places in the order that the server gave them in."""

    kind: str
    places: tuple[Place, ...]
    fallback_enabled: bool = True
    on_mid_call_failure: Literal["swap", "end"] = "swap"
    providers: frozenset[str] = frozenset()  # the names of its places


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker's state; `until_s` is when it is over, on the server's clock (Unix seconds)."""

    state: str
    until_s: float | None = None


class Picture:
    """The server's state as far as this process was told.

    Written by one event loop, and read by any thread: what is read is replaced, never rewritten.
    """

    def __init__(self) -> None:
        self.version = 0
        self.routes: dict[str, Route] = {}
        self.breakers: dict[tuple[str, str], BreakerState] = {}
        self._skew_s: float | None = None
        self._told: dict[str, Any] = {}  # the last whole status, as it came

    @property
    def is_known(self) -> bool:
        """Whether anything was told yet."""
        return bool(self.routes)

    def replace(self, body: Mapping[str, Any], now_s: float) -> None:
        """Take a whole status. Raises ValueError if it is none, and then keeps what it had."""
        try:
            routes = {str(one["route"]): _route(one) for one in body["routes"]}
            breakers = dict(_breakers(body["breakers"]))
            version = int(body["version"])
        except (AttributeError, TypeError, LookupError, OverflowError) as error:
            raise ValueError("this is no status") from error
        self.routes, self.breakers, self.version = routes, breakers, version
        self._told = dict(body)
        self.tick(body.get("at"), now_s)

    def body(self) -> dict[str, Any]:
        """Return a status that `replace` takes, with the changes since the last whole one."""
        changed = [
            {
                "kind": kind,
                "provider": provider,
                "state": breaker.state,
                "until": _rfc3339(breaker.until_s),
            }
            for (kind, provider), breaker in self.breakers.items()
        ]
        routes = self._told.get("routes", [])
        return {"version": self.version, "breakers": changed, "routes": routes}

    def change(self, body: Mapping[str, Any]) -> bool:
        """Take what changed; False when something was missed before it.

        What it brings is taken even then: a provider that is out is out. A change that begins and
        ends with the version held is of the configuration, or of counts.
        """
        version, before = int(body["version"]), body.get("previous")
        is_next = version == self.version + 1 if before is None else before == self.version
        if version <= self.version and not is_next:
            return True  # from before what is held
        changed = dict(_breakers(body.get("breakers") or ()))
        if "routes" in body:
            self.routes = {str(one["route"]): _route(one) for one in body["routes"]}
            self._told["routes"] = body["routes"]
        gone = {(str(one["kind"]), str(one["provider"])) for one in body.get("gone") or ()}
        held = {**self.breakers, **changed}
        self.breakers = {name: one for name, one in held.items() if name not in gone}
        self.version = version
        return is_next

    def tick(self, at: object, now_s: float) -> None:
        """Note the server's clock by a time that it just sent."""
        if isinstance(at, str) and (server_s := _unix_s(at)) is not None:
            self._skew_s = server_s - now_s

    def decide(
        self,
        route: Route,
        *,
        can_use: Sequence[str],
        language: str,
        now_s: float,
        source: Source,
    ) -> tuple[Decision | None, bool]:
        """Return a decision, None when no step is usable, and whether a probe may be due.

        Where the server does not tell the chain's order, that of `can_use` is it.

        A probe is due when a better provider than the chosen one is half open, or its time is up:
        only the server gives that right, so it is worth a request.
        """
        usable = [
            place
            for place in route.places
            if place.step.provider in can_use and speaks(place.languages, language)
        ]
        if not usable:
            return None, False
        if not all(place.position for place in usable):
            places = {provider: index for index, provider in enumerate(can_use, start=1)}
            usable = [replace(one, position=places[one.step.provider]) for one in usable]
        chain = sorted(usable, key=lambda place: place.position)
        if not route.fallback_enabled:
            return self._decision(route, chain, "bypass", source), False
        order = sorted(usable, key=lambda place: self._rank(route, place, usable))
        chosen = order[0]
        mode: Mode = "primary" if chosen.position == 1 else "fallback"
        if not self._admits(route, chosen):
            mode = "last_resort"
        before = chain if mode == "last_resort" else chain[: chain.index(chosen)]
        is_due = any(self._may_probe(route, place, now_s) for place in before)
        return self._decision(route, order, mode, source), is_due

    def _decision(
        self, route: Route, places: Iterable[Place], mode: Mode, source: Source
    ) -> Decision:
        steps = tuple(place.step for place in places)
        return Decision(steps, mode, source, on_mid_call_failure=route.on_mid_call_failure)

    def _of(self, route: Route, place: Place) -> BreakerState | None:
        return self.breakers.get((route.kind, place.step.provider))

    def _admits(self, route: Route, place: Place) -> bool:
        breaker = self._of(route, place)
        return breaker is None or breaker.state in ADMITTING

    def _rank(self, route: Route, place: Place, given: list[Place]) -> tuple[int, int]:
        """Those that admit by the chain; then as the server gave them, forced open last."""
        if self._admits(route, place):
            return 0, place.position
        breaker = self._of(route, place)
        is_forced = breaker is not None and breaker.state == FORCED_OPEN
        return (2 if is_forced else 1), given.index(place)

    def _may_probe(self, route: Route, place: Place, now_s: float) -> bool:
        breaker = self._of(route, place)
        if breaker is None or breaker.state in ADMITTING:
            return False
        if breaker.state == "half_open":
            return True
        if breaker.until_s is None:
            return False
        return self._skew_s is None or now_s + self._skew_s >= breaker.until_s


def speaks(languages: Collection[str], language: str) -> bool:
    """Whether these languages (BCP 47, none: any) hold this one; `hi` and `hi-IN` match."""
    if not language or not languages:
        return True
    wanted = language.lower().replace("_", "-")
    known = (tag.lower() for tag in languages)
    return any(
        wanted == tag or wanted.startswith(tag + "-") or tag.startswith(wanted + "-")
        for tag in known
    )


def _route(body: Mapping[str, Any]) -> Route:
    places = tuple(
        Place(
            Step(str(step["provider"]), dict(step.get("settings") or {})),
            int(step.get("position") or 0),
            tuple(step.get("languages") or ()),
        )
        for step in body["order"]
    )
    return Route(
        kind=str(body["kind"]),
        places=places,
        fallback_enabled=bool(body.get("fallback_enabled", True)),
        on_mid_call_failure="end" if body.get("on_mid_call_failure") == "end" else "swap",
        providers=frozenset(place.step.provider for place in places),
    )


def _breakers(
    bodies: Iterable[Mapping[str, Any]],
) -> Iterable[tuple[tuple[str, str], BreakerState]]:
    for body in bodies:
        until = body.get("until")
        until_s = _unix_s(until) if isinstance(until, str) else None
        yield (
            (str(body["kind"]), str(body["provider"])),
            BreakerState(str(body["state"]), until_s),
        )


def _unix_s(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _rfc3339(unix_s: float | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat()
