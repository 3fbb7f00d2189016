"""Loads of the processor cores, from the counters in /proc/stat."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re

from yolov7_trt_ros.errors import PowerFormatError

_LINE = re.compile(r'^(cpu\d*)((?:[ \t]+\d{1,20}){4,})[ \t]*$', re.MULTILINE | re.ASCII)


@dataclasses.dataclass(frozen=True)
class CpuTicks:
    """Time of a core since its start, in ticks of the kernel."""

    busy: int
    idle: int


def parse_cpu_ticks(text: str) -> dict[str, CpuTicks]:
    """
    Parse /proc/stat.

    Returns
    -------
    dict
        'cpu' for all together and 'cpu0'... for the online cores.

    Raises
    ------
    PowerFormatError
        It has no line of a processor.

    """
    ticks = {name: _ticks_of(numbers.split()) for name, numbers in _LINE.findall(text)}
    if not ticks:
        raise PowerFormatError(
            f"/proc/stat should have a line 'cpu user nice system idle ...', found {text[:40]!r}"
        )
    return ticks


def _ticks_of(numbers: list[str]) -> CpuTicks:
    """Parse: user nice system idle iowait irq softirq steal; user includes guests."""
    values = [int(number) for number in numbers[:8]]
    idle = sum(values[3:5])  # waiting for a disk is idle time too
    return CpuTicks(busy=sum(values) - idle, idle=idle)


def cpu_loads_percent(
    before: Mapping[str, CpuTicks], now: Mapping[str, CpuTicks]
) -> dict[str, float]:
    """
    Return the loads between two readings, 0 to 100.

    Cores that came online in between are left out, and so is everything if no tick has passed.
    """
    loads: dict[str, float] = {}
    for name in now.keys() & before.keys():
        busy = max(0, now[name].busy - before[name].busy)
        idle = max(0, now[name].idle - before[name].idle)  # idle and iowait may step back
        if busy + idle > 0:
            loads[name] = 100.0 * (busy / (busy + idle))  # rounds to 100 at most
    return {name: loads[name] for name in now if name in loads}
