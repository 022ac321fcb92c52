"""`manage.py config_apply FILE|-`: makes the configuration what a YAML file says, or nothing.

Prints what would change, and warns of what that brings; then changes it, in one transaction,
through every rule that the admin has. What the file does not mention stays as it is; `--prune`
deletes the entries that a section of the file lacks.

Exit codes: 0 done, or nothing to do; 1 the file is wrong or cannot be read, and nothing was
changed; 2 wrong arguments; 3 with `--dry-run --exit-code`: there would be changes.
"""

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from fallback import cautions, changes, configuration
from fallback.configuration import Parsed
from fallback.configuration.text import SIZE_MAX
from fallback.errors import Invalid

WOULD_CHANGE: Final = 3
TOLD_MAX: Final = 50


class Command(BaseCommand):
    """Applies a configuration."""

    help = "Makes the configuration what a YAML file says: shows the difference, all or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="as config_export writes it; - is standard input")
        parser.add_argument("--dry-run", action="store_true", help="show and check, write nothing")
        parser.add_argument(
            "--exit-code", action="store_true", help=f"with --dry-run: {WOULD_CHANGE} if it changes"
        )
        parser.add_argument(
            "--prune", action="store_true", help="delete the entries that a section lacks"
        )
        parser.add_argument("--reason", default="", help="why, for the history of changes")

    def handle(self, *args: Any, file: str, **options: Any) -> None:
        parsed = read(file)
        try:
            has_changed = self._apply(parsed, **options)
        except Invalid as error:
            raise CommandError(told(file, parsed, error)) from error
        if has_changed and options["dry_run"] and options["exit_code"]:
            sys.exit(WOULD_CHANGE)

    def _apply(self, parsed: Parsed, *, dry_run: bool, prune: bool, reason: str, **_: Any) -> bool:
        """Apply it and say what that changed; a dry run does it all, and takes it back."""
        with transaction.atomic():
            held = cautions.read()
            with changes.made_by("command:config_apply", reason or f"applied by {who()}"):
                before, after = configuration.apply(parsed.document, prune=prune)
            brought = cautions.brought(held, cautions.read())
            transaction.set_rollback(dry_run)
        differences = configuration.diff(before, after)
        if differences:
            self.stdout.write(configuration.text_diff(before, after))
        for caution in brought:
            self.stderr.write(f"Warning: {caution.text}")
        count = f"{len(differences)} change{'' if len(differences) == 1 else 's'}"
        done = "nothing was written (dry run)" if dry_run else "applied"
        self.stderr.write(f"{count}: {done}." if differences else "Nothing to change.")
        return bool(differences)


def read(file: str) -> Parsed:
    """Return what a file says. Raises CommandError for what cannot be read, or is no YAML."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(SIZE_MAX + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(SIZE_MAX + 1)
        return configuration.from_yaml(data.decode("utf-8-sig"))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CommandError(f"{file}: line {line}: this is not UTF-8.") from error
    except Invalid as error:
        raise CommandError(f"{file}: {error}") from error


def told(file: str, parsed: Parsed, error: Invalid) -> str:
    """Return what is wrong, a line for each problem, in the order of the file."""
    found = sorted((parsed.line_of(one.field), one.field, one.detail) for one in error.problems)
    lines = [
        f"{file}: line {line}: {path}: {detail}" if path else f"{file}: line {line}: {detail}"
        for line, path, detail in found[:TOLD_MAX]
    ]
    if len(found) > TOLD_MAX:
        lines.append(f"… and {len(found) - TOLD_MAX} more")
    return "\n".join([*lines, "Nothing was changed."])


def who() -> str:
    """Return the name of whoever runs this, as the system knows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody without a name"
