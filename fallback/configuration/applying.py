"""Applying a document: all or nothing, and every problem told with its path.

The rules are the models' own, run on the rows as they are being written, inside a transaction
that is taken back when one of them is broken. Nothing is written that is not different.
"""

from django.db import transaction

from fallback.configuration.document import Document, build, is_same
from fallback.configuration.references import reference_problems
from fallback.configuration.rows import Writer
from fallback.configuration.shape import completed, missing_problems, shape_problems
from fallback.errors import Invalid, Problem


def planned(document: object, now: Document, *, prune: bool = False) -> Document:
    """Return the whole configuration that a document asks for, judged by its shape alone.

    What it does not mention stays as it is `now`; `prune` takes out the entries that a section of
    it lacks (a section that it lacks altogether stays). Raises Invalid with every problem.
    """
    problems = shape_problems(document)
    if not problems and isinstance(document, dict):
        problems = list(missing_problems(document, now))
        if not problems:
            return completed(document, now, prune=prune)
    raise refused(problems)


def apply(document: object, *, prune: bool = False) -> tuple[Document, Document]:
    """Make the configuration what a document says; return it as it was before, and as it is now.

    All in one transaction, or nothing: raises Invalid with every problem that was found. A
    document that says what already is writes no row.
    """
    with transaction.atomic():
        before = build()
        target = planned(document, before, prune=prune)
        if is_same(before, target):
            return before, before
        problems = [*reference_problems(target)] or Writer(before, target).write()
        if problems:
            raise refused(problems)
        return before, build()


def refused(problems: list[Problem]) -> Invalid:
    """Return the error that tells of problems, each once."""
    found = list(dict.fromkeys(problems))
    lines = "\n".join(f"{one.field}: {one.detail}" if one.field else one.detail for one in found)
    return Invalid(f"Nothing was changed.\n{lines}", found)
