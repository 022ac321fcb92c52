"""Names that this agent uses and the server does not know: said once, loudly, and taken back.

A call whose every name is unknown runs on the agent's own chain, unprotected, and sounds as well as
any other. What the picture does not know is a suspicion: it may be older than the configuration, so
the server's answer decides. To be asked also tells the server, whose operators see it there.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from stt_guard.ask import Answer
from stt_guard.state import Picture

ASK_AGAIN_S: Final = 60.0  # after a question that nobody answered
FOR_GOOD_S: Final = float("inf")
NAMES_MAX: Final = 20  # shown of each kind
ASKED_MAX: Final = 1_000  # names that are asked about in a process's life

log = logging.getLogger(__name__)
Name = tuple[str, str]  # a route and a provider; an empty provider is the route itself


class Unknown:
    """The names that the server said it does not know."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s: dict[Name, float] = {}  # when; for good once it was answered
        self._names: dict[Name, None] = {}
        self._told: set[Name] = set()

    def is_worth_asking(self, route: str, can_use: Sequence[str], picture: Picture) -> bool:
        """Whether a name is new to this picture, and the server was not asked about it yet."""
        if self._names:
            self._take_back(picture)
        known = picture.routes.get(route)
        if known is None or known.providers.issuperset(can_use):
            return False  # a route that is not known is asked about by every call of it
        now_s, never_s = self._clock(), float("-inf")
        names = [(route, name) for name in can_use if name not in known.providers]
        new = [one for one in names if now_s - self._asked_s.get(one, never_s) >= ASK_AGAIN_S]
        if not new or len(self._asked_s) >= ASKED_MAX:
            return False
        self._asked_s.update(dict.fromkeys(new, now_s))
        return True

    def answered(
        self, route: str, can_use: Sequence[str], answer: Answer, picture: Picture | None
    ) -> None:
        """Take the server's word for these names. `picture` is the one that holds now, if any."""
        names = [(route, name) for name in can_use]
        for name in names:
            if name in self._asked_s:
                self._asked_s[name] = FOR_GOOD_S
        strangers = [(route, name) for name in answer.strangers]
        if answer.is_route_known:
            for name in ((route, ""), *names):
                if name not in strangers:
                    self._names.pop(name, None)
        else:
            strangers = [(route, "")]
        for name in strangers:
            if picture is None or not _knows(picture, name):
                self._add(name, answer.known)

    def report(self, picture: Picture | None) -> dict[str, list[str]]:
        """Return `{"routes": […], "providers": […]}`, of each NAMES_MAX at most."""
        if picture is not None:
            self._take_back(picture)
        names = list(self._names)
        routes = dict.fromkeys(route for route, provider in names if not provider)
        providers = dict.fromkeys(provider for _, provider in names if provider)
        return {"routes": list(routes)[:NAMES_MAX], "providers": list(providers)[:NAMES_MAX]}

    def _take_back(self, picture: Picture) -> None:
        for name in list(self._names):
            if _knows(picture, name):
                self._names.pop(name, None)
                self._asked_s.pop(name, None)

    def _add(self, name: Name, known: Sequence[str]) -> None:
        if name in self._names or len(self._names) >= ASKED_MAX:
            return
        self._names[name] = None
        if name not in self._told:
            self._told.add(name)
            log.error(*_sentence(name, ", ".join(known) or "none"))


def _knows(picture: Picture, name: Name) -> bool:
    route, provider = name
    known = picture.routes.get(route)
    return known is not None and (not provider or provider in known.providers)


def _sentence(name: Name, known: str) -> tuple[Any, ...]:
    route, provider = name
    if not provider:
        text = (
            "the control plane has no route %r (route, STT_GUARD_ROUTE): its calls are not "
            "protected; it knows %s"
        )
        return text, route, known
    text = (
        "the control plane has no provider %r on route %r: can_use, the factories' keys and the "
        "server's slugs must be the same word; it knows %s"
    )
    return text, provider, route, known
