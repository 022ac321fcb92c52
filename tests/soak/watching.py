"""How large everything is while the soak runs, and whether it stayed so."""

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.soak.topology import Production

EVERY_S: Final = 5.0
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Processes fill caches and pools for some minutes; what grows after that goes on growing.
JUDGED_FROM_S: Final = 300.0
GROWTH_MAX: Final = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """One process at one moment."""

    at_s: float
    rss_mb: float
    descriptors: int


@dataclass(slots=True)
class Watch:
    """Looks at every process and at Redis each few seconds."""

    production: Production
    began_s: float = field(default_factory=time.monotonic)
    sizes: dict[str, list[Size]] = field(default_factory=dict)
    redis_mb: list[float] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            at_s = time.monotonic() - self.began_s
            for name, process in self.production.processes.items():
                self._look(name, process, at_s)
            memory: Any = await asyncio.to_thread(self.production.redis.info, "memory")
            self.redis_mb.append(memory["used_memory"] / 1e6)
            await asyncio.sleep(EVERY_S)

    def _look(self, name: str, process: int, at_s: float) -> None:
        place = Path("/proc") / str(process)
        try:
            pages = int((place / "statm").read_text().split()[1])
            descriptors = len(os.listdir(place / "fd"))
        except OSError:
            self.gone.add(name)
            return
        self.sizes.setdefault(name, []).append(Size(at_s, pages * PAGE_BYTES / 1e6, descriptors))

    def broken(self) -> Iterator[str]:
        """Yield what ended, and what was still growing in the second half."""
        for name in sorted(self.gone):
            yield f"{name} ended"
        for name, sizes in self.sizes.items():
            if sizes[-1].at_s < JUDGED_FROM_S:
                continue
            middle, end = _middle_and_end([size.rss_mb for size in sizes])
            if end > middle * (1 + GROWTH_MAX):
                yield f"{name} grew from {middle:.0f} to {end:.0f} MB in the second half"

    def story(self) -> Iterator[str]:
        """Yield a line for each process, and one for Redis."""
        for name, sizes in self.sizes.items():
            middle, end = _middle_and_end([size.rss_mb for size in sizes])
            open_now = sizes[-1].descriptors
            yield f"{name:12} {sizes[0].rss_mb:.0f} → {middle:.0f} → {end:.0f} MB, {open_now} files"
        yield f"{'redis':12} {self.redis_mb[0]:.1f} → {self.redis_mb[-1]:.1f} MB"


def _middle_and_end(sizes: list[float]) -> tuple[float, float]:
    """Return the medians of the third fifth and of the last one."""
    fifth = max(1, len(sizes) // 5)
    middle = sizes[len(sizes) // 2 - fifth // 2 :][:fifth]
    return statistics.median(middle), statistics.median(sizes[-fifth:])
