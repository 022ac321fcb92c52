"""What `/stt-status` understands: one table of name, words, help and function."""

import difflib
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.conf import settings

from fallback import catalog, services, status
from fallback.catalog import Catalog
from fallback.domain import Kind, State
from fallback.errors import FallbackError, Invalid, NotFound
from fallback.messages import answers
from fallback.messages.answers import Past
from fallback.messages.blocks import Message
from fallback.messages.values import duration
from fallback.models import Incident, Transition
from fallback.slack import orders
from fallback.slack.door import Origin

TEXT_MAX: Final = 2000
RECENT: Final = 8
INCIDENTS: Final = 10
CALL_ID_MAX: Final = 128

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """One command: the words behind its name, and who asks."""

    words: list[str]
    origin: Origin
    name: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered, and whether the whole channel sees it: orders are seen."""

    message: Message
    is_public: bool = False


def on_command(
    ack: Callable[..., Any], command: Mapping[str, Any], context: Mapping[str, Any]
) -> None:
    """Answer a slash command in the acknowledgement itself."""
    answer = answer_to(str(command.get("text") or ""), context["origin"])
    ack(
        response_type="in_channel" if answer.is_public else "ephemeral",
        text=answer.message.text,
        blocks=answer.message.blocks,
    )


def answer_to(text: str, origin: Origin) -> Answer:
    """Return the answer to what stood behind `/stt-status`."""
    words = html.unescape(text[:TEXT_MAX]).split()
    name = words[0].lower() if words else ""
    try:
        if name in COMMANDS:
            return COMMANDS[name].run(Asked(words[1:], origin, name))
        return _one(Asked(words, origin))
    except FallbackError as error:
        told = [f"{problem.detail}" for problem in getattr(error, "problems", ())]
        return Answer(answers.said("\n".join([str(error), *told])))


def _summary(_asked: Asked) -> Answer:
    return Answer(answers.summary(status.build(), dashboard_url()))


def _one(asked: Asked) -> Answer:
    """Answer about a provider or a route."""
    body, word = status.build(), asked.words[0]
    route = next((one for one in body["routes"] if one["route"] == word.lower()), None)
    found = provider_named(word)
    if found is None:
        if route is None:
            raise NotFound(_unknown(word))
        return Answer(answers.route(route, body["breakers"], dashboard_url()))
    kind, slug = found
    shown = status.provider_status(kind, slug)
    rows = Transition.objects.filter(kind=kind, provider=slug)[:RECENT]
    past = [
        Past(_ms(row.at), f"{_words(row.before)} → {_words(row.after)} ({_words(row.cause)})",
             "" if row.actor == "breaker" else row.actor, row.reason)
        for row in rows
    ]  # fmt: skip
    return Answer(answers.provider(shown, past, dashboard_url()))


def _explain(asked: Asked) -> Answer:
    if len(asked.words) != 1 or len(asked.words[0]) > CALL_ID_MAX:
        raise Invalid("Say which call: /stt-status explain <call_id>")
    return Answer(answers.call(services.explain_call(asked.words[0])))


def _incidents(_asked: Asked) -> Answer:
    return Answer(answers.incidents([_incident(row) for row in _latest()], dashboard_url()))


def _latest() -> list[Incident]:
    return list(Incident.objects.all()[:INCIDENTS])


def _incident(row: Incident) -> Past:
    if row.closed_at:
        lasted = f"out for {duration((row.closed_at - row.opened_at).total_seconds())}"
    else:
        lasted = "still going on"
    calls = f"{row.diverted} diverted, {row.hurt} hurt, {row.saved} saved"
    by = "" if row.actor == "breaker" else row.actor
    return Past(_ms(row.opened_at), f"#{row.pk} {row.provider}: {lasted}; {calls}", by, row.reason)


def _help(_asked: Asked) -> Answer:
    lines = [f"/stt-status {one.words}".rstrip() + f": {one.help}" for one in HELP]
    return Answer(answers.said("\n".join(lines)))


def _force(asked: Asked) -> Answer:
    """`open|close|shadow <provider> [30m] <reason>`."""
    kind, slug = _provider(asked)
    words, for_s = asked.words[1:], orders.DEFAULT_S
    is_forever = bool(words) and words[0].lower() == orders.FOREVER
    length_s = orders.length_s(words[0]) if words else None
    if is_forever or length_s is not None:
        words, for_s = words[1:], length_s or 0
    state = _STATES[asked.name]
    by = orders.operator_of(asked.origin, f"{asked.name} {slug}")
    told = orders.force(
        kind, slug, state, by=by, reason=" ".join(words),
        for_s=None if is_forever else for_s,
    )  # fmt: skip
    return Answer(answers.said(told), is_public=True)


def _auto(asked: Asked) -> Answer:
    kind, slug = _provider(asked)
    by = orders.operator_of(asked.origin, f"auto {slug}")
    reason = " ".join(asked.words[1:])
    return Answer(answers.said(orders.back_to_automatic(kind, slug, by=by, reason=reason)), True)


def _reset(asked: Asked) -> Answer:
    kind, slug = _provider(asked)
    by = orders.operator_of(asked.origin, f"reset {slug}")
    told = orders.reset(kind, slug, by=by, reason=" ".join(asked.words[1:]))
    return Answer(answers.said(told), is_public=True)


def provider_named(word: str) -> tuple[Kind, str] | None:
    """Return the provider of `soniox`, or of `tts:openai` where the slug is not of kind stt."""
    return _named_in(catalog.current(), word) or _named_in(catalog.refresh(), word)


def _named_in(config: Catalog, word: str) -> tuple[Kind, str] | None:
    kind, _, slug = word.lower().rpartition(":")
    wanted = [Kind(kind)] if kind in list(Kind) else list(Kind)
    return next(((one, slug) for one in wanted if (one, slug) in config.providers), None)


def _provider(asked: Asked) -> tuple[Kind, str]:
    if not asked.words:
        raise Invalid(f"Say which provider: /stt-status {COMMANDS[asked.name].words}")
    found = provider_named(asked.words[0])
    if found is None:
        raise NotFound(_unknown(asked.words[0]))
    return found


def _unknown(word: str) -> str:
    config = catalog.current()
    known = sorted({slug for _, slug in config.providers} | set(config.routes) | set(COMMANDS))
    close = difflib.get_close_matches(word.lower(), [one for one in known if one], n=1)
    hint = f" Did you mean {close[0]}?" if close else " /stt-status help says what there is."
    return f"There is no provider, route or command {word[:60]!r}.{hint}"


def dashboard_url() -> str:
    """Return the dashboard's address; empty where nobody said where we are."""
    return f"{settings.PUBLIC_URL}/" if settings.PUBLIC_URL else ""


def _ms(at: Any) -> int:
    return int(at.timestamp() * 1000)


def _words(name: str) -> str:
    return name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the table."""

    words: str
    help: str
    run: Callable[[Asked], Answer]


_STATES: Final = {
    "open": State.FORCED_OPEN,
    "close": State.FORCED_CLOSED,
    "shadow": State.SHADOW,
}
_LENGTH: Final = "<provider> [30m|2h|forever] <reason>"
COMMANDS: Final[dict[str, Command]] = {
    "": Command("", "everything at a glance", _summary),
    "explain": Command("explain <call_id>", "why a call got what it got", _explain),
    "incidents": Command("incidents", "the latest outages", _incidents),
    "open": Command(f"open {_LENGTH}", "force it open; 30 min unless you say otherwise", _force),
    "close": Command(f"close {_LENGTH}", "force it closed", _force),
    "shadow": Command(f"shadow {_LENGTH}", "let it only watch", _force),
    "auto": Command("auto <provider>", "end the override", _auto),
    "reset": Command("reset <provider> <reason>", "close it and forget what it counted", _reset),
    "help": Command("help", "this", _help),
}
_ONE: Final = Command("<provider|route>", "one of them, with its recent history", _one)
HELP: Final = [COMMANDS[""], _ONE, *(one for name, one in COMMANDS.items() if name)]
