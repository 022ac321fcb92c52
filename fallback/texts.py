"""The texts of strangers, and of people in a hurry, made harmless: one rule for every door."""


def clean(text: str, limit: int) -> str:
    """Return `text` on one line, cut to `limit`, with nothing in it that a reader cannot see.

    Control characters, lone surrogates, NUL and the marks that turn text around are dropped;
    line ends and other spaces become spaces.
    """
    text = text[: 4 * limit]  # a megabyte of marks must not be walked to its end
    if not text.isprintable():
        spaced = (" " if character.isspace() else character for character in text)
        text = "".join(character for character in spaced if character.isprintable())
    return text.strip()[:limit]
