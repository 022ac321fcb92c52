"""Whether everything that happened was stored once and told once, when it is all over."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import psycopg

from tests.soak.topology import Production

SETTLED_WITHIN_S: Final = 60.0
EVENTS: Final = "{default:stt}:events"
ORDERS: Final = {b"override_set", b"override_cleared", b"reset"}


def broken(production: Production) -> Iterator[str]:
    """Wait until nothing is under way, then yield every account that does not balance."""
    with psycopg.connect(production.environment["DATABASE_URL"], autocommit=True) as database:
        deadline_s = time.monotonic() + SETTLED_WITHIN_S
        while (waiting := _waiting(database)) and time.monotonic() < deadline_s:
            time.sleep(0.5)
        if waiting:
            yield f"{waiting} alerts still wait after {SETTLED_WITHIN_S:.0f} s"
        stored = {row[0] for row in database.execute("SELECT event_id FROM fallback_transition")}
        happened = _transitions(production)
        if stored != happened:
            yield f"{len(happened)} transitions happened, {len(stored)} are stored"
        letters = _one(database, "SELECT count(*) FROM fallback_deadletter")
        if letters:
            yield f"{letters} dead letters"
        sent = {
            row[0]
            for row in database.execute("SELECT id FROM fallback_alert WHERE status = 'sent'")
        }
        alerts = _one(database, "SELECT count(*) FROM fallback_alert")
        if len(sent) != alerts:
            yield f"{alerts} alerts, of which {len(sent)} were sent"
    shown = Counter(
        alert
        for message in production.slack.messages["C0ALERTS"]
        for alert in message["metadata"]["event_payload"]["alerts"]
    )
    if set(shown) != sent:
        yield f"{len(sent)} alerts are sent, {len(shown)} can be read in Slack"
    if twice := [alert for alert, times in shown.items() if times > 1]:
        yield f"{len(twice)} alerts were told twice"


def story(production: Production) -> Iterator[str]:
    """Yield what there was to account for."""
    with psycopg.connect(production.environment["DATABASE_URL"]) as database:
        transitions = _one(database, "SELECT count(*) FROM fallback_transition")
        incidents = _one(database, "SELECT count(*) FROM fallback_incident")
        alerts = _one(database, "SELECT count(*) FROM fallback_alert")
    messages = len(production.slack.messages["C0ALERTS"])
    yield (
        f"{'accounts':12} {transitions} transitions, {incidents} incidents, {alerts} alerts"
        f" in {messages} messages"
    )


def _waiting(database: "psycopg.Connection[Any]") -> int:
    return _one(
        database, "SELECT count(*) FROM fallback_alert WHERE status IN ('pending', 'sending')"
    )


def _one(database: "psycopg.Connection[Any]", query: str) -> int:
    row: Any = database.execute(query).fetchone()  # type: ignore[call-overload]
    return int(row[0])


def _transitions(production: Production) -> set[str]:
    """Return the ids of the breakers' moves and of the orders, as the stream has them."""
    entries: Any = production.redis.xrange(EVENTS)
    return {
        fields[b"id"].decode()
        for _, fields in entries
        if fields[b"before"] != fields[b"after"] or fields[b"name"] in ORDERS
    }
