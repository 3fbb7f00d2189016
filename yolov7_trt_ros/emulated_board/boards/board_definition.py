"""Definition of an emulated board: modes, rails, sensors and clocks."""

from __future__ import annotations

from typing import NamedTuple

from yolov7_trt_ros.emulated_board.boards.clock_definitions import (
    CpuDefinition,
    EmcDefinition,
    GpuDefinition,
)
from yolov7_trt_ros.errors import PowerCommandError


class ModeDefinition(NamedTuple):
    """
    One power mode; -1 means no cap, and so does 0 for the memory clock before JetPack 6.

    Attributes
    ----------
    mode_id : int
    name : str
    cores : int
        Number of online cores, from core 0 on unless `off` is given.
    cpu_max_khz, gpu_max_hz, emc_max_hz : int
    tpc_mask : int or None
    off : tuple of int
        Cores that are offline; (): the last ones.

    """

    mode_id: int
    name: str
    cores: int
    cpu_max_khz: int
    gpu_max_hz: int
    emc_max_hz: int
    tpc_mask: int | None = None
    off: tuple[int, ...] = ()

    def has_core(self, core: int) -> bool:
        """Whether a core is online."""
        return core not in self.off if self.off else core < self.cores


class RailDefinition(NamedTuple):
    """
    A power rail: base_mw plus the weighted parts of the power model.

    Its current is measured in whole step_ma: 40 uV by the shunt, 5 mOhm except on the AGX Orin,
    since recorded readings at 5 V are 40 mW apart.
    """

    name: str
    voltage_mv: int
    base_mw: float = 0.0
    gpu: float = 0.0
    cpu: float = 0.0
    emc: float = 0.0
    soc: float = 0.0
    step_ma: int = 8


class ChipDefinition(NamedTuple):
    """
    One power monitor on the I2C bus.

    Attributes
    ----------
    driver : str
        'ina3221x' (iio files of JetPack 4), 'ina3221' or 'ina238' (hwmon files).
    address : str
        Such as '1-0040'.
    channels : tuple of str
        Rail of each channel; 'NC' is not connected.

    """

    driver: str
    address: str
    channels: tuple[str, ...]


class PowerModel(NamedTuple):
    """
    Power of each part at full load and top clock in mW, and its idle share.

    ``soc_mw`` does not depend on clocks.
    """

    gpu_mw: float
    gpu_idle: float
    cpu_mw: float
    cpu_idle: float
    emc_mw: float
    emc_idle: float
    soc_mw: float


class ZoneDefinition(NamedTuple):
    """
    One thermal zone.

    Attributes
    ----------
    zone_type : str
        Content of the zone's ``type`` file.
    label : str
        Its name in tegrastats.
    gpu_share, cpu_share : float
        Degrees Celsius above the heat sink for each watt of that part.
    offset_c : float
    fixed_c : float or None
        Temperature that never moves (the PMIC's 100 degrees Celsius).
    gated : bool
        The block has no power: reading its temperature fails.
    hottest : bool
        The zone shows the hottest of all (tj).
    of_gpu : bool
        It is gated while the GPU is.

    """

    zone_type: str
    label: str
    gpu_share: float = 0.0
    cpu_share: float = 0.0
    offset_c: float = 0.0
    fixed_c: float | None = None
    gated: bool = False
    hottest: bool = False
    of_gpu: bool = False


class ThermalDefinition(NamedTuple):
    """
    Heat sink and limits.

    Attributes
    ----------
    zones : tuple of ZoneDefinition
    resistance_c_per_w : float
        Heat sink to air with the fan at rest; a full fan halves it.
    time_constant_s : float
    throttle_c, shutdown_c : float

    """

    zones: tuple[ZoneDefinition, ...]
    resistance_c_per_w: float
    time_constant_s: float
    throttle_c: float
    shutdown_c: float


class BoardDefinition(NamedTuple):
    """
    One board with one release of its software.

    Attributes
    ----------
    name : str
        Key in `BOARDS`.
    model : str
        Device-tree model.
    compatible : tuple of str
        Device-tree compatible strings.
    soc_family, machine : str
        As ``jetson_clocks --show`` prints them.
    l4t : tuple of (int, str)
        Major release and revision: (36, '4.3').
    conf_name : str
        File in /etc/nvpmodel that /etc/nvpmodel.conf links to.
    modes : tuple of ModeDefinition
    default_mode : int
    reboot_rule : str
        'mask' (another TPC_PG_MASK needs a reboot), 'always' or 'never'.
    real_tpc_mask : int or None
        Mask that the file of such a board always shows, whatever was requested.
    fan : str
        'pwm-fan' (JetPack 4) or 'hwmon' (nvfancontrol).
    fan_profile : str or None
        Profile of nvpmodel, if it handles fans.
    ram_mb, swap_mb : int
    grammar : str
        Grammar of tegrastats: 'jp4', 'jp5', 'jp6' or 'jp7'.
    input_rails : tuple of str
        Rails that together carry all power; they feed the others.

    """

    name: str
    model: str
    compatible: tuple[str, ...]
    soc_family: str
    machine: str
    l4t: tuple[int, str]
    conf_name: str
    cpu: CpuDefinition
    gpu: GpuDefinition
    emc: EmcDefinition
    modes: tuple[ModeDefinition, ...]
    default_mode: int
    reboot_rule: str
    chips: tuple[ChipDefinition, ...]
    rails: tuple[RailDefinition, ...]
    input_rails: tuple[str, ...]
    power: PowerModel
    thermal: ThermalDefinition
    fan: str
    grammar: str
    ram_mb: int
    swap_mb: int = 0
    fan_profile: str | None = None
    real_tpc_mask: int | None = None
    extra_caps: tuple[str, ...] = ()

    def mode(self, mode_id: int) -> ModeDefinition:
        """Return the mode with that id; raises PowerCommandError without one."""
        for mode in self.modes:
            if mode.mode_id == mode_id:
                return mode
        known = ', '.join(f'{mode.mode_id} {mode.name}' for mode in self.modes)
        raise PowerCommandError(f'expected a mode of {self.name} ({known}), found {mode_id}')

    def rail(self, name: str) -> RailDefinition | None:
        """Return the rail of that name; None for a channel that is not connected."""
        return next((rail for rail in self.rails if rail.name == name), None)

    @property
    def l4t_release(self) -> str:
        """Return the release in its usual form: 'R36.4.3'."""
        return f'R{self.l4t[0]}.{self.l4t[1]}'
