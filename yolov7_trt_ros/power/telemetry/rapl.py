"""
Energy counters of x86 processors (RAPL; Intel and AMD) below /sys/class/powercap.

Since 2020 only root may read them, because they leak what other users compute. They count
microjoules and start again at 0 after `max_energy_range_uj` (some 260 kJ: about an hour at 70 W).

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import time

from yolov7_trt_ros.errors import PowerError, PowerPermissionError
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.sysfs import SysfsTree, whole_number
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.units import MW_PER_W, NS_PER_S

HOW_TO_GRANT = (
    'RAPL counts the energy of the processor for root only. To let everybody on this machine read '
    'it until the next boot: sudo chmod a+r /sys/class/powercap/*/energy_uj'
)

_ZONES = ('/sys/class/powercap/intel-rapl:*', '/sys/class/powercap/intel-rapl-mmio:*')
_UJ_PER_J = 1e6
_SHORTEST_NS = 2_000_000
"""The counters advance about once a millisecond: in less than two, power is random."""


@dataclasses.dataclass(frozen=True)
class RaplZone:
    """
    A part of the processor with an energy counter.

    Attributes
    ----------
    name
        'package-0', its parts 'package-0/core', 'package-0/dram'; 'psys' is the whole platform.
    path
        Folder of its files.
    range_uj
        The counter wraps after this; 0 if unknown.

    """

    name: str
    path: str
    range_uj: int = 0

    @property
    def energy_path(self) -> str:
        """File of the counter."""
        return f'{self.path}/energy_uj'

    @property
    def in_total(self) -> bool:
        """
        Whether it is part of the total.

        Packages are, and the memory next to them. Other parts are inside their package, and psys
        is left out because many boards do not configure it.
        """
        return ('/' not in self.name and self.name != 'psys') or self.name.endswith('/dram')


def find_rapl_zones(tree: SysfsTree) -> tuple[RaplZone, ...]:
    """Find the zones; one listed twice (by register and by memory) counts once."""
    names: dict[str, str] = {}
    zones: dict[str, RaplZone] = {}
    for path in tree.find(*_ZONES):
        try:
            name = tree.read_text(f'{path}/name')
        except PowerError:
            continue
        parent = names.get(path.rsplit(':', 1)[0])
        names[path] = name if parent is None else f'{parent}/{name}'
        zones.setdefault(names[path], RaplZone(names[path], path, _range_uj(tree, path)))
    return tuple(zones.values())


def _range_uj(tree: SysfsTree, path: str) -> int:
    try:
        return max(0, tree.read_int(f'{path}/max_energy_range_uj'))
    except PowerError:
        return 0


@dataclasses.dataclass
class _Counter:
    """The count of a zone so far."""

    zone: RaplZone
    opened_ns: int
    last_ns: int
    last_uj: int
    sum_uj: int = 0
    current_mw: float | None = None

    def add(self, time_ns: int, energy_uj: int) -> None:
        if time_ns - self.last_ns < _SHORTEST_NS:
            return
        step_uj = energy_uj - self.last_uj
        if step_uj < 0:
            step_uj += self.zone.range_uj
        if step_uj >= 0:
            self.sum_uj += step_uj
            seconds = (time_ns - self.last_ns) / NS_PER_S
            self.current_mw = step_uj / _UJ_PER_J / seconds * MW_PER_W
        self.last_ns, self.last_uj = time_ns, energy_uj

    def power(self) -> RailPower | None:
        if self.current_mw is None:
            return None
        seconds = (self.last_ns - self.opened_ns) / NS_PER_S
        return RailPower(self.current_mw, self.sum_uj / _UJ_PER_J / seconds * MW_PER_W)


class RaplSource:
    """
    Power and energy of the processor. Power is the mean since the previous sample.

    Parameters
    ----------
    tree
        Where to read; not closed with the source.
    zones
        What to read; None: find it.
    clock_ns
        Time of a sample.

    """

    def __init__(
        self,
        tree: SysfsTree,
        zones: tuple[RaplZone, ...] | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._tree = tree
        self._zones = find_rapl_zones(tree) if zones is None else zones
        self._clock_ns = clock_ns
        self._counters: dict[str, _Counter] = {}
        self._problems: tuple[str, ...] = ()
        self._count()

    @property
    def name(self) -> str:
        """Short name for logs."""
        return 'rapl'

    @property
    def is_readable(self) -> bool:
        """Whether at least one counter could be read the last time."""
        return bool(self._counters) and len(self._problems) < len(self._zones)

    def read(self) -> BoardSample:
        """Take a sample; without permission it is empty, and `problems` gives the remedy."""
        time_ns, current = self._count()
        powers = {name: counter.power() for name, counter in current.items()}
        rails = {name: power for name, power in powers.items() if power is not None}
        energy_j = {name: counter.sum_uj / _UJ_PER_J for name, counter in current.items()}
        wanted = [zone.name for zone in self._zones if zone.in_total]
        return BoardSample(
            time_ns=time_ns,
            rails=rails,
            total_mw=_sum({name: rail.current_mw for name, rail in rails.items()}, wanted),
            energy_j=energy_j,
            total_energy_j=_sum(energy_j, wanted),
            problems=tuple(dict.fromkeys(self._problems)),
        )

    def close(self) -> None:
        """Do nothing: the tree is the caller's."""

    def _count(self) -> tuple[int, dict[str, _Counter]]:
        """Read all counters; returns those that could be read."""
        texts = self._tree.read_all([zone.energy_path for zone in self._zones])
        time_ns = self._clock_ns()
        self._problems = tuple(
            HOW_TO_GRANT if isinstance(text, PowerPermissionError) else str(text)
            for text in texts.values() if isinstance(text, PowerError)
        )
        read: dict[str, _Counter] = {}
        for zone in self._zones:
            text = texts[zone.energy_path]
            energy_uj = whole_number(text) if isinstance(text, str) else None
            if energy_uj is not None:
                read[zone.name] = self._add(zone, time_ns, energy_uj)
        return time_ns, read

    def _add(self, zone: RaplZone, time_ns: int, energy_uj: int) -> _Counter:
        counter = self._counters.get(zone.name)
        if counter is None:
            counter = _Counter(zone, time_ns, time_ns, energy_uj)
            self._counters[zone.name] = counter
        counter.add(time_ns, energy_uj)
        return counter


def _sum(values: Mapping[str, float], wanted: list[str]) -> float | None:
    """Sum the wanted ones; None if one is missing."""
    if not wanted or any(name not in values for name in wanted):
        return None
    return sum(values[name] for name in wanted)
