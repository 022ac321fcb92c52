"""What a refusal's headers give: how long to wait, and nothing else. No secret is ever kept."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.legacy.exceptions import InvalidStatusCode
from yarl import URL

from stt_guard import Seen, classify
from stt_guard.classify import TABLES, from_status
from tests.test_classify import ApiError, raised_from, refused

SECRET = "Bearer sk-secret"


class Guarded:
    """Headers that may be asked for one name only."""

    def __init__(self, retry_after: object = "7") -> None:
        self.retry_after = retry_after
        self.asked: list[str] = []

    def get(self, name: str) -> Any:
        """Answer the one question."""
        assert name == "Retry-After"
        self.asked.append(name)
        return self.retry_after

    def _never(self, *_: object) -> Any:
        raise AssertionError(SECRET)

    __iter__ = __getitem__ = __len__ = __contains__ = keys = values = items = _never
    __str__ = __repr__ = _never


class Never:
    """Headers that may not be asked for anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(SECRET)

    __iter__ = __getitem__ = __len__ = __str__ = __repr__ = __getattr__  # type: ignore[assignment]


def response(status: int, headers: object) -> SimpleNamespace:
    """Return a response with these headers."""
    return SimpleNamespace(status_code=status, headers=headers)


def wait_s(value: object, status: int = 429) -> float | None:
    """Return what is kept of a `Retry-After`."""
    return classify(ApiError(response=response(status, Guarded(value)))).retry_after_s


def in_s(seconds: float) -> str:
    """Return an HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "kept"),
    [("7", 7.0), ("0", 0.0), (" 15 ", 15.0), ("1.5", 1.5), ("300", 300.0), ("301", 300.0),
     ("86400", 300.0), ("-1", None), ("nan", None), ("inf", None), ("1e400", None), ("", None),
     ("soon", None), ("Wed, 21 Oct", None), ("7" * 65, None), (7, None), (b"7", None),
     (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
     ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0), ("Wed, 99 Oct 2015 07:28:00 GMT", None)],
)  # fmt: skip
def test_a_retry_after_is_kept_up_to_five_minutes(value, kept):
    assert wait_s(value) == kept


def test_a_date_is_a_wait_from_now():
    wait = wait_s(in_s(60))

    assert wait is not None
    assert 57 < wait <= 60


def test_only_a_rate_limit_waits():
    assert wait_s("7", status=503) is None
    assert from_status(429, retry_after_s=7.0) == Seen("rate_limit", "429", 7.0)
    assert from_status(429, retry_after_s=7000.0) == Seen("rate_limit", "429", 300.0)
    assert from_status(503, retry_after_s=7.0) == Seen("server_error", "503")


def test_the_real_clients_response_is_read():
    assert classify(refused(429, **{"Retry-After": "7"})) == Seen("rate_limit", "429", 7.0)
    assert classify(refused(429, **{"retry-after": "7"})).retry_after_s == 7.0
    assert classify(InvalidStatusCode(429, Headers({"Retry-After": "7"}))).retry_after_s == 7.0


def test_two_of_them_are_as_good_as_none():
    headers = Headers([("Retry-After", "7"), ("Retry-After", "8")])

    assert classify(InvalidStatus(Response(429, "no", headers, b""))).retry_after_s is None


def handshake_error(status: int = 429, retry_after: str = "7") -> aiohttp.WSServerHandshakeError:
    """Return aiohttp's error, with the request and its key in it as aiohttp keeps them."""
    sent = CIMultiDictProxy(CIMultiDict({"Authorization": SECRET, "Retry-After": "99"}))
    request = aiohttp.RequestInfo(URL("wss://x"), "GET", sent, URL("wss://x"))
    received = CIMultiDict({"Retry-After": retry_after})
    return aiohttp.WSServerHandshakeError(
        request, (), status=status, message="no", headers=received
    )


def test_aiohttps_refusal_gives_what_the_response_said():
    assert classify(handshake_error()) == Seen("rate_limit", "429", 7.0)
    assert classify(handshake_error(401)) == Seen("auth", "401")


def test_what_livekit_raised_its_error_from_is_read():
    errors = pytest.importorskip("livekit.agents")
    outer = errors.APIStatusError("no", status_code=429)
    outer.__suppress_context__, outer.__context__ = True, handshake_error()  # `from None`

    assert classify(outer, "deepgram") == Seen("rate_limit", "429", 7.0)


def deepgrams(status: int, headers: Any) -> Exception:
    """Return deepgram-sdk's error of a refused WebSocket: its headers are the request's."""
    core = pytest.importorskip("deepgram.core")
    error = core.ApiError(status_code=status, body="Unexpected error when initializing")
    error.headers = headers
    return error


def test_deepgrams_refusal_gives_what_the_response_beneath_it_said():
    error = deepgrams(429, Never())
    error.__context__ = InvalidStatusCode(429, Headers({"Retry-After": "7"}))

    assert classify(error, "deepgram") == Seen("rate_limit", "429", 7.0)


def test_an_errors_own_headers_are_never_asked():
    for provider in ("", *TABLES):
        for status in (401, 429, 503):
            assert classify(deepgrams(status, Never()), provider).retry_after_s is None
            assert classify(ApiError(status_code=status, headers=Never()), provider).code == str(
                status
            )


def test_a_response_of_another_failure_beneath_is_not_read():
    error = raised_from(
        ApiError(status_code=429), ApiError(response=response(200, Never()), status_code=400)
    )

    assert classify(error) == Seen("rate_limit", "429")


def test_one_header_is_asked_for_once_and_only_of_a_rate_limit():
    limited, failed = Guarded(), Guarded()
    classify(ApiError(response=response(429, limited)), "openai")
    classify(ApiError(response=response(401, failed)), "openai")

    assert limited.asked == ["Retry-After"]
    assert failed.asked == []


def test_headers_that_fail_cost_nothing_but_the_wait():
    class Failing:
        def get(self, name: str) -> str:
            raise RuntimeError(SECRET)

    assert classify(ApiError(response=response(429, Failing()))) == Seen("rate_limit", "429")
    assert classify(ApiError(response=response(429, None))) == Seen("rate_limit", "429")


LEAKY = {
    "status_code": 429,
    "headers": {"authorization": SECRET},
    "body": {"error": {"code": SECRET, "message": SECRET, "type": SECRET, "status": SECRET},
             "err_code": SECRET, "error_type": SECRET, "error_code": SECRET, "code": SECRET,
             "detail": {"status": SECRET}},
    "code": SECRET,
    "type": SECRET,
    "message": SECRET,
}  # fmt: skip


@pytest.mark.parametrize("provider", ["", *TABLES])
def test_no_secret_is_in_what_is_returned(provider):
    errors = [
        ApiError(**LEAKY),
        ApiError(**{**LEAKY, "status_code": 1008, "body": f"msg.data=1008 msg.extra={SECRET!r}"}),
        ApiError(**{**LEAKY, "status_code": None}),
        Exception(SECRET),
        Exception({"type": SECRET, "code": SECRET}),
        handshake_error(429, SECRET),
        raised_from(RuntimeError(SECRET), ApiError(**LEAKY)),
    ]

    assert not [one for one in errors if "secret" in repr(classify(one, provider))]
