"""Definition of the clocks of an emulated board: GPU, CPU, memory."""

from __future__ import annotations

from typing import NamedTuple


class ClockDefinition(NamedTuple):
    """
    One devfreq clock.

    Attributes
    ----------
    name : str
        Folder in ``/sys/class/devfreq``.
    folder : str
        Folder with min_freq, max_freq and cur_freq, relative to the root.
    table_hz : tuple of int
        Available frequencies, ascending, in Hz.
    rest_hz : int
        Minimum after switching on, and of every mode; 0: the lowest in the table.

    """

    name: str
    folder: str
    table_hz: tuple[int, ...]
    rest_hz: int = 0

    @property
    def lowest_hz(self) -> int:
        """Return the minimum after switching on."""
        return self.rest_hz or self.table_hz[0]


class GpuDefinition(NamedTuple):
    """
    The GPU: its clocks (the first is the one that is capped) and its device folder.

    Attributes
    ----------
    device : str
        Device folder with railgate_enable, load and the masks, relative to the root.
    alias : str
        Link to the device (``gpu.0``), through which nvpmodel writes.
    of_name : str
        Name of the device-tree node; '' if devfreq has no device folder (Thor).
    param : str
        Name of the clock in nvpmodel.conf.
    clocks : tuple of ClockDefinition
    fbp_mask : int or None
    max_goes_up : bool
        A maximum that is not in the table becomes the next higher one, else the next lower.
    gated : str
        What an idle GPU loses: '' (nothing), 'power', or 'all' (also its clock and its
        temperature).
    tpc_count : int
        Number of TPCs, of which a mask switches some off; 0: without effect here.

    """

    device: str
    alias: str
    of_name: str
    param: str
    clocks: tuple[ClockDefinition, ...]
    fbp_mask: int | None = None
    max_goes_up: bool = True
    gated: str = ''
    tpc_count: int = 0


class CpuDefinition(NamedTuple):
    """
    The CPU: number of cores, the first one of each cluster, and their frequencies in kHz.

    Attributes
    ----------
    core_count : int
    leaders : tuple of int
        First core of each cluster; all cores of a cluster share their clock.
    table_khz : tuple of int
    mode_min_khz : int
        Value that nvpmodel writes to scaling_min_freq.
    param : str
        Name in nvpmodel.conf, before ``_0``.
    idle_states : tuple of str
    max_goes_up : bool
        As for the GPU.
    clusters : tuple of tuple of int
        Cores of each cluster; () if they follow their leader.
    params : tuple of str
        Names in nvpmodel.conf by cluster; () for param with ``_0``...
    first_listed : int
        First core that nvpmodel.conf switches.

    """

    core_count: int
    leaders: tuple[int, ...]
    table_khz: tuple[int, ...]
    mode_min_khz: int
    param: str
    idle_states: tuple[str, ...] = ('WFI', 'c7')
    max_goes_up: bool = False
    clusters: tuple[tuple[int, ...], ...] = ()
    params: tuple[str, ...] = ()
    first_listed: int = 0

    def leader_of(self, core: int) -> int:
        """Return the first core of the cluster that a core is in."""
        for cluster in self.clusters:
            if core in cluster:
                return cluster[0]
        return max(leader for leader in self.leaders if leader <= core)


class EmcDefinition(NamedTuple):
    """
    The memory clock.

    Attributes
    ----------
    table_hz : tuple of int
    idle_hz : int
        Frequency without load.
    cap_file : str
        File that nvpmodel writes its cap to.
    kind : str
        Where its live values are: 'clk' (t210), 'bpmp' (t194, t234) or 'devfreq' (t264).

    """

    table_hz: tuple[int, ...]
    idle_hz: int
    cap_file: str
    kind: str
