#!/usr/bin/env python3
"""The command line: `up`, `pump`, `seed`, `drill` and the rest of ours, and Django's own."""

import os
import sys

from django.core.management import execute_from_command_line


def main() -> None:
    """Run the command named in the arguments under this project's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
