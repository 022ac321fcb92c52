"""Measured tables in Markdown, each between two markers of its name."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
OWN = FOLDER / "README.md"
ROOT = FOLDER.parents[1] / "README.md"


def write_between(path: Path, mark: str, text: str) -> bool:
    """Put the text between the markers of that name; False, and nothing done, without them."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, found_begin, rest = path.read_text("utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        return False
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")
    return True


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
