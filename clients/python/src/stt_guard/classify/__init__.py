"""What an error means: from exceptions, statuses and codes to the contract's `reason`.

One table for what all providers share, and one per provider for what is its own, each with its
sources. Types, statuses, codes and other structured attributes are read, never `str(error)`: it
may hold headers and keys. Where a framework gives a text and nothing else, a fixed pattern of that
framework's own message takes a number or one of the table's own words from it, and nothing else.

    tables     the shared table, and one per provider
    reading    what an exception carries, without its text
    waiting    how long a refused request asks to wait
    judging    classify, and from_status, from_code, from_close, from_text
    settings   which of an operator's settings a constructor's error is about
"""

from stt_guard.classify.judging import classify, from_close, from_code, from_status, from_text
from stt_guard.classify.settings import wrong_setting
from stt_guard.classify.tables import BY_CLOSE_CODE, BY_STATUS, TABLES, Table

__all__ = [
    "BY_CLOSE_CODE",
    "BY_STATUS",
    "TABLES",
    "Table",
    "classify",
    "from_close",
    "from_code",
    "from_status",
    "from_text",
    "wrong_setting",
]
