"""The REST API as an agent's client uses it: kept connections, short waits, outcomes sent again."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx

TIMEOUT_S: Final = 5.0
ATTEMPTS: Final = 5  # for an outcome; its id makes it safe
LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class ControlPlane:
    """A server under the drill. Raises httpx.HTTPError for whatever is no 2xx answer."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_S,
            trust_env=not is_local(url),  # no proxy leads to this machine
        )

    async def __aenter__(self) -> Self:
        """Open nothing yet: connections are made by the first calls."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what was opened."""
        await self._http.aclose()

    async def decide(self, **asked: Any) -> dict[str, Any]:
        """Ask which provider a call should use."""
        return await self._send("POST", "decisions", asked)

    async def report(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Report one outcome, again while the server asks for patience; return its result."""
        for attempt in range(ATTEMPTS):
            try:
                answer = await self._send("POST", "outcomes", {"outcomes": [outcome]})
            except httpx.HTTPStatusError as error:
                if attempt == ATTEMPTS - 1 or error.response.status_code not in {429, 503}:
                    raise
                await asyncio.sleep(float(error.response.headers.get("Retry-After", 1)))
            else:
                result: dict[str, Any] = answer["results"][0]
                return result
        raise AssertionError("not reached: the last attempt returns or raises")

    async def status(self) -> dict[str, Any]:
        """Return everything as it is now."""
        return await self._send("GET", "status")

    async def reset(self, provider: str) -> None:
        """Close a breaker, and forget what it counted."""
        await self._send("POST", f"providers/{provider}/reset", {"reason": "drill"})

    async def _send(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        response = await self._http.request(method, path, json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine."""
    return urlsplit(url).hostname in LOCAL
