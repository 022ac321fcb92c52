"""What errors mean: shared statuses, close codes, and each provider's own words."""

import asyncio
import ssl
from types import SimpleNamespace

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from stt_guard import Seen, classify
from stt_guard.classify import TABLES, from_close, from_status


class ApiError(Exception):
    """An SDK's error, with whatever attributes it keeps."""

    def __init__(self, **values: object) -> None:
        super().__init__("Authorization: Bearer sk-secret")
        self.__dict__.update(values)


def refused(status: int, **headers: str) -> InvalidStatus:
    """Return what the real WebSocket client raises for a refused handshake."""
    return InvalidStatus(Response(status, "no", Headers(headers), b"secret"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refused(401), "auth"),
        (refused(402), "quota"),
        (refused(503), "server_error"),
        (refused(404), "bad_request"),
        (ConnectionRefusedError(), "connection"),
        (ssl.SSLError(), "connection"),
        (OSError(113, "no route"), "connection"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (EOFError(), "connection"),
        (ConnectionClosedError(Close(1011, "x"), None), "stream"),
        (ConnectionClosedError(None, None), "connection"),
        (ApiError(status_code=500), "server_error"),
        (ApiError(status=418), "unknown"),
        (ValueError("401 Unauthorized"), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_shared_error_means(error, reason):
    assert classify(error).reason == reason


@pytest.mark.parametrize(
    ("provider", "error", "reason"),
    [
        ("deepgram", ConnectionClosedError(Close(1011, "NET-0001"), None), "bad_request"),
        ("deepgram", ConnectionClosedError(Close(1011, "NET-0000"), None), "stream"),
        ("deepgram", ApiError(status_code=429, body={"err_code": "ASR_PAYMENT_REQUIRED"}), "quota"),
        ("openai", ApiError(status_code=429, code="insufficient_quota"), "quota"),
        ("openai", ApiError(status_code=429, code="rate_limit_exceeded"), "rate_limit"),
        ("google", ApiError(code=429, grpc_status_code=SimpleNamespace(name="INTERNAL")),
         "server_error"),
        ("sarvam", ApiError(status_code=429, body={"error": {"code": "insufficient_quota_error"}}),
         "quota"),
        ("soniox", ApiError(status_code=408), "bad_request"),
    ],
)  # fmt: skip
def test_a_providers_own_word_wins(provider, error, reason):
    assert classify(error, provider).reason == reason


def test_a_wrapper_hides_nothing():
    outer = RuntimeError("could not connect")
    outer.__cause__ = refused(401)

    assert classify(outer) == Seen("auth", "401")


def test_a_timeout_within_a_connection_error_is_a_timeout():
    outer = ApiError()
    outer.__cause__ = TimeoutError()
    outer.__cause__.__cause__ = asyncio.CancelledError()

    assert classify(outer) == Seen("timeout")


def test_a_rate_limit_says_when_to_come_back():
    assert classify(refused(429, **{"Retry-After": "7"})) == Seen("rate_limit", "429", 7.0)
    assert classify(refused(503, **{"Retry-After": "7"})).retry_after_s is None
    assert classify(refused(429, **{"Retry-After": "Wed, 21 Oct"})).retry_after_s is None


def test_nothing_of_the_text_is_kept():
    seen = classify(ApiError(status_code=401, body={"err_code": "INVALID_AUTH"}), "deepgram")

    assert "secret" not in repr(seen)


def test_every_table_names_its_source_and_only_the_contracts_reasons():
    reasons = {"connection", "timeout", "server_error", "stream", "stall", "auth", "quota",
               "rate_limit", "bad_request", "cancelled", "unknown"}  # fmt: skip
    for table in TABLES.values():
        assert table.source.startswith("https://")
        assert {*table.codes.values(), *table.closes.values()} <= reasons
    assert {from_status(status).reason for status in range(100, 600)} <= reasons
    assert {from_close(code).reason for code in range(1000, 5000)} <= reasons
