"""Short runs in turns, their medians, and the one table that shows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what, how much, and how that compares with what we hold ourselves to."""

    what: str
    figure: str
    ratio: float | None = None
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the columns as texts."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x {self.against}"
        if self.ratio is None or (self.at_least is None and self.at_most is None):
            return self.what, self.figure, ratio, "", ""
        if self.at_least is not None:
            return (
                self.what,
                self.figure,
                ratio,
                f">= {self.at_least:g}",
                _said(self.ratio >= self.at_least),
            )
        assert self.at_most is not None
        return (
            self.what,
            self.figure,
            ratio,
            f"<= {self.at_most:g}",
            _said(self.ratio <= self.at_most),
        )


def _said(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


class Turns:
    """What each case measured in each round; in one round every case has its turn."""

    def __init__(self, cases: Mapping[str, Callable[[], float]], rounds: int) -> None:
        self._found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, measure in cases.items():
                self._found[name].append(measure())

    @property
    def names(self) -> list[str]:
        """Return the cases in the order they were given."""
        return list(self._found)

    def of(self, name: str) -> float:
        """Return the median of a case."""
        return median(self._found[name])

    def ratio(self, name: str, yardstick: str) -> float:
        """Return the median of the ratios of each round."""
        pairs = zip(self._found[name], self._found[yardstick], strict=True)
        return median(one / other for one, other in pairs)


def print_rows(title: str, rows: list[Row]) -> None:
    """Print the rows of one benchmark, columns aligned."""
    table = [(title, "", "ratio", "target", ""), *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for number, line in enumerate(table):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
        if number == 0:
            print("  ".join("-" * width for width in widths))
    print(flush=True)
