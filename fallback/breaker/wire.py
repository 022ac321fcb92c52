"""Between the script's strings and the domain's values: replies in, arguments out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fallback.domain import (
    Asked,
    Breaker,
    BreakerView,
    Effect,
    Finding,
    Given,
    Held,
    Kind,
    LastResort,
    Lease,
    Named,
    Order,
    Outcome,
    Override,
    Policy,
    ReasonRule,
    Recorded,
    Recovery,
    Snapshot,
    State,
    UnknownName,
    Verdict,
    Walk,
)

_PLAIN = tuple(
    name
    for name in Breaker.__dataclass_fields__
    if name not in {"state", "leases", "override", "evidence"}
)


def policy_values(policy: Policy) -> dict[str, Any]:
    """Return a policy as the script reads it; a reason without an open time of its own has none."""
    values = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
    values["recovery"] = str(policy.recovery)
    values["what_counts"] = {
        str(reason): {
            "weight": rule.weight,
            "trips_at_once": rule.trips_at_once,
            **({"open_duration_s": rule.open_duration_s} if rule.open_duration_s else {}),
        }
        for reason, rule in policy.what_counts.items()
    }
    return values


def policy_json(policy: Policy) -> str:
    """Return a policy as one text: equal policies are equal texts."""
    return json.dumps(policy_values(policy), sort_keys=True)


def policy_from(raw: str) -> Policy:
    """Return the policy that `policy_json` wrote; one that is missing or damaged is the default."""
    try:
        values = json.loads(raw)
        rules = {reason: ReasonRule(**rule) for reason, rule in values.pop("what_counts").items()}
        values["recovery"] = Recovery(values["recovery"])
        return Policy(**values, what_counts=rules)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Policy()


def override_json(override: Override) -> str:
    """Return an override as it stands in a stored breaker."""
    values = {name: getattr(override, name) for name in Override.__dataclass_fields__}
    return json.dumps({name: value for name, value in values.items() if value is not None})


def ask_arguments(asked: Asked) -> list[str]:
    """Return the arguments of `decide`, after the request."""
    options = {
        "probe": asked.may_probe,
        "soonest": asked.last_resort == LastResort.SOONEST,
        "bypass": asked.bypass,
        "keep": asked.keep,
    }
    excluded = json.dumps(asked.excluded) if asked.excluded else ""
    words = " ".join(word for word, is_on in options.items() if is_on)
    arguments = [asked.call_id, asked.route, words, excluded, asked.host, asked.memory]
    for slug, has_failed in asked.steps:
        arguments += [slug, "failed" if has_failed else "ask"]
    return arguments


def outcome_json(outcome: Outcome) -> str:
    """Return an outcome as `record` reads it."""
    values = {
        "id": outcome.id, "call": outcome.call_id, "provider": outcome.provider,
        "kind": outcome.kind, "reason": outcome.reason, "code": outcome.code,
        "message": outcome.message, "host": outcome.host, "route": outcome.route,
        "lease": outcome.lease, "mode": outcome.mode, "source": outcome.source,
        "key": outcome.key, "memory": outcome.memory, "age_ms": outcome.age_ms,
        "retry_after_ms": round((outcome.retry_after_s or 0) * 1000),
    }  # fmt: skip
    if outcome.latency_ms is not None:
        values["latency_ms"] = outcome.latency_ms
    return json.dumps(values)


def order_json(order: Order) -> str:
    """Return an operator's order as `order` reads it."""
    return json.dumps(
        {
            "provider": order.provider,
            "action": order.action,
            "by": order.by,
            "reason": order.reason,
            "state": order.state,
            "for_ms": order.for_ms,
        }
    )


def unknown_json(seen: UnknownName, *, subject: str, full_subject: str, detail: str) -> str:
    """Return an unknown name as `unknown` reads it, with what to tell of it."""
    named = {name: getattr(seen, name) for name in ("what", "name", "route", "host", "by")}
    told = {"subject": subject, "full_subject": full_subject, "evidence": {"detail": detail}}
    return json.dumps({"seen": named, **told})


def unknown_from(raw: str) -> UnknownName | None:
    """Return the unknown name that is stored so; None for what is damaged."""
    try:
        values = json.loads(raw)
        texts = {name: str(values[name]) for name in ("name", "route", "host", "by")}
        return UnknownName(what=Named(values["what"]), at_ms=int(values["at_ms"]), **texts)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def breaker_from(raw: str) -> Breaker:
    """Return the breaker that is stored as `<state> <json>`; nothing stored, or damage, is a closed
    one, as the script reads it too."""
    try:
        return _stored(json.loads(raw[raw.index("{") :])) if raw else Breaker()
    except (ValueError, KeyError, TypeError, AttributeError):
        return Breaker()


def _stored(values: Mapping[str, Any]) -> Breaker:
    override = values.get("override")
    return Breaker(
        state=State(values["state"]),
        evidence=values["evidence"] or {},
        leases={token: Lease(**lease) for token, lease in values["leases"].items()},
        override=override_from(override) if override else None,
        **{name: _number(values[name]) for name in _PLAIN},
    )


def override_from(values: Mapping[str, Any]) -> Override:
    """Return an override from its stored form."""
    until = values.get("until_ms")
    return Override(
        state=State(values["state"]), by=values["by"], reason=values["reason"],
        at_ms=int(values["at_ms"]), until_ms=None if until is None else int(until),
    )  # fmt: skip


def walk_from(asked: Asked, reply: Sequence[str]) -> Walk:
    """Return what the breakers said to `asked`."""
    now, version, revision, chosen, given, lease, lease_end, *rows = reply
    findings = [
        Finding(slug, Verdict(verdict), breaker_from(raw), _optional(until))
        for (slug, _), verdict, until, raw in zip(
            asked.steps, rows[0::3], rows[1::3], rows[2::3], strict=True
        )
    ]
    return Walk(
        findings=tuple(findings), chosen=int(chosen) - 1, given=Given(given), lease=lease,
        lease_until_ms=_optional(lease_end), now_ms=int(now), version=int(version),
        revision=_optional(revision),
    )  # fmt: skip


def recorded_from(reply: Sequence[str]) -> Recorded:
    """Return what became of one outcome."""
    now, version, revision, status, detail, counted, effect, swap_to, keys = reply
    return Recorded(
        status=status, detail=detail, counted=counted == "1", effect=Effect(effect),
        swap_to=swap_to, now_ms=int(now), version=int(version), revision=_optional(revision),
        keys=json.loads(keys) if keys else {},
    )  # fmt: skip


def snapshot_from(kind: Kind, names: Sequence[str], reply: Sequence[str]) -> Snapshot:
    """Return every breaker as the script read it."""
    now, version, revision, *rows = reply
    views = [
        _view(kind, name, until, raw, failures, reasons, keys)
        for name, until, failures, reasons, keys, raw in zip(
            names, rows[0::5], rows[1::5], rows[2::5], rows[3::5], rows[4::5], strict=True
        )
    ]
    return Snapshot(tuple(views), int(version), _optional(revision), int(now))


def held_from(kind: Kind, names: Sequence[str], reply: Sequence[str]) -> Held:
    """Return what is stored of each breaker."""
    now, version, revision, incarnation, *rows = reply
    columns = list(zip(names, rows[0::4], rows[1::4], rows[2::4], rows[3::4], strict=True))
    return Held(
        kind=kind, now_ms=int(now), version=_optional(version), revision=_optional(revision),
        incarnation=incarnation,
        breakers={name: breaker_from(raw) for name, raw, *_ in columns if raw},
        policies={name: policy_from(raw) for name, _, raw, *_ in columns if raw},
        failures={name: _failures(raw) for name, *_, raw, _ in columns},
        samples={name: _samples(raw) for name, *_, raw in columns},
    )  # fmt: skip


def _failures(raw: str) -> dict[tuple[str, str, str, str], int]:
    """Return the failures; the API key is empty in those of before keys were remembered."""
    rows = {tuple(name.split("\x1f", 3)): int(float(at)) for name, at in _pairs(raw)}
    return {
        (key[0], key[1], key[2], key[3] if len(key) > 3 else ""): at
        for key, at in rows.items()
        if len(key) >= 3
    }


def _samples(raw: str) -> dict[tuple[int, int], list[int]]:
    """Return the slices that read as such; the script drops the others too."""
    found = {}
    for name, sums in _pairs(raw):
        width, _, number = name.partition(":")
        counts = sums.split(" ")
        if width.isdecimal() and number.isdecimal() and len(counts) == 3:
            found[(int(width), int(number))] = [int(count) for count in counts if count.isdecimal()]
    return {key: counts for key, counts in found.items() if len(counts) == 3}


def _pairs(raw: str) -> list[tuple[str, str]]:
    """Lua's empty list is an empty object in JSON."""
    rows = list(json.loads(raw))
    return list(zip(rows[0::2], rows[1::2], strict=True))


def view_from(kind: Kind, provider: str, reply: Sequence[str]) -> BreakerView:
    """Return the breaker that an order was given to, as the order left it."""
    _, _, _, _, until, raw = reply
    return _view(kind, provider, until, raw)


def _view(
    kind: Kind,
    provider: str,
    until: str,
    raw: str,
    failures: str = "0",
    reasons: str = "{}",
    keys: str = "{}",
) -> BreakerView:
    breaker = breaker_from(raw)
    return BreakerView(
        provider=provider, kind=kind, breaker=breaker, until_ms=_optional(until),
        failures=int(failures), last_reasons=json.loads(reasons) or {}, keys=json.loads(keys) or {},
        leases=len(breaker.leases),
    )  # fmt: skip


def _optional(digits: str) -> int | None:
    return int(digits) if digits else None


def _number(value: Any) -> Any:
    """cjson knows one kind of number; ours are whole."""
    return int(value) if isinstance(value, float) else value
