"""Deepgram's `/v1/listen`: Results for audio, Finalize, KeepAlive, CloseStream."""

import json
from typing import Any

from websockets.http11 import Request

from tests.fakes.provider import FakeProvider
from tests.fakes.session import RESULT_EVERY_S, Session


def results(text: str, at_s: float, *, is_final: bool, from_finalize: bool = False) -> str:
    """Return a Results message."""
    word = {"word": text, "start": at_s, "end": at_s + RESULT_EVERY_S, "confidence": 0.99}
    best = {"transcript": text, "confidence": 0.99, "words": [word] if text else []}
    body: dict[str, Any] = {
        "type": "Results",
        "channel_index": [0, 1],
        "start": at_s,
        "duration": RESULT_EVERY_S,
        "is_final": is_final,
        "speech_final": is_final,
        "from_finalize": from_finalize,
        "channel": {"alternatives": [best]},
        "metadata": {
            "request_id": "fake",
            "model_uuid": "fake",
            "model_info": {"name": "fake", "version": "0", "arch": "nova-3"},
        },
    }
    return json.dumps(body)


class FakeDeepgram(FakeProvider):
    """Words are `dg1`, `dg2`, …; those it heard are `dg:1`, final at a Finalize and at a pause."""

    tag = "dg"

    def key_of(self, request: Request) -> str:
        """`Token <key>`."""
        return request.headers.get("Authorization", "").removeprefix("Token ")

    async def say(self, session: Session, text: str) -> None:
        """Send the interim, then the final."""
        at_s = (session.words - 1) * RESULT_EVERY_S
        for is_final in (False, True):
            await self.send(session, results(text, at_s, is_final=is_final))
        self.counters.finals += bool(text)

    async def interim(self, session: Session, text: str) -> None:
        """Send Results that may change."""
        await self.send(session, results(text, session.final_s, is_final=False))

    async def final(self, session: Session, text: str, *, is_asked: bool) -> None:
        """Send Results that are final, empty ones too."""
        message = results(text, session.final_s, is_final=True, from_finalize=is_asked)
        await self.send(session, message)

    async def control(self, session: Session, message: str | bytes) -> bool:
        """Answer Finalize and CloseStream."""
        kind = json.loads(message or "{}").get("type") if isinstance(message, str) else None
        if kind == "Finalize":
            await self.finish(session, is_asked=True)
        if kind == "CloseStream":
            metadata = {"type": "Metadata", "request_id": "fake", "duration": 2.0, "channels": 1}
            await session.connection.send(json.dumps(metadata))
            await session.connection.close(1000)
            return False
        return True

    async def complain(self, session: Session, code: int) -> None:
        """Send an Error, then close with 1011."""
        error = {"type": "Error", "description": f"{code}", "message": "", "variant": "x"}
        await session.connection.send(json.dumps(error))
        await session.connection.close(1011, "NET-0000")
