"""Short words for the stories that tests tell about a chain of providers."""

from fallback.domain import Asked, Order, Outcome, OutcomeKind, Policy, Reason, State, Walk
from tests.twins import Twins

CHAIN = ("soniox", "deepgram")


def asked(call: str, chain: tuple[str, ...] = CHAIN, **options: object) -> Asked:
    """Return the question of one call on a route with this chain."""
    steps = tuple((name, False) for name in chain)
    return Asked(call_id=call, route="breeze-buddy", steps=steps, **options)  # type: ignore[arg-type]


def outcome(call: str, provider: str, kind: str, **fields: object) -> Outcome:
    """Return an outcome with an id of its own."""
    values: dict[str, object] = {"reason": Reason.CONNECTION, "host": f"pod-{call}"} | fields
    return Outcome(
        id=f"{call}:{provider}:{kind}",
        call_id=call,
        provider=provider,
        kind=OutcomeKind(kind),
        **values,  # type: ignore[arg-type]
    )


class Story:
    """One history of the breakers of a chain, told to the machine and to Redis alike."""

    def __init__(self, twins: Twins, **policy: object) -> None:
        self.twins = twins
        self.policy = Policy(**policy)  # type: ignore[arg-type]
        twins.configure(1, dict.fromkeys(CHAIN, self.policy))

    def wait(self, seconds: float) -> None:
        self.twins.now_ms += round(seconds * 1000)

    def decide(self, call: str, **options: object) -> Walk:
        return self.twins.decide(asked(call, **options))

    def given(self, call: str, **options: object) -> str:
        """Return the provider that a call is given."""
        walk = self.decide(call, **options)
        return walk.findings[walk.chosen].provider

    def fail(self, call: str, provider: str = "soniox", **fields: object) -> str:
        """Report a failure while a call is set up; return its effect."""
        kind = str(fields.pop("kind", "init_failure"))
        return self.twins.record(outcome(call, provider, kind, **fields), CHAIN).effect

    def hear(self, call: str, provider: str = "soniox", lease: str = "") -> str:
        """Report a first transcript; return its effect."""
        kind = "first_transcript"
        return self.twins.record(outcome(call, provider, kind, lease=lease)).effect

    def end(self, call: str, provider: str = "soniox") -> str:
        return self.twins.record(outcome(call, provider, "call_end")).effect

    def trip(self) -> None:
        """Let two calls fail, so that soniox is open."""
        for call in ("first", "second"):
            self.fail(call)

    def order(self, action: str, state: State | None = None, for_s: int = 0) -> None:
        self.twins.order(Order(action, "soniox", "ana", "because", state, for_s * 1000))

    def state(self, provider: str = "soniox") -> str:
        """Return the state of a breaker now."""
        views = self.twins.snapshot(CHAIN).views
        return next(view.breaker.state for view in views if view.provider == provider)

    def events(self) -> list[tuple[str, int]]:
        """Return (name, time in seconds since the start) of each event about soniox."""
        from_ms = self.twins.machine.fleet.events[0].at_ms if self.twins.machine.fleet.events else 0
        return [
            (str(event.name), (event.at_ms - from_ms) // 1000)
            for event in self.twins.machine.fleet.events
        ]

    def names(self) -> list[str]:
        """Return the names of the events so far."""
        return [name for name, _ in self.events()]
