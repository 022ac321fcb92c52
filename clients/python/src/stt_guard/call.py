"""One call: whom it should use, and the verbs that say what was seen of them.

Every verb is synchronous, takes microseconds, may be repeated, and never raises: it runs in the
middle of a conversation.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from stt_guard.classify import classify
from stt_guard.words import (
    FAILURES,
    INIT_FAILURE,
    MID_CALL_FAILURE,
    STALL,
    TEXT_MAX,
    Decision,
    Kind,
    Mode,
    Reason,
    Seen,
    Settings,
    Source,
    Step,
)

NO_SETTINGS: Final[Settings] = {}
Put = Callable[[dict[str, Any]], None]
log = logging.getLogger(__name__)


class Call:
    """A call and its decision. Used as `async with` it is ended; verbs after that do nothing.

    `provider` is whom the call is on now: the decision's at first, then whatever `use` named.
    """

    __slots__ = (
        "__weakref__",
        "_advised",
        "_decision",
        "_failed",
        "_heard",
        "_is_over",
        "_put",
        "_recovered",
        "host",
        "id",
        "language",
        "provider",
        "route",
    )

    def __init__(
        self,
        call_id: str,
        route: str,
        host: str,
        decision: Decision,
        put: Put,
        language: str = "",
    ) -> None:
        self.id, self.route, self.host, self.language = call_id, route, host, language
        self.provider = decision.provider
        self._decision, self._put = decision, put
        self._failed: set[str] = set()
        self._heard: set[str] = set()
        self._recovered = 0
        self._advised = ""
        self._is_over = False
        if decision.source != "remote":
            self._say("started", self.provider, mode=decision.mode, source=decision.source)

    # --- the decision

    @property
    def order(self) -> tuple[str, ...]:
        """Every provider that this call may use, best first."""
        return tuple(step.provider for step in self._decision.order)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The same with their settings."""
        return self._decision.order

    @property
    def mode(self) -> Mode:
        """`primary`, `fallback`, `probe`, `last_resort` or `bypass`."""
        return self._decision.mode

    @property
    def source(self) -> Source:
        """Who decided: `remote`, or this client from `pushed`, `last_known` or `local_chain`."""
        return self._decision.source

    @property
    def lease(self) -> str | None:
        """The right to be a probe, if this call is one."""
        return self._decision.lease

    @property
    def on_mid_call_failure(self) -> str:
        """`swap` or `end`."""
        return self._decision.on_mid_call_failure

    @property
    def settings(self) -> Settings:
        """The settings of the provider that the call is on."""
        return self.settings_of(self.provider)

    @property
    def is_over(self) -> bool:
        """Whether `end` was said."""
        return self._is_over

    def settings_of(self, provider: str) -> Settings:
        """The provider's settings for this route; empty for one that is not in the order."""
        for step in self._decision.order:
            if step.provider == provider:
                return step.settings
        return NO_SETTINGS

    def place_of(self, provider: str) -> int:
        """The provider's place in the order, from 0; -1 where the server's advice names it."""
        return -1 if provider == self._advised else self.order.index(provider)

    def remaining(self) -> tuple[str, ...]:
        """Whom to try next, best first: not those that failed, not the one it is on.

        The server's advice goes first where this agent can follow it.
        """
        left = [one for one in self.order if one not in self._failed and one != self.provider]
        left.sort(key=lambda one: one != self._advised)
        return tuple(left)

    def has_failed(self, provider: str) -> bool:
        """Whether the provider failed in this call."""
        return provider in self._failed

    def should_end(self, kind: Kind) -> bool:
        """Whether such a failure ends the call instead of moving it: as the route says."""
        return kind != INIT_FAILURE and self.on_mid_call_failure == "end"

    # --- the verbs

    def use(self, provider: str) -> None:
        """Say whom the call is on from now."""
        self.provider = provider

    def failed(
        self,
        provider: str,
        kind: Kind = "mid_call_failure",
        *,
        reason: Reason = "unknown",
        code: str | None = None,
        message: str = "",
        retry_after_s: float | None = None,
    ) -> bool:
        """Report a failure; True the first time for this provider in this call.

        `message` must hold no secret: an exception's text may. `retry_after_s` is obeyed with
        `rate_limit` alone, for 300 s at most.
        """
        if self._is_over or provider in self._failed or kind not in FAILURES:
            return False
        self._failed.add(provider)
        values: dict[str, Any] = {"reason": "stall" if kind == STALL else reason}
        if retry_after_s is not None:
            values["retry_after_s"] = retry_after_s
        self._say(kind, provider, **values, **_texts(code, message))
        return True

    def caught(self, provider: str, error: BaseException, kind: Kind | None = None) -> Seen:
        """Report an exception as what it means; return that. A cancellation is a hang-up.

        Without a `kind`: `init_failure` before the provider's first transcript, then
        `mid_call_failure`.
        """
        seen = classify(error, provider)
        if seen.reason == "cancelled":
            return seen
        by_phase: Kind = MID_CALL_FAILURE if provider in self._heard else INIT_FAILURE
        self.failed(
            provider,
            kind or by_phase,
            reason=seen.reason,
            code=seen.code,
            message=type(error).__name__,
            retry_after_s=seen.retry_after_s,
        )
        return seen

    def misconfigured(self, provider: str, setting: str | None, error: BaseException) -> None:
        """Report that the operators' settings for a provider cannot be used.

        It is used all the same, with the engineer's own settings: a trouble that healed, not a
        failure, which would take the place of a real one and end a probe. `setting`: the name of
        the one that is wrong, where it is known.
        """
        if not self._is_over:
            told = f"setting {setting}" if setting else "the settings"
            texts = _texts(setting, f"{told} cannot be used: {type(error).__name__}")
            self._say("recovered", provider, suffix=":settings", reason="bad_request", **texts)

    def recovered(
        self,
        provider: str,
        *,
        reason: Reason = "connection",
        code: str | None = None,
        latency_s: float | None = None,
    ) -> None:
        """Report a trouble that healed by itself. It may happen again and again in one call."""
        if self._is_over or provider in self._failed:
            return
        self._recovered += 1
        number = f":{self._recovered}"
        values = {**_latency(latency_s), **_texts(code, "")}
        self._say("recovered", provider, suffix=number, reason=reason, **values)

    def slow(self, provider: str, *, latency_s: float) -> None:
        """Report that a provider wrote very late: as its first transcript's latency, or after."""
        if provider in self._heard:
            self.recovered(provider, reason="timeout", latency_s=latency_s)
        else:
            self.transcript(provider, latency_s=latency_s)

    def transcript(self, provider: str, *, latency_s: float | None = None) -> None:
        """Report that the provider really transcribes: sent once, and not once it failed.

        `latency_s`: from the end of the caller's first utterance to this text.
        """
        if provider in self._heard or provider in self._failed or self._is_over:
            return
        self._heard.add(provider)
        self._say("first_transcript", provider, **_latency(latency_s))

    def end(self) -> None:
        """Report the end of the call. What is seen after it counts for nothing."""
        if self._is_over:
            return
        self._say("call_end", self.provider)
        self._is_over = True

    @asynccontextmanager
    async def attempt(self, provider: str) -> AsyncIterator[Settings]:
        """Use a provider in the block: an exception is its failure, and goes on to the caller.

        A cancellation is a hang-up and is not counted. Gives the provider's settings.
        """
        self.use(provider)
        try:
            yield self.settings_of(provider)
        except Exception as error:
            self.caught(provider, error)
            raise

    async def __aenter__(self) -> Self:
        """Return the call itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the call, however the block ended."""
        self.end()

    # --- for the guard

    def advise(self, provider: str) -> None:
        """Take the server's word whom to go to next; one that this agent cannot use is nothing."""
        if provider in self.order:
            self._advised = provider

    def _say(self, kind: str, provider: str, *, suffix: str = "", **values: Any) -> None:
        body = {
            "id": f"{self.id}:{provider}:{kind}{suffix}",
            "call_id": self.id,
            "provider": provider,
            "kind": kind,
            "route": self.route,
            "host": self.host,
            **values,
        }
        if self._decision.lease and provider == self._decision.provider:
            body["lease"] = self._decision.lease
        self._put(body)


def _latency(latency_s: float | None) -> dict[str, Any]:
    return {} if latency_s is None else {"latency_ms": max(0, round(latency_s * 1000))}


def _texts(code: str | None, message: str) -> dict[str, Any]:
    """Return what is there of these two, cut to what the server takes."""
    found = {"code": (code or "")[:64], "message": message[:TEXT_MAX]}
    return {name: text for name, text in found.items() if text}
