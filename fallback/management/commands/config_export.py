"""`manage.py config_export [FILE|-]`: the whole configuration as YAML, the same each time.

No API keys, no users, no secrets: fit for a repository. A file is replaced in one step, so that
whoever reads it meanwhile sees the old one or the new one.
"""

import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fallback import configuration

HEADER = "# The whole configuration. Apply with: manage.py config_apply FILE --dry-run\n"


class Command(BaseCommand):
    """Writes the configuration."""

    help = "Writes the whole configuration as YAML, without keys or secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", default="-", help="where to; - is standard output")

    def handle(self, *args: Any, file: str, **options: Any) -> None:
        text = HEADER + configuration.to_yaml(configuration.build())
        if file == "-":
            self.stdout.write(text, ending="")
            return
        try:
            replace(Path(file), text)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from error
        self.stderr.write(f"Written: {file}")


def replace(target: Path, text: str) -> None:
    """Write a file beside its place, then put it there. Raises OSError."""
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(name, target.stat().st_mode & 0o777 if target.exists() else 0o644)
        Path(name).replace(target)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
