"""The README's promises that can be counted."""

import re

import pytest

from tests.readme import OWN

TEXT = OWN.read_text("utf-8")


@pytest.mark.parametrize("framework", ["Pipecat", "LiveKit Agents"])
def test_the_lines_that_a_bot_needs_are_as_many_as_the_heading_says_and_at_most_five(framework):
    found = re.search(rf"## {framework}: (\d) lines\n\n```diff\n(.*?)```", TEXT, re.DOTALL)
    assert found
    added = [line for line in found[2].splitlines() if line.startswith("+")]

    assert len(added) == int(found[1]) <= 5
