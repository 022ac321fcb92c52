#!/usr/bin/env python3
"""The command line: `up`, `pump`, `seed`, `drill` and the rest of ours, and Django's own."""

import os
import sys

from django.core.management import execute_from_command_line

from controlplane import complaints


def main() -> None:
    """Run the command named in the arguments under this project's settings.

    What is wrong with the surroundings is told in one sentence; with --traceback as Python does.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    try:
        execute_from_command_line(sys.argv)
    except Exception as error:
        text = complaints.sentence(error)
        if "--traceback" in sys.argv or not text:
            raise
        sys.exit(f"{sys.argv[0]}: {text}")


if __name__ == "__main__":
    main()
