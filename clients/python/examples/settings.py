"""Where everything is, for the examples: from the environment, real providers by default."""

import os
from typing import NamedTuple


class Account(NamedTuple):
    """A provider's address and key."""

    url: str
    key: str


os.environ.setdefault("STT_GUARD_URL", "http://127.0.0.1:8000")
os.environ.setdefault("STT_GUARD_ROUTE", "breeze-buddy")
CAN_USE = ["soniox", "deepgram"]
SONIOX = Account(
    os.environ.get("SONIOX_URL", "wss://stt-rt.soniox.com"), os.environ["SONIOX_API_KEY"]
)
DEEPGRAM = Account(
    os.environ.get("DEEPGRAM_URL", "wss://api.deepgram.com"), os.environ["DEEPGRAM_API_KEY"]
)
