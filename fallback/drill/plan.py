"""What is drilled: how many calls, who fails, when and for how long."""

from dataclasses import dataclass, field
from typing import Final

from fallback.errors import FallbackError

ROUTE: Final = "drill"
PRIMARY: Final = "drill-primary"
BACKUP: Final = "drill-backup"
OPEN_S: Final = 5  # how long the drill's own policy keeps a provider out


class DrillError(FallbackError):
    """The drill cannot take place; the text says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Times count from the first call. The drill ends soon after the recovery, at the latest
    after `duration_s`."""

    route: str = ROUTE
    provider: str = PRIMARY
    rate: float = 20.0  # calls a second
    fail_after_s: float = 3.0
    fail_for_s: float = 8.0
    duration_s: float = 40.0
    seed: int = 1
    hosts: tuple[str, ...] = ("drill-pod-1", "drill-pod-2", "drill-pod-3", "drill-pod-4")

    connect_s: tuple[float, float] = field(default=(0.01, 0.05))
    first_transcript_s: tuple[float, float] = field(default=(0.15, 0.5))
    talk_s: tuple[float, float] = field(default=(0.5, 2.5))

    def is_failing(self, provider: str, at_s: float) -> bool:
        """Whether a provider is broken at this time of the drill."""
        return (
            provider == self.provider
            and self.fail_after_s <= at_s < self.fail_after_s + self.fail_for_s
        )

    @property
    def healed_at_s(self) -> float:
        """When the failing provider is well again."""
        return self.fail_after_s + self.fail_for_s
