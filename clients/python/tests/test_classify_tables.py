"""Each provider's own words, one by one, as its libraries and the frameworks bring them."""

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from stt_guard import Seen, classify
from stt_guard.classify import from_close, from_code, from_status, from_text
from tests.test_classify import ApiError, refused

agents = pytest.importorskip("livekit.agents")
APIConnectionError, APIError, APIStatusError = (
    agents.APIConnectionError,
    agents.APIError,
    agents.APIStatusError,
)


def in_band(body: dict[str, Any], status: int = -1) -> Exception:
    """Return what LiveKit's plugins raise for an error that came in-band."""
    return APIStatusError("sk-secret", status_code=status, body=body)


def closed(code: int, reason: str = "") -> Exception:
    """Return what LiveKit's plugins raise when the provider closes the socket."""
    body = f"msg.data={code} msg.extra={reason!r}"
    return APIStatusError("closed unexpectedly", status_code=code, body=body)


def named(name: str, base: type[Exception] = Exception, **values: object) -> Exception:
    """Return an error of a class of that name, as of a library that is not installed."""
    error = type(name, (base,), {})("sk-secret")
    error.__dict__.update(values)
    return error


CODES = {
    "deepgram": {
        "INVALID_AUTH": "auth",
        "INSUFFICIENT_PERMISSIONS": "auth",
        "ASR_PAYMENT_REQUIRED": "quota",
        "TOO_MANY_REQUESTS": "rate_limit",
        "NET-0000": "stream",
        "NET-0001": "bad_request",
        "DATA-0000": "bad_request",
    },
    "soniox": {
        "401": "auth",
        "402": "quota",
        "408": "bad_request",
        "413": "stream",
        "429": "rate_limit",
        "503": "server_error",
        "unauthenticated": "auth",
        "organization_balance_exhausted": "quota",
        "organization_monthly_budget_exhausted": "quota",
        "project_monthly_budget_exhausted": "quota",
        "limit_exceeded": "rate_limit",
        "max_concurrent_connections_reached": "rate_limit",
        "invalid_request": "bad_request",
        "model_not_available": "bad_request",
        "request_timeout": "bad_request",
        "max_duration_reached": "stream",
        "temp_api_key_session_expired": "stream",
        "internal_error": "server_error",
        "service_unavailable": "server_error",
    },
    "assemblyai": {
        "1008": "unknown",
        "3005": "server_error",
        "3006": "bad_request",
        "3007": "bad_request",
        "3008": "stream",
        "3009": "rate_limit",
    },
    "elevenlabs": {
        "auth_error": "auth",
        "invalid_api_key": "auth",
        "unaccepted_terms": "auth",
        "quota_exceeded": "quota",
        "rate_limited": "rate_limit",
        "queue_overflow": "rate_limit",
        "too_many_concurrent_requests": "rate_limit",
        "resource_exhausted": "server_error",
        "transcriber_error": "server_error",
        "session_time_limit_exceeded": "stream",
        "input_error": "bad_request",
        "commit_throttled": "bad_request",
        "chunk_size_exceeded": "bad_request",
        "insufficient_audio_activity": "bad_request",
    },
    "cartesia": {"concurrency_limited": "rate_limit"},
    "speechmatics": {
        "not_authorised": "auth",
        "timelimit_exceeded": "quota",
        "quota_exceeded": "rate_limit",
        "job_error": "server_error",
        "session_timeout": "stream",
        "idle_timeout": "bad_request",
        "not_allowed": "bad_request",
        "protocol_error": "bad_request",
        "invalid_model": "bad_request",
        "invalid_config": "bad_request",
        "4001": "auth",
        "4003": "bad_request",
        "4004": "bad_request",
        "4005": "rate_limit",
        "4006": "quota",
        "4013": "server_error",
        "1011": "server_error",
    },
    "azure": {
        "AuthenticationFailure": "auth",
        "Forbidden": "quota",
        "TooManyRequests": "rate_limit",
        "BadRequest": "bad_request",
        "ConnectionFailure": "connection",
        "ServiceTimeout": "timeout",
        "ServiceError": "server_error",
        "ServiceUnavailable": "server_error",
        "RuntimeError": "unknown",
    },
    "aws": {
        "AccessDeniedException": "auth",
        "InvalidClientTokenId": "auth",
        "UnrecognizedClientException": "auth",
        "MissingAuthenticationToken": "auth",
        "LimitExceededException": "rate_limit",
        "ThrottlingException": "rate_limit",
        "BadRequestException": "bad_request",
        "ConflictException": "bad_request",
        "ExpiredTokenException": "bad_request",
        "InternalFailureException": "server_error",
        "ServiceUnavailableException": "server_error",
    },
    "sarvam": {
        "invalid_api_key_error": "auth",
        "insufficient_quota_error": "quota",
        "rate_limit_exceeded_error": "rate_limit",
        "invalid_request_error": "bad_request",
        "unprocessable_entity_error": "bad_request",
        "not_found_error": "bad_request",
        "internal_server_error": "server_error",
    },
    "openai": {
        "invalid_api_key": "auth",
        "insufficient_quota": "quota",
        "rate_limit_exceeded": "rate_limit",
        "model_not_found": "bad_request",
        "session_expired": "stream",
        "server_error": "server_error",
    },
    "groq": {"invalid_api_key": "auth", "rate_limit_exceeded": "rate_limit"},
    "google": {
        "UNAUTHENTICATED": "auth",
        "PERMISSION_DENIED": "auth",
        "RESOURCE_EXHAUSTED": "rate_limit",
        "INVALID_ARGUMENT": "bad_request",
        "OUT_OF_RANGE": "stream",
        "ABORTED": "stream",
        "DEADLINE_EXCEEDED": "timeout",
        "UNAVAILABLE": "connection",
        "INTERNAL": "server_error",
    },
}
ROWS = [(provider, *row) for provider, rows in CODES.items() for row in rows.items()]


@pytest.mark.parametrize(("provider", "code", "reason"), ROWS, ids=lambda value: str(value))
def test_a_row(provider, code, reason):
    assert from_code(code, provider).reason == reason
    assert from_code(code, f"{provider}-eu").reason == reason  # a second one of the same maker


@pytest.mark.parametrize(
    ("provider", "error", "seen"),
    [
        # Deepgram: a body of its REST, LiveKit's closes.
        ("deepgram", ConnectionClosedError(Close(1011, "NET-0001"), None),
         Seen("bad_request", "1011 NET-0001")),
        ("deepgram", ConnectionClosedError(Close(1011, "NET-0000."), None),
         Seen("stream", "1011 NET-0000")),
        ("deepgram", ConnectionClosedError(Close(1008, "sk-secret"), None),
         Seen("bad_request", "1008")),
        ("deepgram", ApiError(status_code=429, body={"err_code": "ASR_PAYMENT_REQUIRED"}),
         Seen("quota", "asr_payment_required")),
        ("deepgram", closed(1011, "NET-0001"), Seen("bad_request", "1011 NET-0001")),
        ("deepgram", closed(1011, "sk-secret"), Seen("stream", "1011")),
        ("deepgram", closed(1000), Seen("cancelled", "1000")),
        # Soniox: in-band or a handshake, by where the number stands.
        ("soniox", in_band({"error_code": 408, "error_message": "Request timeout."}, 408),
         Seen("bad_request", "408")),
        ("soniox", in_band({"error_code": "408"}, 408), Seen("bad_request", "408")),
        ("soniox", APIStatusError("no", status_code=408), Seen("timeout", "408")),
        ("soniox", refused(408), Seen("timeout", "408")),
        ("soniox", in_band({"error_code": 402}, 402), Seen("quota", "402")),
        ("soniox", in_band({"error_code": 403, "error_type": "temp_api_key_session_expired"}, 403),
         Seen("stream", "temp_api_key_session_expired")),
        ("soniox", in_band({"error_code": None, "error_message": "no"}), Seen()),
        # AssemblyAI: LiveKit's closes, and the Error message before them.
        ("assemblyai", closed(3009, "Unauthorized Connection: Too many concurrent sessions"),
         Seen("rate_limit", "3009")),
        ("assemblyai", closed(1008, "Unauthorized Connection: Missing Authorization header"),
         Seen("auth", "1008")),
        ("assemblyai", closed(1008, "Unauthorized Connection: Account disabled"),
         Seen("unknown", "1008")),
        ("assemblyai", in_band({"type": "Error", "error_code": 3008}), Seen("stream", "3008")),
        # ElevenLabs: quota with 401, LiveKit's text.
        ("elevenlabs", in_band({"detail": {"status": "quota_exceeded"}}, 401),
         Seen("quota", "quota_exceeded")),
        ("elevenlabs", in_band({"detail": {"status": "invalid_api_key"}}, 401),
         Seen("auth", "invalid_api_key")),
        ("elevenlabs", APIConnectionError("auth_error: sk-secret"), Seen("auth", "auth_error")),
        ("elevenlabs", APIConnectionError("Failed to connect"), Seen("connection")),
        # Cartesia: the number and the name of its error event.
        ("cartesia", in_band({"status_code": 429, "error_code": "concurrency_limited"}),
         Seen("rate_limit", "concurrency_limited")),
        ("cartesia", in_band({"status_code": 401, "error_code": None}), Seen("auth", "401")),
        ("cartesia", named("CartesiaTurnsRequestError", status_code=402), Seen("quota", "402")),
        # Speechmatics: a close, and a message.
        ("speechmatics", ConnectionClosedError(Close(4005, "quota_exceeded"), None),
         Seen("rate_limit", "4005")),
        ("speechmatics", Exception({"message": "Error", "type": "not_authorised"}),
         Seen("auth", "not_authorised")),
        # Azure: its enumeration as a code, LiveKit's text.
        ("azure", ApiError(code=Enum("Code", ["AuthenticationFailure"])(1)),
         Seen("auth", "authenticationfailure")),
        ("azure", APIConnectionError(
            "Azure STT canceled: sk-secret (401)\n(CancellationErrorCode.Forbidden)"),
         Seen("quota", "forbidden")),
        ("azure", APIConnectionError("SpeechRecognition session stopped"), Seen("connection")),
        # AWS: the class of its exception, botocore's mapping.
        ("aws", named("LimitExceededException"), Seen("rate_limit", "limitexceededexception")),
        ("aws", named("BadRequestException", status_code=400),
         Seen("bad_request", "badrequestexception")),
        ("aws", named("ClientError", response={
            "Error": {"Code": "UnrecognizedClientException"},
            "ResponseMetadata": {"HTTPStatusCode": 403}}),
         Seen("auth", "unrecognizedclientexception")),
        ("aws", named("ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 503}}),
         Seen("server_error", "503")),
        # Sarvam: a quota with 429, LiveKit's in-band.
        ("sarvam", ApiError(status_code=429, body={"error": {"code": "insufficient_quota_error"}}),
         Seen("quota", "insufficient_quota_error")),
        ("sarvam", in_band({"type": "error", "data": {"code": "invalid_api_key_error"}}),
         Seen("auth", "invalid_api_key_error")),
        ("sarvam", in_band({"msg_type": "CLOSE", "close_code": 1012, "close_reason": "x"}, 1012),
         Seen("stream", "1012")),
        # OpenAI: a quota with 429, a missing key whose kind is "invalid request".
        ("openai", ApiError(status_code=429, code="insufficient_quota"),
         Seen("quota", "insufficient_quota")),
        ("openai", ApiError(status_code=429, code="rate_limit_exceeded"),
         Seen("rate_limit", "rate_limit_exceeded")),
        ("openai", ApiError(status_code=401, code=None, type="invalid_request_error"),
         Seen("auth", "401")),
        ("openai", APIError("no", body={"type": "invalid_request_error", "code": None}),
         Seen("bad_request", "invalid_request_error")),
        ("openai", APIError("no", body={"type": "invalid_request_error",
                                        "code": "session_expired"}),
         Seen("stream", "session_expired")),
        # Google: what google-api-core keeps, and gRPC's own exception.
        ("google", ApiError(code=429, grpc_status_code=SimpleNamespace(name="INTERNAL")),
         Seen("server_error", "internal")),
        ("google", named("AioRpcError", type("RpcError", (Exception,), {}),
                         code=lambda: SimpleNamespace(name="UNAUTHENTICATED")),
         Seen("auth", "unauthenticated")),
    ],
)  # fmt: skip
def test_a_providers_own_word_wins(provider, error, seen):
    assert classify(error, provider) == seen


def test_an_in_band_408_of_soniox_is_ours_and_a_handshakes_is_not():
    assert from_code(408, "soniox") == Seen("bad_request", "408")
    assert from_status(408, "soniox") == Seen("timeout", "408")
    assert from_code(408, "deepgram") == Seen("timeout", "408")


def test_another_providers_words_mean_nothing():
    assert from_code("quota_exceeded", "deepgram") == Seen()
    assert from_close(4005, "quota_exceeded", "soniox") == Seen("unknown", "4005")
    assert from_status(498, "soniox") == Seen("unknown", "498")
    assert from_status(498, "groq") == Seen("rate_limit", "498")


TEXTS = [
    ("soniox", "Error: 402 (_receive_messages) - sk-secret", Seen("quota", "402")),
    ("soniox", "Error: 408 (_receive_messages) - Request timeout", Seen("bad_request", "408")),
    ("soniox", "Error: None (_receive_messages) - sk-secret", Seen()),
    ("soniox", "said: Error: 402 (_receive_messages) - x", Seen()),
    ("deepgram", "received 1011 (internal error) NET-0001; then sent 1011 (internal error)",
     Seen("bad_request", "net-0001")),
    ("deepgram", "received 1008 (policy violation) DATA-0000; then sent 1008 (policy violation)",
     Seen("bad_request", "data-0000")),
    ("deepgram", "received 1011 (internal error) NET-0000; then sent 1011", Seen()),
    ("deepgram", "no close frame received or sent", Seen()),
    ("gladia", "GladiaSTTService#0 Failed to initialize Gladia session: 401 - sk-secret",
     Seen("auth", "401")),
    ("gladia", "Unable to connect to Gladia: GladiaSTTService#0 Failed to initialize Gladia "
     "session: 429 - x", Seen("rate_limit", "429")),
    ("openai", "Unknown error occurred: Error code: 401 - sk-secret", Seen("auth", "401")),
    ("openai", "Unknown error occurred: Connection error.", Seen()),
    ("openai", "OpenAI Realtime STT error [insufficient_quota]: sk-secret",
     Seen("quota", "insufficient_quota")),
    ("openai", "OpenAI Realtime STT error [made_up]: sk-secret", Seen()),
    ("groq", "Unknown error occurred: Error code: 503", Seen("server_error", "503")),
    ("fal", "Fal API error (401): sk-secret", Seen("auth", "401")),
    ("elevenlabs", "Unknown error occurred: Transcription failed with status 401: sk-secret",
     Seen("auth", "401")),
    ("elevenlabs", "Transcription failed with status 500: x", Seen("server_error", "500")),
    ("elevenlabs", "Error: quota_exceeded: x", Seen()),
    ("speechmatics", "Speechmatics STT error: not_authorised 4001 sk-secret",
     Seen("auth", "not_authorised")),
    ("speechmatics", "Speechmatics STT error: {'sk': 'secret'}", Seen()),
    ("azure", "Azure STT recognition canceled: CancellationReason.Error - WebSocket upgrade "
     "failed: Authentication error (401). Please check", Seen("auth", "401")),
    ("azure", "Azure STT recognition canceled: CancellationReason.Error - sk-secret (401)", Seen()),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "text", "seen"), TEXTS)
def test_a_frameworks_text_gives_a_number_or_a_word_of_the_table(provider, text, seen):
    assert from_text(text, provider) == seen
    assert classify(Exception(text), provider) == seen


def test_a_text_is_bounded():
    long = "GladiaSTTService#0 " + "x" * 500 + " Failed to initialize Gladia session: 401 - "

    assert from_text(long, "gladia") == Seen()
    assert from_text("Azure STT canceled: " + "(" * 100_000, "azure") == Seen()
