"""Log lines: one JSON object each where machines read them, plain tracebacks for people, one line a
request, and nothing in any of them that a terminal obeys."""

import asyncio
import io
import json
import logging
import logging.config

import pytest
import structlog
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client as Browser
from django.urls import path
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from controlplane.handler import Handler
from controlplane.logs import logging_config
from fallback import catalog
from tests.asking import ask
from tests.rest import make_key
from tests.serving import serving

NASTY = "\x1b]0;pwn\x07\x1b[2J\r\n2026-01-01T00:00:00Z [info] all is well\x9b31m\u202e\u2028"


@pytest.fixture
def lines(request):
    """Log in the format named by the parameter; return where the lines go."""
    config = logging_config(request.param, "info")
    stream = io.StringIO()
    config["handlers"]["stderr"]["stream"] = stream
    config["root"]["handlers"] = []
    config["loggers"] = {"under_test": {"handlers": ["stderr"], "propagate": False}}
    logging.config.dictConfig({**config, "incremental": False})
    return stream


@pytest.fixture
def everything():
    """Log as a process does, uvicorn's and Django's lines too; return where the lines go."""
    config = logging_config("json", "info")
    stream = io.StringIO()
    config["handlers"]["stderr"]["stream"] = stream
    before, level = logging.root.handlers[:], logging.root.level
    logging.config.dictConfig(config)
    yield stream
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


def told(stream: io.StringIO) -> list[dict]:
    """Return the lines as objects."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail_with_a_local() -> None:
    """Raise, with a local variable that no log should show."""
    secret_local = "hunter2"
    raise RuntimeError(f"of {len(secret_local)} letters")


@pytest.mark.parametrize("lines", ["json"], indirect=True)
def test_a_json_line_is_one_object_with_its_facts(lines):
    logging.getLogger("under_test").setLevel("INFO")
    structlog.get_logger("under_test").info("child_fell", exit_code=-9, at=(1, None, 2.5, True))

    line = json.loads(lines.getvalue())
    assert (line["event"], line["exit_code"], line["level"]) == ("child_fell", -9, "info")
    assert line["at"] == [1, None, 2.5, True]
    assert {"timestamp", "logger"} <= line.keys()


@pytest.mark.parametrize("lines", ["json", "console"], indirect=True)
def test_a_traceback_shows_no_local_variables(lines):
    try:
        fail_with_a_local()
    except RuntimeError:
        logging.getLogger("under_test").exception("it failed")

    assert "RuntimeError: of 7 letters" in lines.getvalue()
    assert "hunter2" not in lines.getvalue().replace('secret_local = "hunter2"', "")


@pytest.mark.parametrize("lines", ["json", "console"], indirect=True)
@pytest.mark.parametrize(
    "how", ["event", "fact", "nested", "standard", "argument", "extra", "error"]
)
def test_s21_no_text_reaches_a_terminal_as_a_command_or_begins_a_line(lines, how):
    logging.getLogger("under_test").setLevel("INFO")
    ours, standard = structlog.get_logger("under_test"), logging.getLogger("under_test")
    try:
        raise ValueError(NASTY)
    except ValueError:
        {
            "event": lambda: ours.info(NASTY),
            "fact": lambda: ours.info("order", reason=NASTY),
            "nested": lambda: ours.info(
                "order", body={NASTY: [NASTY, {"a": (NASTY,)}]}, who={NASTY}
            ),
            "standard": lambda: standard.info(NASTY),
            "argument": lambda: standard.info("Not found: %s", NASTY),
            "extra": lambda: standard.info(
                "seen", extra={"value": NASTY, "thing": ValueError(NASTY)}
            ),
            "error": lambda: standard.exception("it failed"),
        }[how]()

    written = lines.getvalue()
    if lines.getvalue().startswith("{"):
        written += str(json.loads(written))
    assert "pwn" in written
    assert not [it for it in written if not it.isprintable() and it != "\n"]
    assert not [line for line in written.splitlines() if line.startswith("2026-01-01")]


@pytest.mark.parametrize("lines", ["json", "console"], indirect=True)
def test_plain_texts_of_every_language_are_written_as_they_are(lines):
    logging.getLogger("under_test").setLevel("INFO")
    structlog.get_logger("under_test").info("order", reason="नमस्ते, grüße — “ok” 🎧")

    text = lines.getvalue()
    assert "नमस्ते, grüße — “ok” 🎧" in (str(json.loads(text)) if text.startswith("{") else text)


# --- one line a request


@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("GET", "/api/v1/status", 401),
        ("GET", "/api/nope", 404),
        ("GET", "/nope", 404),
        ("POST", "/livez", 413),
        ("GET", "/slack/events", 405),
        ("POST", "/orders", 403),
        ("GET", "/admin/login/", 200),
    ],
)
@pytest.mark.django_db(transaction=True)
async def test_s20_a_request_is_one_line_with_no_query_string_and_no_traceback(
    everything, method, address, status
):
    body = (b"x" * 20_000, b"") if status == 413 else (b"",)
    headers = {"x-request-id": "mine-1", "user-agent": NASTY[:40]}
    await ask(Handler(), address, method, body=body, headers=headers, query="key=stt_abc.def")

    found = told(everything)
    assert [(it["event"], it["status"]) for it in found if it["logger"] == "request"] == [
        ("request", status)
    ]
    assert {it["request_id"] for it in found} == {"mine-1"}
    assert [it for it in found if it["logger"] == "django.request" or "exception" in it] == []
    assert "stt_abc" not in everything.getvalue()
    assert found[-1]["ip"] == "127.0.0.1"
    assert found[-1]["path"] == address


@pytest.fixture
def viewer() -> str:
    """Return the cookie of somebody signed in who may do nothing in the admin."""
    browser = Browser()
    browser.force_login(User.objects.create_user("vi", is_staff=True))
    return f"sessionid={browser.cookies['sessionid'].value}"


@pytest.mark.django_db(transaction=True)
async def test_s20_what_the_admin_refuses_is_one_line_that_says_whom(everything, viewer):
    answered = await ask(Handler(), "/admin/auth/user/", headers={"cookie": viewer})

    [line] = told(everything)
    assert (answered.status, line["status"], line["by"]) == (403, 403, "admin:vi")
    assert line["level"] == "warning"


async def test_s20_a_page_that_sent_a_form_is_named_without_its_query_string(everything):
    sent = {"referer": "https://evil.example/page?key=hunter2", "cookie": f"csrftoken={'a' * 32}"}
    answered = await ask(Handler(), "/orders", "POST", headers=sent, scheme="https")

    assert answered.status == 403
    assert "evil.example/page" in everything.getvalue()
    assert "hunter2" not in everything.getvalue()


@pytest.mark.django_db(transaction=True)
async def test_s20_on_a_real_server_nothing_else_is_written(everything):
    async with serving() as address:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /nope?token=hunter2 HTTP/1.1\r\nHost: localhost\r\n"
                     b"Connection: close\r\n\r\n")  # fmt: skip
        await reader.read()
        writer.close()
        for where in ("/ws/v1/status?key=hunter2", "/ws/nope?key=hunter2"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{address}{where}", proxy=None)
            assert refused.value.response.status_code == 403
        for garbage in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            assert b" 400 " in await reader.readline()
            writer.close()

    events = [it["event"] for it in told(everything) if it["logger"] != "uvicorn.error"]
    assert events == ["request", "feed_refused", "feed_refused", "not_http", "not_http"]
    assert [it for it in told(everything) if "exception" in it] == []
    assert "hunter2" not in everything.getvalue()


@pytest.fixture
def key():
    """Return a reader's key named `dash`."""
    made = make_key("reader", name="dash")
    catalog.reload()
    return made


@pytest.mark.django_db(transaction=True)
async def test_the_line_names_the_key_and_never_holds_it(everything, key):
    await ask(Handler(), "/api/v1/status", headers={"authorization": f"Bearer {key}"})

    assert told(everything)[-1]["by"] == "api:dash"
    assert key.split(".")[1] not in everything.getvalue()


def fail(_request: HttpRequest) -> None:
    """Fail as a view with a bug does."""
    raise RuntimeError("a bug")


urlpatterns = [path("bug", fail)]


async def test_a_bug_is_told_once_with_its_traceback(everything, settings):
    settings.ROOT_URLCONF = __name__
    answered = await ask(Handler(), "/bug", headers={"x-request-id": "mine-2"})

    found = told(everything)
    assert answered.status == 500
    assert [
        it["request_id"] for it in found if "RuntimeError: a bug" in it.get("exception", "")
    ] == ["mine-2"]
    assert [(it["level"], it["status"]) for it in found if it["logger"] == "request"] == [
        ("error", 500)
    ]


async def test_health_and_static_files_that_went_well_are_not_told(everything):
    await ask(Handler(), "/livez")
    await ask(Handler(), "/static/admin/css/base.css")

    assert told(everything) == []
