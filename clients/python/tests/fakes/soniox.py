"""Soniox's `/transcribe-websocket`: a config, then audio; tokens back, finalize, an empty end."""

import json
from typing import Any

from websockets.http11 import Request

from tests.fakes.provider import FakeProvider
from tests.fakes.session import Session


def tokens(session: Session, *texts: str, is_final: bool = True) -> str:
    """Return a message of tokens."""
    at_ms = round(session.audio_s * 1000)
    body: dict[str, Any] = {
        "tokens": [
            {"text": text, "is_final": is_final, "confidence": 0.99, "start_ms": at_ms - 100,
             "end_ms": at_ms, "language": "en"}
            for text in texts
        ],
        "final_audio_proc_ms": at_ms,
        "total_audio_proc_ms": at_ms,
    }  # fmt: skip
    return json.dumps(body)


class FakeSoniox(FakeProvider):
    """Words are `sx1`, `sx2`, … and become a final at a finalize, or at once with endpointing.

    Those it heard are `sx:1`: final at a finalize, and with endpointing at 0.3 s of pause.
    """

    tag = "sx"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configs: list[dict[str, Any]] = []

    def key_of(self, request: Request) -> str:
        """`Bearer <key>`."""
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    async def greet(self, session: Session) -> None:
        """Read the config."""
        config = json.loads(await session.connection.recv())
        session.rate = config.get("sample_rate") or 16_000
        session.has_endpointing = bool(config.get("enable_endpoint_detection"))
        self.configs.append(config)

    async def say(self, session: Session, text: str) -> None:
        """Send a word; with endpoint detection, its end too."""
        words = [f"{text} "] if text else []
        if words and session.has_endpointing:
            words.append("<end>")
        await self.send(session, tokens(session, *words))
        self.counters.finals += bool(text)

    async def interim(self, session: Session, text: str) -> None:
        """Send tokens that may change."""
        words = [f"{word} " for word in text.split()]
        await self.send(session, tokens(session, *words, is_final=False))

    async def final(self, session: Session, text: str, *, is_asked: bool) -> None:
        """Send final tokens, and what ends them."""
        words = [f"{word} " for word in text.split()]
        await self.send(session, tokens(session, *words, "<fin>" if is_asked else "<end>"))

    async def control(self, session: Session, message: str | bytes) -> bool:
        """Answer finalize and the empty end."""
        if not message:
            body = {"tokens": [], "finished": True, "final_audio_proc_ms": 0}
            await session.connection.send(json.dumps({**body, "total_audio_proc_ms": 0}))
            await session.connection.close(1000)
            return False
        if json.loads(message).get("type") == "finalize":
            await self.finish(session, is_asked=True)
        return True

    async def complain(self, session: Session, code: int) -> None:
        """Send an in-band error, then close. The live API's shape is not known: both exist."""
        body: dict[str, Any] = {"error_code": code, "error_message": "as told"}
        if self.behaviour.tokens:
            body["tokens"] = []
        await session.connection.send(json.dumps(body))
        await session.connection.close(1000)
