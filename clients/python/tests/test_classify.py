"""What errors mean: shared statuses, close codes, and what is never taken from an error."""

import asyncio
import ssl
import urllib.error
from email.message import Message
from types import SimpleNamespace

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from stt_guard import Seen, classify
from stt_guard.classify import TABLES, from_close, from_code, from_status, from_text

REASONS = {"connection", "timeout", "server_error", "stream", "stall", "auth", "quota",
           "rate_limit", "bad_request", "cancelled", "unknown"}  # fmt: skip


class ApiError(Exception):
    """An SDK's error, with whatever attributes it keeps."""

    def __init__(self, **values: object) -> None:
        super().__init__("Authorization: Bearer sk-secret")
        self.__dict__.update(values)


class HostileError(Exception):
    """An error of which nothing can be read."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("sk-secret")

    def __str__(self) -> str:
        raise RuntimeError("sk-secret")


def refused(status: int, **headers: str) -> InvalidStatus:
    """Return what the real WebSocket client raises for a refused handshake."""
    return InvalidStatus(Response(status, "no", Headers(headers), b"secret"))


def raised_from(outer: BaseException, inner: BaseException) -> BaseException:
    """Return an error that was raised because of another."""
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refused(401), "auth"),
        (refused(402), "quota"),
        (refused(503), "server_error"),
        (refused(404), "bad_request"),
        (refused(408), "timeout"),
        (refused(504), "timeout"),
        (ConnectionRefusedError(), "connection"),
        (ssl.SSLError(), "connection"),
        (OSError(113, "no route"), "connection"),
        (urllib.error.HTTPError("http://x", 401, "no", Message(), None), "auth"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (EOFError(), "connection"),
        (ConnectionClosedError(Close(1011, "x"), None), "stream"),
        (ConnectionClosedError(None, None), "connection"),
        (ApiError(status_code=500), "server_error"),
        (ApiError(status=418), "unknown"),
        (ApiError(status_code=True), "unknown"),
        (ValueError("401 Unauthorized"), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_shared_error_means(error, reason):
    assert classify(error).reason == reason


def test_an_error_of_which_nothing_can_be_read_is_unknown():
    assert classify(HostileError()) == Seen()
    assert classify(HostileError(), "soniox") == Seen()


@pytest.mark.parametrize("provider", ["", *TABLES])
def test_408_of_a_handshake_is_a_timeout_for_every_provider(provider):
    assert classify(refused(408), provider) == Seen("timeout", "408")
    assert classify(ApiError(status_code=408, body=None), provider) == Seen("timeout", "408")
    assert from_status(408, provider) == Seen("timeout", "408")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "cancelled"),
        (1001, "stream"),
        (1003, "bad_request"),
        (1005, "stream"),
        (1006, "connection"),
        (1008, "unknown"),
        (1011, "stream"),
        (1012, "stream"),
        (1013, "rate_limit"),
        (1014, "server_error"),
        (1015, "connection"),
        (3000, "auth"),
        (3003, "auth"),
        (3008, "timeout"),
        (3999, "unknown"),
        (4008, "unknown"),
        (4029, "unknown"),
        (4401, "unknown"),
        (4429, "unknown"),
    ],
)
def test_a_close_code_means_the_same_of_all_that_do_not_say_otherwise(code, reason):
    assert from_close(code, "some text with sk-secret") == Seen(reason, str(code))
    assert from_close(code, "", "soniox") == Seen(reason, str(code))
    assert classify(ConnectionClosedError(Close(code, "x"), None)) == Seen(reason, str(code))


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ConnectionClosedOK(Close(1000, ""), Close(1000, ""), True), Seen("cancelled", "1000")),
        (ConnectionClosedOK(Close(1001, ""), Close(1001, ""), True), Seen("stream", "1001")),
        (ConnectionClosedOK(Close(1001, ""), Close(1001, ""), False), Seen("cancelled")),
        (ConnectionClosedError(None, Close(1001, "")), Seen("cancelled")),
        (ConnectionClosedError(None, Close(1000, "")), Seen("cancelled")),
        (ConnectionClosedError(None, Close(1011, "keepalive ping timeout")),
         Seen("connection", "1006")),
        (ConnectionClosedError(Close(1011, ""), Close(1011, "ping timeout"), False),
         Seen("connection", "1006")),
    ],
    ids=["1000", "its 1001", "our 1001", "our 1001, unanswered", "our 1000, unanswered",
         "our ping unanswered", "our ping answered by a close"],
)  # fmt: skip
def test_a_close_of_ours_is_no_failure_of_the_provider(error, seen):
    assert classify(error) == seen


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"error_code": 401}, Seen("auth", "401")),
        ({"error_code": "402"}, Seen("quota", "402")),
        ({"code": 3}, Seen()),
        ({"error": {"code": 503}}, Seen("server_error", "503")),
        ({"error": {"code": "made_up_sk-secret"}}, Seen()),
        ({"error_code": 1012}, Seen("stream", "1012")),
        ({"code": True}, Seen()),
    ],
)
def test_a_number_within_a_body_is_read_as_what_it_is(body, seen):
    assert classify(ApiError(body=body)) == seen
    assert classify(Exception(body)) == seen


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        (429, Seen("rate_limit", "429")),
        ("503", Seen("server_error", "503")),
        (1012, Seen("stream", "1012")),
        (9999, Seen()),
        ("sk-secret", Seen()),
        ("", Seen()),
    ],
)
def test_a_code_that_no_table_has(code, seen):
    assert from_code(code) == seen
    assert from_code(code, "soniox") == seen


def test_a_wrapper_hides_nothing():
    assert classify(raised_from(RuntimeError("no"), refused(401))) == Seen("auth", "401")


def test_a_suppressed_cause_is_looked_at_too():
    error = RuntimeError("no")
    error.__context__, error.__suppress_context__ = refused(401), True  # `from None`

    assert classify(error) == Seen("auth", "401")


def test_a_group_is_its_first_error():
    group = ExceptionGroup("tasks", [refused(503), ValueError()])

    assert classify(group) == Seen("server_error", "503")


def test_a_ring_of_causes_ends():
    one, other = RuntimeError(), RuntimeError()
    one.__cause__, other.__cause__ = other, one

    assert classify(one) == Seen()


def test_a_timeout_within_a_connection_error_is_a_timeout():
    outer = raised_from(ApiError(), TimeoutError())
    raised_from(outer.__cause__, asyncio.CancelledError())

    assert classify(outer) == Seen("timeout")


def test_what_the_system_says_of_its_own_error_is_not_looked_beneath():
    assert classify(raised_from(ConnectionResetError(), refused(401))) == Seen("connection")


def test_the_providers_word_beneath_wins_over_a_wrappers_status():
    inner = ApiError(grpc_status_code=SimpleNamespace(name="OUT_OF_RANGE"))

    assert classify(raised_from(ApiError(status_code=400), inner), "google") == Seen(
        "stream", "out_of_range"
    )


def test_a_text_means_nothing_without_a_pattern():
    assert from_text("Error: 401 (_receive_messages) - no") == Seen()
    assert from_text("Error: 401 (_receive_messages) - no", "deepgram") == Seen()
    assert from_text("", "soniox") == Seen()


def test_every_table_names_its_sources_and_only_the_contracts_reasons():
    for table in TABLES.values():
        assert table.sources
        assert all(source.startswith("https://") for source in table.sources)
        words = {*table.codes.values(), *table.closes.values(), *table.statuses.values()}
        assert words <= REASONS
        assert all(code == code.lower() for code in table.codes)
        assert all(pattern.groups == 1 for pattern in table.texts)
    assert {from_status(status).reason for status in range(100, 600)} <= REASONS
    assert {from_close(code).reason for code in range(1000, 5000)} <= REASONS
