"""Joules an image from RAPL, the processor's own meter, where the system lets it be read."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

POWERCAP = Path("/sys/class/powercap")
SECONDS = 0.1  # of running a model; the meter is renewed about once a millisecond


@dataclass(frozen=True)
class Meter:
    """RAPL's zones of whole processor packages; they count everything that runs on them."""

    zones: tuple[Path, ...]

    def joules(self, work: Callable[[], object]) -> float:
        """What the packages take while `work` runs."""
        before = [_microjoules(zone / "energy_uj") for zone in self.zones]
        work()
        total = 0
        for zone, start in zip(self.zones, before, strict=True):
            end = _microjoules(zone / "energy_uj")
            if end < start:  # the counter started anew
                end += _microjoules(zone / "max_energy_range_uj")
            total += end - start
        return total / 1e6


def find_meter(folder: Path = POWERCAP) -> Meter | str:
    """The machine's meter, or the reason why there is none, in words."""
    zones = tuple(sorted(zone for zone in folder.glob("*-rapl:*") if zone.name.count(":") == 1))
    if not zones:
        return "the system shows no RAPL zones, as in most virtual machines"
    try:
        for zone in zones:
            _microjoules(zone / "energy_uj")
    except (OSError, ValueError):
        return "RAPL's energy_uj is not readable; root may allow it"
    return Meter(zones)


def joules_per_image(
    model: Callable[[Tensor], object], images: Tensor, meter: Meter, seconds: float = SECONDS
) -> float:
    """Energy of the packages over the images predicted, running batch after batch."""
    batches = 0

    def work() -> None:
        nonlocal batches
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            model(images)
            batches += 1

    return meter.joules(work) / (batches * len(images))


def _microjoules(path: Path) -> int:
    return int(path.read_text())
