"""What the installed libraries really raise and say when a provider refuses, on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from stt_guard import Seen, classify
from stt_guard.classify import from_text

KEY = "sk-secret"


@contextlib.asynccontextmanager
async def refusing(status: int, **headers: str) -> AsyncIterator[str]:
    """Refuse each WebSocket with a status; yields `127.0.0.1:port`."""

    def refuse(connection: ServerConnection, _: Request) -> Response:
        response = connection.respond(HTTPStatus(status), "no")
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def never(_: ServerConnection) -> None:
        raise AssertionError

    async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def answering(status: int, body: Any) -> AsyncIterator[str]:
    """Answer each POST with a status and a body; yields the URL."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("/v1"))
    finally:
        await server.close()


async def raised(attempt: Callable[[], Awaitable[Any]]) -> Exception:
    """Return what an attempt raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is tested
        await asyncio.wait_for(attempt(), 5)
    return caught.value


@pytest.mark.parametrize(
    ("status", "seen"),
    [(401, Seen("auth", "401")), (402, Seen("quota", "402")), (408, Seen("timeout", "408")),
     (429, Seen("rate_limit", "429", 7.0)), (503, Seen("server_error", "503"))],
)  # fmt: skip
async def test_a_refused_websocket_of_each_client(status, seen):
    async with refusing(status, **{"Retry-After": "7"}) as place:
        sent = {"Authorization": KEY}
        async with aiohttp.ClientSession() as session:
            by_aiohttp = await raised(lambda: session.ws_connect(f"ws://{place}", headers=sent))
        by_websockets = await raised(
            lambda: connect(f"ws://{place}", additional_headers=sent).__aenter__()
        )

    assert classify(by_aiohttp, "soniox") == seen
    assert classify(by_websockets, "soniox") == seen


async def test_deepgrams_client_keeps_the_wait_of_a_rate_limit():
    deepgram = pytest.importorskip("deepgram")
    async with refusing(429, **{"Retry-After": "7"}) as place:
        environment = deepgram.DeepgramClientEnvironment(
            base=f"http://{place}", production=f"ws://{place}", agent=f"ws://{place}",
            agent_rest=f"http://{place}",
        )  # fmt: skip
        client = deepgram.AsyncDeepgramClient(api_key=KEY, environment=environment)
        error = await raised(lambda: client.listen.v1.connect(model="nova-3").__aenter__())

    assert type(error).__name__ == "ApiError"
    assert classify(error, "deepgram") == Seen("rate_limit", "429", 7.0)


async def test_openais_client_gives_its_code_and_its_wait():
    openai = pytest.importorskip("openai")
    body = {"error": {"code": "insufficient_quota", "message": KEY, "type": "insufficient_quota"}}
    seen = {}
    for status, said in ((401, {"error": {"message": KEY, "code": None}}), (429, body)):
        async with answering(status, said) as url:
            client = openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0)
            error = await raised(
                lambda client=client: client.audio.transcriptions.create(
                    file=("a.wav", b"RIFF"), model="x"
                )
            )
            seen[status] = classify(error, "openai")

    assert seen == {401: Seen("auth", "401"), 429: Seen("quota", "insufficient_quota")}


async def frames_of(service: Any) -> list[Any]:
    """Return what a service of segments yields for one."""

    async def nothing(*_: object, **__: object) -> None:
        return None

    for name in ("start_processing_metrics", "stop_processing_metrics"):
        setattr(service, name, nothing)  # they need a pipeline
    return [frame async for frame in service.run_stt(b"RIFF")]


@pytest.mark.parametrize("name", ["openai", "groq"])
async def test_pipecats_services_on_openais_client_say_a_401_in_their_text_alone(name):
    openai = pytest.importorskip("pipecat.services.openai.stt")
    groq = pytest.importorskip("pipecat.services.groq.stt")
    service = {"openai": openai.OpenAISTTService, "groq": groq.GroqSTTService}[name]
    async with answering(401, {"error": {"message": KEY, "code": "invalid_api_key"}}) as url:
        (frame,) = await frames_of(service(api_key=KEY, base_url=url))

    assert frame.exception is None
    assert from_text(frame.error, name) == Seen("auth", "401")


async def test_pipecats_fal_says_a_401_in_its_text_alone():
    fal = pytest.importorskip("pipecat.services.fal.stt")
    async with answering(401, {"detail": KEY}) as url, aiohttp.ClientSession() as real:

        class Redirected:
            def post(self, _: str, **options: Any) -> Any:
                return real.post(url, **options)

        (frame,) = await frames_of(fal.FalSTTService(api_key=KEY, aiohttp_session=Redirected()))

    assert from_text(frame.error, "fal") == Seen("auth", "401")


@pytest.mark.parametrize(("status", "reason"), [(401, "auth"), (503, "server_error")])
async def test_pipecats_gladia_raises_a_bare_exception_with_the_status_in_its_text(status, reason):
    gladia = pytest.importorskip("pipecat.services.gladia.stt")
    async with answering(status, {"message": KEY}) as url:
        service = gladia.GladiaSTTService(api_key=KEY, url=url)
        error = await raised(lambda: service._setup_gladia({}))

    assert type(error) is Exception
    assert classify(error, "gladia") == Seen(reason, str(status))
