"""Memory of a board: RAM, swap, the largest free block, and a warning before it runs out."""

from __future__ import annotations

import dataclasses
import re
import resource

LOW_RAM = 0.05
"""Share of the RAM below which the available memory is nearly nothing."""
LOW_RAM_AND_SWAP = 0.1
"""The same of RAM and swap together, by the RAM."""

_KIB_PER_MIB = 1024.0
_BYTES_PER_MIB = 1024.0 * 1024.0
_MEMINFO = re.compile(r'^(\w+):\s+(\d{1,15}) kB$', re.MULTILINE | re.ASCII)
_ZONE = re.compile(r'^Node\s+\d+, zone\s+\S+((?:\s+\d{1,15})+)\s*$', re.MULTILINE | re.ASCII)


@dataclasses.dataclass(frozen=True)
class BoardMemory:
    """
    Memory at one moment, in MiB; on a Jetson the GPU shares it.

    Attributes
    ----------
    total_mib
        RAM of the kernel.
    available_mib
        RAM that a program can still get without swapping.
    swap_total_mib, swap_free_mib
        0 without swap.
    largest_free_mib, largest_free_count
        Size and number of the largest free blocks; None if unknown. The GPU's driver needs large
        ones.

    """

    total_mib: float
    available_mib: float
    swap_total_mib: float = 0.0
    swap_free_mib: float = 0.0
    largest_free_mib: float | None = None
    largest_free_count: int | None = None

    @property
    def used_mib(self) -> float:
        """Return the RAM that is not available."""
        return self.total_mib - self.available_mib

    @property
    def swap_used_mib(self) -> float:
        """Return the swap in use."""
        return self.swap_total_mib - self.swap_free_mib

    @property
    def warning(self) -> str:
        """Return a warning if memory is nearly full, before the kernel ends processes."""
        left_mib = self.available_mib + self.swap_free_mib
        if (self.available_mib >= LOW_RAM * self.total_mib
                and left_mib >= LOW_RAM_AND_SWAP * self.total_mib):
            return ''
        return (
            f'memory is nearly full: {self.available_mib:.0f} of {self.total_mib:.0f} MiB RAM and '
            f'{self.swap_free_mib:.0f} of {self.swap_total_mib:.0f} MiB swap are free; without '
            'any the kernel ends processes'
        )


def parse_memory(meminfo: str, buddyinfo: str = '') -> BoardMemory | None:
    """
    Parse /proc/meminfo and /proc/buddyinfo.

    Returns
    -------
    BoardMemory or None
        None if meminfo lacks the total or the available RAM.

    """
    mib = {name: int(kib) / _KIB_PER_MIB for name, kib in _MEMINFO.findall(meminfo)}
    total, available = mib.get('MemTotal'), mib.get('MemAvailable')
    if total is None or available is None:
        return None
    largest = _largest_block(buddyinfo)
    return BoardMemory(
        total, available, mib.get('SwapTotal', 0.0), mib.get('SwapFree', 0.0), *largest)


def _largest_block(buddyinfo: str) -> tuple[float, int] | tuple[None, None]:
    """Return size and number of the largest free blocks; each column doubles the size."""
    columns = [[int(count) for count in counts.split()] for counts in _ZONE.findall(buddyinfo)]
    sums = [sum(zone[order] for zone in columns if order < len(zone))
            for order in range(max(map(len, columns), default=0))]
    for order, count in reversed(list(enumerate(sums))):
        if count:
            return resource.getpagesize() * 2.0**order / _BYTES_PER_MIB, count
    return None, None
