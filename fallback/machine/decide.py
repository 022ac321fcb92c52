"""Who takes a call: one walk over the whole chain. The twin of lua/decide.lua."""

import copy
from dataclasses import dataclass, field

from fallback.domain import (
    ADMITTING_STATES,
    DIVERTING_VERDICTS,
    Asked,
    Breaker,
    EventName,
    Finding,
    Given,
    LastResort,
    Lease,
    State,
    Verdict,
    Walk,
)
from fallback.machine import calls
from fallback.machine.calls import Call
from fallback.machine.state import Turn, load, notice, until_ms


@dataclass
class Path:
    """A walk under way: the steps with their breakers, and what was chosen so far."""

    names: list[str]
    breakers: list[Breaker]
    failed: set[str]
    verdicts: list[Verdict] = field(default_factory=list)
    chosen: int | None = None
    given: Given = Given.FIRST
    token: str = ""
    lease: Lease | None = None

    def admits(self, index: int) -> bool:
        """Whether the breaker of a step lets every call through."""
        return self.breakers[index].state in ADMITTING_STATES


def decide(turn: Turn, asked: Asked) -> Walk:
    """Walk the chain of one call. A healthy decision changes nothing."""
    call = calls.recall(
        turn.fleet.calls, asked.call_id, turn.now_ms, is_kept=turn.remembers(asked.memory)
    )
    names = [name for name, _ in asked.steps]
    failed = {name for name, has_failed in asked.steps if has_failed} | call.failed
    path = Path(names, [_look(turn, name) for name in names], failed)
    if asked.bypass:
        path.chosen, path.given = 0, Given.BYPASS
        path.verdicts = [Verdict.BYPASS] * len(names)
    else:
        _choose(turn, asked, call, path)
        _tell(turn, asked, call, path)
    _remember(turn, asked, call, path)
    walk = _walk(turn, path)
    turn.finish()
    return walk


def rank(breaker: Breaker, has_failed: bool) -> int:
    """How gladly a call is sent there: 1 admits, 2 may be back soon, 3 was shut by a person,
    4 failed."""
    if has_failed:
        return 4
    if breaker.state in ADMITTING_STATES:
        return 1
    return 3 if breaker.state == State.FORCED_OPEN else 2


def _look(turn: Turn, name: str) -> Breaker:
    """A closed breaker needs no look: time alone does not move it."""
    breaker = turn.fleet.breakers.get(name) or Breaker()
    return breaker if breaker.state == State.CLOSED else load(turn, name)


def _choose(turn: Turn, asked: Asked, call: Call, path: Path) -> None:
    path.chosen = _stay(asked, call, path)
    if path.chosen:
        path.given = Given.STICKY
    for index in range(len(path.names)):
        verdict = _verdict(turn, asked, path, index)
        path.verdicts.append(verdict)
        if verdict == Verdict.ADMITTED and path.chosen is None:
            path.chosen, path.given = index, Given.FIRST
    if path.chosen is None:
        path.chosen, path.given = _last_resort(turn, asked, path), Given.LAST_RESORT


def _stay(asked: Asked, call: Call, path: Path) -> int | None:
    """The call stays where it is while its provider admits it: nobody is moved in the middle."""
    if call.provider not in path.names or call.provider in path.failed:
        return None
    index = path.names.index(call.provider)
    breaker = path.breakers[index]
    holds = breaker.state == State.HALF_OPEN and _own_lease(breaker, asked.call_id) is not None
    return index if path.admits(index) or holds else None


def _verdict(turn: Turn, asked: Asked, path: Path, index: int) -> Verdict:
    breaker = path.breakers[index]
    if path.names[index] in path.failed:
        return Verdict.FAILED_IN_CALL
    if path.admits(index):
        return Verdict.ADMITTED
    if breaker.state != State.HALF_OPEN:
        return Verdict(breaker.state)
    # A better step answers, or the call is elsewhere: spend no lease.
    if path.chosen is not None and path.chosen != index:
        return Verdict.PROBES_BUSY
    token = _lease_for(turn, asked, path.names[index], breaker)
    if token is None:
        return Verdict.PROBES_BUSY
    path.chosen, path.given, path.token = index, Given.PROBE, token
    path.lease = breaker.leases[token]
    return Verdict.PROBE


def _own_lease(breaker: Breaker, call_id: str) -> str | None:
    return next((token for token, lease in breaker.leases.items() if lease.call == call_id), None)


def _lease_for(turn: Turn, asked: Asked, name: str, breaker: Breaker) -> str | None:
    """The lease this call holds, or a new one while there is a slot."""
    token = _own_lease(breaker, asked.call_id)
    if token is not None:
        return token
    if not asked.may_probe or len(breaker.leases) >= turn.policy(name).probe_slots:
        return None
    breaker.leases[turn.request] = Lease(call=asked.call_id, at_ms=turn.now_ms)
    turn.keep(name, breaker)
    return turn.request


def _last_resort(turn: Turn, asked: Asked, path: Path) -> int:
    """Nobody admits, and no call is refused: an open breaker before a forced one before a provider
    that failed in this call; among the open ones the first, or whoever is back first."""

    def preference(index: int) -> tuple[int, int]:
        name, breaker = path.names[index], path.breakers[index]
        place = rank(breaker, name in path.failed)
        is_soonest = place == 2 and asked.last_resort == LastResort.SOONEST
        return place, (until_ms(breaker, turn.policy(name)) or 0) if is_soonest else 0

    return min(range(len(path.names)), key=preference)


def _tell(turn: Turn, asked: Asked, call: Call, path: Path) -> None:
    index = _diverted_from(path)
    if index is not None and not call.is_diverted:
        name, breaker = path.names[index], path.breakers[index]
        breaker.diverted += 1
        turn.keep(name, breaker)
        call.is_diverted = True
        if breaker.diverted == 1:
            to = path.names[path.chosen or 0]
            evidence = {"provider": to, "route": asked.route, "call": asked.call_id}
            notice(turn, name, breaker, EventName.FALLBACK_ACTIVE, evidence=evidence)
    if path.given == Given.LAST_RESORT:
        _tell_all_down(turn, asked, path)


def _diverted_from(path: Path) -> int | None:
    """The breaker that this call would have used and does not."""
    for index in range(path.chosen or 0):
        if path.verdicts[index] in DIVERTING_VERDICTS:
            return index
        if path.verdicts[index] == Verdict.ADMITTED:
            return None
    return None


def _tell_all_down(turn: Turn, asked: Asked, path: Path) -> None:
    """Told once, until one of the breakers moves."""
    if any(path.admits(index) for index in range(len(path.names))):
        return
    name, breaker = path.names[0], path.breakers[0]
    if not breaker.all_down_told:
        breaker.all_down_told = True
        evidence = {"route": asked.route, "call": asked.call_id}
        notice(turn, name, breaker, EventName.ALL_PROVIDERS_DOWN, evidence=evidence)


def _remember(turn: Turn, asked: Asked, call: Call, path: Path) -> None:
    chosen = path.chosen or 0
    is_plain = path.given == Given.FIRST and chosen == 0
    is_known = call.touched_ms > 0
    if is_plain and not is_known and not asked.keep:
        return
    if not turn.remembers(asked.memory):
        return
    call.provider, call.route = path.names[chosen], asked.route
    call.add_entry(
        type="decision", at_ms=turn.now_ms, route=asked.route, provider=call.provider,
        given=path.given, index=chosen, excluded=[list(pair) for pair in asked.excluded],
        verdicts=[list(pair) for pair in zip(path.names, path.verdicts, strict=True)],
        host=asked.host, lease=path.token or None,
    )  # fmt: skip
    is_plain = is_plain or path.given == Given.BYPASS
    calls.write(
        turn.fleet.calls, asked.call_id, call, now_ms=turn.now_ms,
        is_quiet=is_plain and (call.is_quiet or not is_known), memory=asked.memory,
    )  # fmt: skip


def _walk(turn: Turn, path: Path) -> Walk:
    chosen = path.chosen or 0
    findings = [
        Finding(name, verdict, copy.deepcopy(breaker), until_ms(breaker, turn.policy(name)))
        for name, verdict, breaker in zip(path.names, path.verdicts, path.breakers, strict=True)
    ]
    lease_s = turn.policy(path.names[chosen]).probe_lease_s
    return Walk(
        findings=tuple(findings), chosen=chosen, given=path.given, lease=path.token,
        lease_until_ms=path.lease.at_ms + lease_s * 1000 if path.lease else None,
        now_ms=turn.now_ms, version=turn.version_now, revision=turn.fleet.revision,
    )  # fmt: skip
