"""The matrix: what is done to the primary, when, and what must be seen of it."""

from dataclasses import dataclass
from typing import Final

PROVIDERS: Final = ("soniox", "deepgram")
FAULTS_AT_SET_UP: Final = (
    "refused",
    "http:401",
    "http:402",
    "http:429",
    "http:503",
    "hang",
    "immediate_close:1008",
    "both down",
)
FAULTS_MID_CALL: Final = (
    "drop, heals",
    "drop, refused",
    "drop, http:503",
    "drop, hang",
    "close:1000",
    "error:503",
    "error:402",
    "error:402, no tokens",
    "stall",
    "empty",
    "garbage",
    "freeze",
    "both down",
    "end",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    fault: str
    when: str
    primary: str

    @property
    def standby(self) -> str:
        """The other provider."""
        return "deepgram" if self.primary == "soniox" else "soniox"

    @property
    def route(self) -> str:
        """A slug for it: each case has providers of its own at the control plane."""
        words = f"{self.primary}-{self.when}-{self.fault}".lower()
        return "-".join("".join(c if c.isalnum() else " " for c in words).split())


CASES: Final = tuple(
    Case(fault, when, primary)
    for primary in PROVIDERS
    for when, faults in (("set-up", FAULTS_AT_SET_UP), ("mid-call", FAULTS_MID_CALL))
    for fault in faults
)
