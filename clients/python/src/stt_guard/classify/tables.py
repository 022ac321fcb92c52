"""What statuses, close codes and the providers' own words mean, each with where it is written.

`auth` and `quota` trip a provider for the whole fleet at once: a word is one of them only where
the provider's documentation says so plainly.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stt_guard.words import Reason

# RFC 9110 and RFC 6585; 402 is the speech providers' word for an empty balance. 408 is the other
# side's: it did not get the request in time, as 504 did not get an answer.
BY_STATUS: Final[Mapping[int, Reason]] = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "auth",
    404: "bad_request",
    408: "timeout",
    413: "bad_request",
    415: "bad_request",
    422: "bad_request",
    429: "rate_limit",
    504: "timeout",
}

# RFC 6455, 7.4.1, and https://www.iana.org/assignments/websocket/websocket.xhtml. What is not
# here (another library's code, a provider's 4xxx) is `unknown`: many mirror an HTTP status, as
# 4429 does, but only the provider's documentation can say so.
BY_CLOSE_CODE: Final[Mapping[int, Reason]] = {
    1000: "cancelled",  # the session was over, as agreed: no failure
    1001: "stream",  # the server goes away
    1002: "stream",
    1003: "bad_request",
    1005: "stream",  # never on the wire: closed in order, without a code
    1006: "connection",  # never on the wire: the socket was lost without a close
    1007: "bad_request",
    1008: "unknown",  # "policy": a key, a limit, a format; auth would trip the fleet at once
    1009: "bad_request",
    1011: "stream",
    1012: "stream",  # service restart
    1013: "rate_limit",  # try again later
    1014: "server_error",  # bad gateway
    1015: "connection",  # never on the wire: TLS
    3000: "auth",  # unauthorized
    3003: "auth",  # forbidden
    3008: "timeout",
}


@dataclass(frozen=True, slots=True)
class Table:
    """What one provider says in its own words, and the pages that say what they mean.

    `codes`: names and numbers of errors that it sends in-band or in a body, lower case. A number
    here is never the status of a refused handshake: those are `statuses`, and win over BY_STATUS.
    `closes`: close codes, as `4005`, or with their reason, as `1011:NET-0001`; they win over
    BY_CLOSE_CODE. `texts`: patterns of a framework's own message that carries its error in nothing
    else; the first group is a number, or a word that is only taken when it is one of `codes`.
    """

    sources: tuple[str, ...] = ()
    codes: Mapping[str, Reason] = field(default_factory=dict)
    statuses: Mapping[int, Reason] = field(default_factory=dict)
    closes: Mapping[str, Reason] = field(default_factory=dict)
    texts: tuple[re.Pattern[str], ...] = ()


# Pipecat 1.6.0 to 1.14.0, services/whisper/base_stt.py: the services on OpenAI's client yield an
# ErrorFrame without the exception. Behind its colon is openai 2 and 3, _base_client.py.
_WHISPER: Final = re.compile(r"Unknown error occurred: Error code: (\d{3})\b")

_OPENAI_CODES: Final[Mapping[str, Reason]] = {
    "invalid_api_key": "auth",
    "insufficient_quota": "quota",
    "rate_limit_exceeded": "rate_limit",
    "model_not_found": "bad_request",
    "invalid_request_error": "bad_request",
    "session_expired": "stream",
    "server_error": "server_error",
}

TABLES: Final[Mapping[str, Table]] = {
    "deepgram": Table(
        # Its 1008 is a payload it cannot decode, and NET-0001 is our silence: our side, not its.
        sources=(
            "https://developers.deepgram.com/docs/errors",
            "https://developers.deepgram.com/docs/stt-troubleshooting-websocket-data-and-net-errors",
        ),
        codes={
            "invalid_auth": "auth",
            "insufficient_permissions": "auth",
            "asr_payment_required": "quota",
            "too_many_requests": "rate_limit",
            "net-0000": "stream",
            "net-0001": "bad_request",
            "data-0000": "bad_request",
        },
        closes={
            "1008": "bad_request",
            "1008:DATA-0000": "bad_request",
            "1011:NET-0000": "stream",
            "1011:NET-0001": "bad_request",
            "1011:DATA-0000": "bad_request",
        },
        # Pipecat 1.6.0 to 1.14.0, services/deepgram/stt.py, _on_error: websockets' own text of a
        # close, without the exception. Only the words that are our side's are taken: any other
        # close stays what Pipecat says of it, an error of unknown cause.
        texts=(re.compile(r"received \d{4} \([a-z ]+\) (NET-0001|DATA-0000)\b"),),
    ),
    "soniox": Table(
        # An in-band error_code is an HTTP status, but 408 says that no audio came from us, and
        # 413 that the session had its longest time; 503 asks the client to start again.
        sources=(
            "https://soniox.com/docs/stt/rt/error-handling",
            "https://soniox.com/docs/api-reference/errors",
        ),
        codes={
            "408": "bad_request",
            "413": "stream",
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
        # Pipecat 1.6.0 to 1.14.0, services/soniox/stt.py: an in-band error has no exception.
        texts=(re.compile(r"Error: (\d{3}) \(_receive_messages\) - "),),
    ),
    "assemblyai": Table(
        # Universal streaming, v3. Its error_code is the close code that follows. Its 1008 is a
        # key as well as an account, and was once too many sessions: only the missing key is plain.
        sources=("https://www.assemblyai.com/docs/streaming/common-session-errors-and-closures",),
        closes={
            "1008:Unauthorized Connection: Missing Authorization header": "auth",
            "3005": "server_error",
            "3006": "bad_request",
            "3007": "bad_request",  # audio too fast, or in pieces of a wrong size
            "3008": "stream",  # the session had its longest time
            "3009": "rate_limit",  # too many sessions at a time
        },
    ),
    "elevenlabs": Table(
        # quota_exceeded comes with the status 401, which would else be auth. The throttled
        # commit, the overlong chunk and the silence are ours.
        sources=(
            "https://elevenlabs.io/docs/developer-guides/cookbooks/speech-to-text/realtime/event-reference",
            "https://help.elevenlabs.io/hc/en-us/articles/19572237925521-API-Error-Code-400-or-401",
        ),
        codes={
            "auth_error": "auth",
            "invalid_api_key": "auth",
            "unaccepted_terms": "auth",  # the account may not use the service until it accepts
            "quota_exceeded": "quota",
            "rate_limited": "rate_limit",
            "queue_overflow": "rate_limit",
            "too_many_concurrent_requests": "rate_limit",
            "resource_exhausted": "server_error",  # the server is at its capacity
            "transcriber_error": "server_error",
            "error": "server_error",
            "session_time_limit_exceeded": "stream",
            "input_error": "bad_request",
            "commit_throttled": "bad_request",
            "chunk_size_exceeded": "bad_request",
            "insufficient_audio_activity": "bad_request",
        },
        texts=(
            # Pipecat 1.6.0 to 1.14.0, services/elevenlabs/stt.py, the service of segments.
            re.compile(
                r"(?:Unknown error occurred: )?Transcription failed with status (\d{3}): ",
            ),
            # LiveKit 1.8.9, plugins/elevenlabs/stt.py, an in-band error.
            re.compile(r"(auth_error|quota_exceeded|transcriber_error|input_error|error): "),
        ),
    ),
    "gladia": Table(
        # Its session is asked for by HTTP, with the usual statuses; no close code is documented.
        sources=("https://docs.gladia.io/api-reference/v2/live/init",),
        # Pipecat 1.6.0 to 1.14.0, services/gladia/stt.py, _setup_gladia: a bare Exception.
        texts=(re.compile(r".{0,200}?\bFailed to initialize Gladia session: (\d{3}) - "),),
    ),
    "cartesia": Table(
        # An error event has a status_code like HTTP's, which is read as one.
        sources=("https://docs.cartesia.ai/use-the-api/api-errors",),
        codes={"concurrency_limited": "rate_limit"},
    ),
    "speechmatics": Table(
        # Its quota_exceeded is the number of sessions at a time, and its timelimit_exceeded the
        # contract's usage. Its idle_timeout is an hour without audio from us.
        sources=(
            "https://docs.speechmatics.com/api-ref/realtime-transcription-websocket",
            "https://github.com/speechmatics/docs/blob/main/spec/realtime.yaml",
        ),
        codes={
            "not_authorised": "auth",
            "timelimit_exceeded": "quota",
            "quota_exceeded": "rate_limit",
            "job_error": "server_error",
            "session_timeout": "stream",
            "not_allowed": "bad_request",
            "idle_timeout": "bad_request",
            "protocol_error": "bad_request",
            "invalid_message": "bad_request",
            "invalid_model": "bad_request",
            "invalid_language": "bad_request",
            "invalid_config": "bad_request",
            "invalid_audio_type": "bad_request",
            "invalid_output_format": "bad_request",
        },
        closes={
            "1011": "server_error",
            "4001": "auth",
            "4003": "bad_request",
            "4004": "bad_request",
            "4005": "rate_limit",
            "4006": "quota",
            "4013": "server_error",
        },
        # Pipecat 1.14.0, services/speechmatics/stt.py, _handle_error: the type comes first.
        texts=(re.compile(r"Speechmatics STT error: ([a-z_]{1,40})\b"),),
    ),
    "azure": Table(
        # CancellationErrorCode of the Speech SDK. Its Forbidden is a free subscription's quota.
        sources=(
            "https://learn.microsoft.com/en-us/dotnet/api/microsoft.cognitiveservices.speech.cancellationerrorcode",
        ),
        codes={
            "authenticationfailure": "auth",
            "forbidden": "quota",
            "toomanyrequests": "rate_limit",
            "badrequest": "bad_request",
            "connectionfailure": "connection",
            "servicetimeout": "timeout",
            "serviceerror": "server_error",
            "serviceunavailable": "server_error",
        },
        texts=(
            # LiveKit 1.8.9, plugins/azure/stt.py: the SDK's details, then the code.
            re.compile(
                r"Azure STT canceled: .{0,1500}\(CancellationErrorCode\.([A-Za-z]{1,40})\)\Z",
                re.DOTALL,
            ),
            # Pipecat 1.6.0 to 1.14.0, services/azure/stt.py: the reason, then the SDK's details.
            re.compile(
                r"Azure STT recognition canceled: [A-Za-z.]{1,40} - "
                r"WebSocket upgrade failed: [A-Za-z ]{1,40} \((\d{3})\)"
            ),
        ),
    ),
    "aws": Table(
        # The names of exceptions. An expired token or signature is for the host to renew.
        sources=(
            "https://docs.aws.amazon.com/transcribe/latest/APIReference/API_streaming_TranscriptResultStream.html",
            "https://docs.aws.amazon.com/transcribe/latest/APIReference/CommonErrors.html",
        ),
        codes={
            "accessdeniedexception": "auth",
            "invalidclienttokenid": "auth",
            "unrecognizedclientexception": "auth",
            "missingauthenticationtoken": "auth",
            "notauthorized": "auth",
            "optinrequired": "auth",
            "limitexceededexception": "rate_limit",
            "throttlingexception": "rate_limit",
            "badrequestexception": "bad_request",
            "conflictexception": "bad_request",
            "expiredtokenexception": "bad_request",
            "requestexpired": "bad_request",
            "internalfailure": "server_error",
            "internalfailureexception": "server_error",
            "serviceunavailable": "server_error",
            "serviceunavailableexception": "server_error",
        },
    ),
    "sarvam": Table(
        # insufficient_quota_error comes with the status 429, which would else be a rate limit.
        sources=("https://docs.sarvam.ai/api/getting-started/errors-troubleshooting",),
        codes={
            "invalid_api_key_error": "auth",
            "insufficient_quota_error": "quota",
            "rate_limit_exceeded_error": "rate_limit",
            "invalid_request_error": "bad_request",
            "unprocessable_entity_error": "bad_request",
            "not_found_error": "bad_request",
            "internal_server_error": "server_error",
        },
    ),
    "openai": Table(
        # insufficient_quota comes with the status 429, which would else be a rate limit.
        sources=(
            "https://platform.openai.com/docs/guides/error-codes",
            "https://platform.openai.com/docs/api-reference/realtime-server-events/error",
        ),
        codes=_OPENAI_CODES,
        texts=(
            _WHISPER,
            # Pipecat 1.6.0 to 1.14.0, services/openai/stt.py, _handle_error of the realtime one.
            re.compile(r"OpenAI Realtime STT error \[([a-z_]{1,40})\]: "),
        ),
    ),
    "groq": Table(
        # OpenAI's protocol; 498 is a tier without a place free.
        sources=("https://console.groq.com/docs/errors",),
        codes=_OPENAI_CODES,
        statuses={498: "rate_limit"},
        texts=(_WHISPER,),
    ),
    "fal": Table(
        sources=("https://fal.ai/docs/documentation/model-apis/errors",),
        # Pipecat 1.6.0 to 1.14.0, services/fal/stt.py: an ErrorFrame without an exception.
        texts=(re.compile(r"Fal API error \((\d{3})\): "),),
    ),
    "google": Table(
        # gRPC's status names; out_of_range is a stream past its longest time, or real-time audio
        # that came too slowly.
        sources=(
            "https://cloud.google.com/speech-to-text/docs/error-messages",
            "https://grpc.io/docs/guides/status-codes/",
        ),
        codes={
            "unauthenticated": "auth",
            "permission_denied": "auth",
            "resource_exhausted": "rate_limit",
            "invalid_argument": "bad_request",
            "not_found": "bad_request",
            "failed_precondition": "bad_request",
            "unimplemented": "bad_request",
            "out_of_range": "stream",
            "aborted": "stream",
            "cancelled": "stream",
            "deadline_exceeded": "timeout",
            "unavailable": "connection",
            "internal": "server_error",
            "data_loss": "server_error",
            "unknown": "server_error",
        },
    ),
}


def table_of(provider: str) -> Table:
    """Return the provider's table, an empty one for an unknown; `deepgram-eu` is Deepgram's."""
    return TABLES.get(provider) or TABLES.get(provider.partition("-")[0]) or _NONE


_NONE: Final = Table()
