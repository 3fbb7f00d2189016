"""The values in a line of tegrastats, frozen."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime

from yolov7_trt_ros.power.rails import RailPower


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """
    One memory: RAM, swap or the small on-chip IRAM.

    Attributes
    ----------
    used_mib, total_mib
        In MiB; the line may have another unit.
    largest_free_mib
        Size of the largest free block (`lfb`); None if the line has none.
    largest_free_count
        Number of free blocks of that size.
    cached_mib
        Cached part of the swap; None if the line has none.

    """

    used_mib: float
    total_mib: float
    largest_free_mib: float | None = None
    largest_free_count: int | None = None
    cached_mib: float | None = None


@dataclasses.dataclass(frozen=True)
class UnitUse:
    """
    Load and clock of a CPU core, the memory controller, the GPU or another engine.

    Attributes
    ----------
    on
        False for `off`: a core that is offline, an engine without power.
    load_percent
        None if it is not printed (Thor at rest, engines).
    clocks_mhz
        One clock, or one for each cluster of the GPU; () if none is printed (not root).

    """

    on: bool = True
    load_percent: float | None = None
    clocks_mhz: tuple[float, ...] = ()

    @property
    def mhz(self) -> float | None:
        """Return the highest of the clocks; None if none is printed."""
        return max(self.clocks_mhz, default=None)


@dataclasses.dataclass(frozen=True)
class TegrastatsSample:
    """
    One line of tegrastats. Missing values are None or empty.

    Attributes
    ----------
    time
        Local time of the board, to the second and without a time zone.
    ram, swap, iram
        Memories.
    cpus
        In the order of the cores, including offline ones.
    emc
        Memory controller: its load and clock.
    gpu
        GR3D.
    engines
        Further engines by name without `_FREQ`: `VIC`, `APE`, `NVENC0`, `GR3D2` ...
    mts_percent
        `MTS fg` and `bg`: load by the CPU's own translation of code (Denver, Carmel).
    temperatures_c, max_temperatures_c
        By the printed name of the sensor; None for a block without power. The second has the
        largest values, printed since R39.2. `PMIC` is no measurement up to R32: always 100.
    rails
        By name; rails without a name (`NC`) are left out.
    unknown
        Unknown text: runs of words, in their order.

    """

    time: datetime.datetime | None = None
    ram: MemoryUse | None = None
    swap: MemoryUse | None = None
    iram: MemoryUse | None = None
    cpus: tuple[UnitUse, ...] = ()
    emc: UnitUse | None = None
    gpu: UnitUse | None = None
    engines: Mapping[str, UnitUse] = dataclasses.field(default_factory=dict)
    mts_percent: tuple[float, float] | None = None
    temperatures_c: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    max_temperatures_c: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    rails: Mapping[str, RailPower] = dataclasses.field(default_factory=dict)
    unknown: tuple[str, ...] = ()
