"""THE WHOLE CONFIGURATION AS ONE PLAIN DOCUMENT: built, written as YAML, compared, applied.

    sections.py    what is in it: one declaration per kind of row, read off the models
    document.py    build(): the database as a document of natural keys, in a stable order
    difference.py  what changed from one document to another, in words and as a text diff
    shape.py       types, unknown and missing keys of a document that somebody wrote
    references.py  whether everything that a document names is in it
    text.py        YAML, with line numbers, limits and no surprises
    applying.py    apply(): all or nothing, through every rule that the admin has
    rows.py        the writes that applying takes, in an order in which they can work
    merging.py     what one change did, taken out of the configuration as it is now

A document has no database ids, no API keys, no users and no secrets. It is JSON-able: strings,
numbers, booleans, None, lists, and dicts with string keys.
"""

from fallback.configuration.applying import apply, planned
from fallback.configuration.difference import Difference, diff, summary, text_diff
from fallback.configuration.document import Document, build, canonical, is_same
from fallback.configuration.merging import Merged, without
from fallback.configuration.sections import (
    BY_NAME as SECTION_OF,
)
from fallback.configuration.sections import (
    SECTIONS,
    STEPS,
    WHAT_COUNTS,
    Section,
    entry_path,
    section_of,
)
from fallback.configuration.text import Parsed, from_yaml, to_yaml

__all__ = [
    "SECTIONS",
    "SECTION_OF",
    "STEPS",
    "WHAT_COUNTS",
    "Difference",
    "Document",
    "Merged",
    "Parsed",
    "Section",
    "apply",
    "build",
    "canonical",
    "diff",
    "entry_path",
    "from_yaml",
    "is_same",
    "planned",
    "section_of",
    "summary",
    "text_diff",
    "to_yaml",
    "without",
]
