"""Who may be mentioned: typed values in Slack's own spelling, so that a mention really mentions.

Names cannot be checked here and do not notify: `@oncall` in a message is five harmless letters.
"""

import re
from collections.abc import Iterable
from typing import Final

HERE: Final = "here"
MOST: Final = 10

_USER: Final = re.compile(r"[UW][A-Z0-9]{2,20}")
_GROUP: Final = re.compile(r"S[A-Z0-9]{2,20}")
_WRAPPED: Final = re.compile(r"<(?:@|!subteam\^|!)([A-Za-z0-9]+)(?:\|[^>]*)?>")


def parsed(text: str) -> str | None:
    """Return one mention as it is kept (`U…`, `W…`, `S…` or `here`), None if it is none.

    Slack's syntax is taken too: `<@U…>`, `<!subteam^S…>`, `<!here>`, `@here`.
    """
    wrapped = _WRAPPED.fullmatch(text.strip())
    word = wrapped[1] if wrapped else text.strip().removeprefix("@")
    if word.lower() == HERE:
        return HERE
    return word if _USER.fullmatch(word) or _GROUP.fullmatch(word) else None


def problem(text: str) -> str:
    """Say what is wrong with what is no mention, and what would be right."""
    if text.strip().strip("<>@!").lower() in {"channel", "everyone"}:
        return "Everybody in a channel cannot be mentioned: use “here”, a group or a person."
    return (
        f"“{text[:40]}” is no mention. Use “here”, the id of a person (U…) or of a group (S…):"
        " names do not notify. In Slack: open the profile or the group, ⋮, Copy ID."
    )


def syntax(mention: str) -> str:
    """Return a kept mention as Slack reads it in text. Raises ValueError for anything else."""
    if mention == HERE:
        return "<!here>"
    if _GROUP.fullmatch(mention):
        return f"<!subteam^{mention}>"
    if _USER.fullmatch(mention):
        return f"<@{mention}>"
    raise ValueError(f"{mention!r:.60} is no mention")


def together(mentions: Iterable[str]) -> str:
    """Return mentions as one text, each once; what is none is left out: never sent unfilled."""
    return " ".join(syntax(one) for one in dict.fromkeys(mentions) if parsed(str(one)) == one)
