"""What Pipecat's ErrorFrames mean, with its categories (from 1.8) and without."""

from typing import Any

import pytest

pytest.importorskip("pipecat")

from pipecat.frames.frames import ErrorFrame

from stt_guard import Seen
from stt_guard.pipecat.words import MAY_HEAL, REASONS, seen_in
from tests.test_classify import ApiError, refused

try:
    from pipecat.utils.errors import ErrorCategory
except ImportError:  # before 1.8
    ErrorCategory = None

with_categories = pytest.mark.skipif(ErrorCategory is None, reason="Pipecat has none before 1.8")


def frame(error: str = "no", exception: Exception | None = None, category: str = "") -> ErrorFrame:
    """Return an ErrorFrame as a service pushes it."""
    made = ErrorFrame(error, exception=exception)
    if category:
        made.category = ErrorCategory(category)
    return made


@pytest.mark.parametrize(
    ("provider", "made", "seen"),
    [
        ("soniox", frame(exception=refused(401)), Seen("auth", "401")),
        ("soniox", frame(exception=refused(402)), Seen("quota", "402")),
        ("soniox", frame(exception=refused(408)), Seen("timeout", "408")),
        ("soniox", frame(exception=refused(429, **{"Retry-After": "7"})),
         Seen("rate_limit", "429", 7.0)),
        ("soniox", frame("Error: 402 (_receive_messages) - x"), Seen("quota", "402")),
        ("soniox", frame("Error: 408 (_receive_messages) - x"), Seen("bad_request", "408")),
        ("soniox", frame("Error: 503 (_receive_messages) - x"), Seen("server_error", "503")),
        ("soniox", frame("gave up"), Seen()),
        ("gladia", frame("Unable to connect", Exception(
            "G#0 Failed to initialize Gladia session: 401 - x")), Seen("auth", "401")),
        ("openai", frame("Unknown error occurred: Error code: 401 - x"), Seen("auth", "401")),
        ("groq", frame("Unknown error occurred: Error code: 403 - x"), Seen("auth", "403")),
        ("fal", frame("Fal API error (401): x"), Seen("auth", "401")),
        ("deepgram", frame("no", TimeoutError()), Seen("timeout")),
        ("deepgram", frame("received 1011 (internal error) NET-0001; then sent 1011 (x)"),
         Seen("bad_request", "net-0001")),
        ("deepgram", frame("no close frame received or sent"), Seen()),
    ],
)  # fmt: skip
def test_without_a_category_the_exception_decides_then_the_fixed_text(provider, made, seen):
    assert seen_in(made, provider) == seen


@with_categories
@pytest.mark.parametrize(
    ("category", "reason"),
    [("authentication", "auth"), ("authorization", "auth"), ("invalid_request", "bad_request"),
     ("quota", "quota"), ("rate_limit", "rate_limit"), ("server", "server_error"),
     ("unknown", "unknown"), ("connectivity", "unknown")],
)  # fmt: skip
def test_a_category_means(category, reason):
    assert seen_in(frame(category=category), "soniox") == Seen(reason)


@with_categories
def test_every_word_of_ours_is_a_category_of_pipecat():
    left = {"unknown", "connectivity", "application"}

    assert {one.value for one in ErrorCategory} == {*REASONS, *left}


@with_categories
def test_what_the_application_broke_is_not_the_providers():
    assert seen_in(frame(exception=refused(401), category="application"), "soniox") is None


@with_categories
@pytest.mark.parametrize(
    ("provider", "made", "seen"),
    [
        ("soniox", ("Error: 402 (_receive_messages) - x", None, "quota"), Seen("quota", "402")),
        ("soniox", ("Error: 408 (_receive_messages) - x", None, "unknown"),
         Seen("bad_request", "408")),
        ("soniox", ("no", refused(408), "unknown"), Seen("timeout", "408")),
        ("soniox", ("no", refused(429, **{"Retry-After": "7"}), "rate_limit"),
         Seen("rate_limit", "429", 7.0)),
        ("openai", ("no", ApiError(status_code=429, code="insufficient_quota"), "rate_limit"),
         Seen("quota", "insufficient_quota")),
        ("aws", ("no", refused(403), "connectivity"), Seen("connection", "403")),
        ("deepgram", ("no", ConnectionResetError(), "connectivity"), Seen("connection")),
        ("deepgram", ("no", TimeoutError(), "connectivity"), Seen("timeout")),
        ("deepgram", ("no", TimeoutError(), "server"), Seen("server_error")),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_with_a_category_it_wins_and_the_exception_gives_the_code(provider, made, seen):
    assert seen_in(frame(*made), provider) == seen


def test_a_text_that_is_none_costs_nothing():
    made: Any = frame()
    made.error = None

    assert seen_in(made, "soniox") == Seen()


def test_what_trips_a_fleet_is_never_waited_for():
    assert not MAY_HEAL & {"auth", "quota", "rate_limit", "stall", "cancelled"}
