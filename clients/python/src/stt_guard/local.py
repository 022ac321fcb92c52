"""A guard without a server: for work offline, and to see in a test what an agent reports."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

from stt_guard.ask import clean_call_id, names
from stt_guard.call import Call
from stt_guard.guard import SttGuard
from stt_guard.words import Decision, Mode, Settings, Step

REPORTED_MAX: Final = 1_000


class LocalGuard(SttGuard):
    """Decides every call by one order. It opens no socket, and starts no task."""

    def __init__(
        self,
        order: Sequence[str],
        *,
        settings: Mapping[str, Settings] | None = None,
        route: str = "local",
        mode: Mode = "primary",
        on_mid_call_failure: Literal["swap", "end"] = "swap",
        host: str | None = None,
    ) -> None:
        """`settings` by provider. `mode` and `on_mid_call_failure` are those of every decision.

        Raises ValueError for an order that is none.
        """
        super().__init__(
            "http://localhost", key="none", route=route, can_use=order, host=host, feed="off"
        )
        self.reported: deque[dict[str, Any]] = deque(maxlen=REPORTED_MAX)  # bodies, newest last
        self._settings, self._mode = dict(settings or {}), mode
        self._on_mid_call_failure = on_mid_call_failure
        self._count = 0

    async def start(self, wait_s: float = 0.0) -> Self:
        """Do nothing: there is nobody to hear."""
        return self

    async def call(
        self,
        call_id: str,
        *,
        language: str = "",
        route: str | None = None,
        can_use: Sequence[str] | None = None,
        probe: bool = True,
        traceparent: str | None = None,
    ) -> Call:
        """Return a call on the first of the order that is in `can_use`, if that is given."""
        wanted = names(can_use) or self.can_use
        order = [name for name in self.can_use if name in wanted] or wanted
        steps = tuple(Step(name, self._settings.get(name, {})) for name in order)
        decision = Decision(
            steps, self._mode, "local_chain", on_mid_call_failure=self._on_mid_call_failure
        )
        return Call(
            clean_call_id(call_id),
            route or self.route,
            self.host,
            decision,
            self._report,
            language,
        )

    def stats(self) -> dict[str, Any]:
        """As any guard's: all that was reported counts as accepted."""
        return super().stats() | {"queued": self._count, "accepted": self._count}

    def _report(self, body: dict[str, Any]) -> None:
        self._count += 1
        self.reported.append(body)
