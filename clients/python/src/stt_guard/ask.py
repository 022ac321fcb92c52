"""One question to the server: whom should this call use? And what its answer says of our names."""

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import aiohttp

from stt_guard.said import Said, advice
from stt_guard.words import CALL_ID_MAX, Decision, Mode, Step

NOT_USABLE: Final = "not_usable"
DETAIL_MAX: Final = 300

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What a call asks. `can_use` empty: whoever is on the route."""

    call_id: str
    route: str
    can_use: tuple[str, ...]
    language: str
    probe: bool
    host: str

    def body(self) -> dict[str, Any]:
        """Return it as the server takes it."""
        body: dict[str, Any] = {"route": self.route, "call_id": self.call_id, "host": self.host}
        body |= {"probe": self.probe, "language": self.language}
        return body | {"can_use": self.can_use} if self.can_use else body


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `strangers`: those of `can_use` that are no step of the route.

    `known` are the names that it knows in their place: providers, or routes where `is_route_known`
    is False.
    """

    decision: Decision | None = None
    strangers: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    is_route_known: bool = True


def clean_call_id(call_id: object) -> str:
    """Make a call id the server takes: 1 to 128 characters, none of them a control."""
    text = "".join(character for character in str(call_id) if character.isprintable())
    return text[:CALL_ID_MAX] or uuid.uuid4().hex


def names(can_use: Iterable[str] | None) -> tuple[str, ...]:
    """Return each name once; one that was given alone is a list of one."""
    if isinstance(can_use, str):
        return (can_use,)
    return tuple(dict.fromkeys(can_use or ()))


class Asker:
    """Asks at one address. `ask` never raises, and never takes longer than `timeout_s`."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], timeout_s: float, said: Said
    ) -> None:
        self._url, self._headers = f"{base_url}/api/v1/decisions", headers
        self._timeout_s, self._said = timeout_s, said

    async def ask(
        self, session: aiohttp.ClientSession, question: Question, trace: Mapping[str, str]
    ) -> Answer | None:
        """Return the answer; None when there is none in time, or it makes no sense."""
        headers = {**self._headers, **trace}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                session.post(self._url, json=question.body(), headers=headers) as response,
            ):
                if response.status == 200:
                    return _answer(question, await response.json())
                return await self._refused(question, response)
        except (TimeoutError, aiohttp.ClientError, OSError):
            log.info("the control plane does not answer in %g s", self._timeout_s)
        except (ValueError, TypeError, LookupError, AttributeError):
            self._said.warn("the control plane's decision makes no sense")
        return None

    async def _refused(self, question: Question, response: aiohttp.ClientResponse) -> Answer | None:
        """Read a refusal. Only one in the server's own words says something of our names."""
        status = response.status
        if status in {404, 409} and response.content_type == "application/problem+json":
            problem = await response.json(content_type=None)
            code, detail = problem.get("code"), str(problem.get("detail"))
            if code == "not_found" and question.route in detail:
                known = detail.partition("there are: ")[2].rstrip(".")
                return Answer(known=(known,) if known else (), is_route_known=False)
            if code == "no_usable_provider":
                self._said.warn("no provider can be used: %s", detail[:DETAIL_MAX])
                if isinstance(problem.get("why"), list):
                    return Answer(None, *_names(question, problem))
                return _nobody(question, detail)
        self._said.warn("the control plane refused a decision: %d%s", status, advice(status))
        return None


def _answer(question: Question, body: Mapping[str, Any]) -> Answer:
    """Read a decision. Raises ValueError, TypeError, LookupError or AttributeError at nonsense."""
    return Answer(_decision(body), *_names(question, body))


def _names(question: Question, body: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read from `why` which of our names the route does not have, and which names are known."""
    verdicts = {str(line["provider"]): line.get("verdict") for line in body.get("why") or ()}
    strangers = tuple(name for name in question.can_use if verdicts.get(name) == NOT_USABLE)
    return strangers, tuple(name for name in verdicts if name not in strangers)


def _nobody(question: Question, detail: str) -> Answer:
    """Read the sentence of a server that gives no `why`: a step that is named there is known, if
    only switched off. The steps are written `slug: verdict (…)` one after the other.
    """
    steps = [part.rpartition(" ")[2] for part in detail.split(": ")[1:-1]]
    strangers = tuple(name for name in question.can_use if name not in steps)
    return Answer(strangers=strangers, known=tuple(steps))


def _decision(body: Mapping[str, Any]) -> Decision:
    steps = tuple(
        Step(str(step["provider"]), dict(step.get("settings") or {})) for step in body["order"]
    )
    if not steps or body["mode"] not in get_args(Mode):
        raise ValueError("no usable decision")
    probe = body.get("probe") or {}
    return Decision(
        order=steps,
        mode=cast(Mode, body["mode"]),
        source="remote",
        lease=probe.get("lease"),
        on_mid_call_failure="end" if body.get("on_mid_call_failure") == "end" else "swap",
    )
