"""What looks like a secret among settings: by the name it has, or by its own shape.

Settings are handed to every agent as they are and stay in the history, so a doubt is a refusal; but
words that merely sound alike (`keyterms`, `token_limit`, Slovak as `sk-SK`) must pass.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

ENDING_MAX: Final = 64

_RUN_TOGETHER: Final = (
    r"(?:api|access|private|secret|auth|subscription|account|client|signing|service)keys?"
    r"|(?:auth|access|api|bearer|refresh|session|id)tokens?|clientsecret"
)
_LAST_WORD: Final = re.compile(
    r"(?:\A|_)(?:secrets?|passwords?|passwd|pwd|passphrases?|passcodes?|credentials?|creds?"
    rf"|authorization|bearer|sas|jwt|cookies?|{_RUN_TOGETHER})\Z"
)
_KEY: Final = re.compile(r"(?:\A|(?P<of>[a-z0-9]+)_)keys?\Z")
_TOKEN: Final = re.compile(r"(?:\A|(?P<of>[a-z0-9]+)_)tokens?\Z")
_WHOLE_NAME: Final = frozenset({"auth", "pass", "sig", "signature", "xi_api", "x_api"})
_PLAIN_KEYS: Final = frozenset(
    [
        "public",
        "primary",
        "foreign",
        "partition",
        "sort",
        "group",
        "cache",
        "routing",
        "idempotency",
        "map",
        "hot",
        "dtmf",
    ]
)
_PLAIN_TOKENS: Final = frozenset(
    [
        "max",
        "min",
        "num",
        "number",
        "end",
        "eos",
        "bos",
        "eot",
        "stop",
        "start",
        "pad",
        "sep",
        "unk",
        "mask",
        "special",
        "blank",
        "wake",
    ]
)

_VALUE: Final = re.compile(
    r"""
      sk[-_][\w-]{8,} | (?:pk|rk|gsk|hf|npm|whsec|xi)[-_][\w-]{16,}  # OpenAI, ElevenLabs, …
    | xox[a-z]-\S | xapp-\S                               # Slack
    | gh[a-z]_\w{16,} | github_pat_\w | glpat-\S          # GitHub, GitLab
    | AIza\S{16,} | ya29\.\S | (?:AKIA|ASIA)[A-Z0-9]{12,} # Google, Amazon
    | eyJ[\w-]{8,}                                        # a JSON web token
    | -----BEGIN\s
    | (?i:bearer)\s+\S
    | (?i:token|basic|key|api-?key)\s+(?=\S*[\d=]|\S{16})\S{6,}\Z
    | (?i:token|basic|key|api-?key)\s+(?=\S*[a-z]\S*[A-Z])\S{8,}\Z
    | .*(?i:AccountKey|SharedAccessKey|SharedAccessSignature)\s*=?\s*\S
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_ADDRESS: Final = re.compile(
    r"""
      [a-z][a-z0-9+.-]*://[^/\s?#@]+@                     # https://user:password@host
    | [^\s?]*\?(?:[^\s#]*&)?
      (?:(?:[a-z]+[_-])?(?:api-?)?key|(?:[a-z]+[_-])?token|auth|password|pwd|secret|sig|signature)
      =[^&\s#]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_WORD_START: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_WORD: Final = re.compile(r"[^a-z0-9]+")


def secret_paths(value: Any, path: str = "", *, is_named: bool = False) -> Iterator[str]:
    """Yield the path of every text that is named or shaped like a secret: `a.apiKeys[0]`.

    A number or a switch is no secret (`max_tokens: 100`, `end_token: true`).
    """
    if isinstance(value, dict):
        for name, item in value.items():
            inner = f"{path}.{name}" if path else str(name)
            named = is_named or is_secret_name(str(name), of_text=isinstance(item, str))
            yield from secret_paths(item, inner, is_named=named)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secret_paths(item, f"{path}[{index}]", is_named=is_named)
    elif isinstance(value, str) and value.strip() and (is_named or is_secret(value)):
        yield path


def is_secret_name(name: str, *, of_text: bool = True) -> bool:
    """Say whether what has this name is a secret. An object called `auth` may well be none."""
    words = _words(name)
    if words in _WHOLE_NAME:
        return of_text
    end = words[-ENDING_MAX:]  # a search for an ending walks a long word again and again
    key, token = _KEY.search(end), _TOKEN.search(end)
    return bool(
        _LAST_WORD.search(end)
        or (key and key["of"] not in _PLAIN_KEYS)
        or (token and token["of"] not in _PLAIN_TOKENS)
    )


def is_secret(value: str) -> bool:
    """Say whether a text has the shape of a secret, or is an address that holds one."""
    text = value.strip()
    return bool(_VALUE.match(text) or _IN_ADDRESS.match(text))


def _words(name: str) -> str:
    """Return a name as words with `_` between: `X-Api-Key`, `xApiKey` and `XAPIKey[]` are one."""
    plain = unicodedata.normalize("NFKC", name)
    return _NO_WORD.sub("_", _WORD_START.sub("_", plain).lower()).strip("_")
