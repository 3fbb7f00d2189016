"""What jetson_clocks says and stores, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re
from typing import Literal

RefusalKind = Literal['permission', 'file_exists', 'file_missing', 'error']


@dataclasses.dataclass(frozen=True)
class CpuClock:
    """
    The line of one core.

    Attributes
    ----------
    core
        Its number.
    online
        Taken from the list of online cores where the line itself does not say (Thor).
    governor
        Such as `schedutil`; '' where it is not printed.
    min_khz, max_khz, current_khz
        None where it is not printed.
    idle_states
        Name to whether it may be entered; jetson_clocks forbids all of them.

    """

    core: int
    online: bool
    governor: str = ''
    min_khz: int | None = None
    max_khz: int | None = None
    current_khz: int | None = None
    idle_states: Mapping[str, bool] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ClockRange:
    """
    The line of the GPU, the memory controller (EMC) or another unit.

    Attributes
    ----------
    min_hz, max_hz, current_hz
        None where it is not printed.
    override
        `FreqOverride` of the EMC: whether its clock is held; None for other units.
    online
        Whether the unit has power; None where it is not printed.

    """

    min_hz: int | None = None
    max_hz: int | None = None
    current_hz: int | None = None
    override: bool | None = None
    online: bool | None = None


@dataclasses.dataclass(frozen=True)
class FanState:
    """
    The lines of the fan.

    Attributes
    ----------
    control
        Who sets the speed, such as `nvfancontrol` or `active`; '' where it is not printed.
    values
        Each number by its name: `speed`, `PWM`, `hwmon0_pwm1` (0..255), `hwmon1_pwm1_enable`.

    """

    control: str = ''
    values: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def pwm(self) -> int | None:
        """Return the duty, 0..255; None where it is not printed."""
        for name, value in self.values.items():
            if name.lower() in ('speed', 'pwm') or re.search(r'pwm\d*$', name):
                return value
        return None


@dataclasses.dataclass(frozen=True)
class ClocksShow:
    """
    What `jetson_clocks --show` prints.

    Attributes
    ----------
    soc_family, machine
        Such as `tegra234` and `NVIDIA Jetson Orin Nano ...`; '' where not printed.
    online_cpus, offline_cpus
        Numbers of cores.
    cluster_switching
        Such as `Disabled`; '' where not printed.
    cpus
        One for each core that has a line.
    clocks
        All other units by name: `GPU` or `gpu-gpc-0` and `gpu-nvd-0`, `EMC`, `PVA0_VPS0` ...
    active_gpu_tpcs
        How many TPCs of the GPU have power; None where not printed.
    fan
        None on a board without one.
    power_mode
        Name of the nvpmodel mode; '' where not printed.
    unknown
        Lines, and `key=value` of lines, that were not understood.

    """

    soc_family: str = ''
    machine: str = ''
    online_cpus: tuple[int, ...] = ()
    offline_cpus: tuple[int, ...] = ()
    cluster_switching: str = ''
    cpus: tuple[CpuClock, ...] = ()
    clocks: Mapping[str, ClockRange] = dataclasses.field(default_factory=dict)
    active_gpu_tpcs: int | None = None
    fan: FanState | None = None
    power_mode: str = ''
    unknown: tuple[str, ...] = ()

    @property
    def gpu(self) -> ClockRange | None:
        """Return the GPU, on Thor that of its graphics clusters; None where it has no line."""
        return next((clock for name, clock in self.clocks.items() if _is_gpu(name)), None)

    @property
    def emc(self) -> ClockRange | None:
        """Return the memory controller; None where it has no line."""
        return self.clocks.get('EMC')

    @property
    def locked(self) -> bool | None:
        """Whether the GPU and every online core can run at one clock only; None: not printed."""
        ranges = [(cpu.min_khz, cpu.max_khz) for cpu in self.cpus if cpu.online]
        ranges += [
            (clock.min_hz, clock.max_hz) for name, clock in self.clocks.items() if _is_gpu(name)
        ]
        known = [low == high for low, high in ranges if low is not None and high is not None]
        return all(known) if known else None


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why jetson_clocks did nothing: the kind, and the line that says so."""

    kind: RefusalKind
    line: str


def _is_gpu(name: str) -> bool:
    """Whether a unit is a part of the GPU: `GPU`, `gpu-gpc-0`, `gpu-nvd-0`."""
    return name.lower().startswith('gpu')
