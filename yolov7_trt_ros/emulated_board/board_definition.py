"""The form in which an emulated board is described: clocks, modes, rails, sensors."""

from __future__ import annotations

from typing import NamedTuple

from yolov7_trt_ros.errors import PowerCommandError


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
        Frequencies the clock can have, rising, in Hz.

    """

    name: str
    folder: str
    table_hz: tuple[int, ...]


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
        Name of the device-tree node; '' where devfreq has no device folder (Thor).
    param : str
        Name of the clock in nvpmodel.conf.
    clocks : tuple of ClockDefinition
    fbp_mask : int or None

    """

    device: str
    alias: str
    of_name: str
    param: str
    clocks: tuple[ClockDefinition, ...]
    fbp_mask: int | None = None


class CpuDefinition(NamedTuple):
    """
    The CPU: how many cores, which of them lead a cluster, and their frequencies in kHz.

    Attributes
    ----------
    core_count : int
    leaders : tuple of int
        First core of each cluster; all cores of a cluster share their clock.
    table_khz : tuple of int
    mode_min_khz : int
        What nvpmodel writes to scaling_min_freq.
    param : str
        Name in nvpmodel.conf, before ``_0``.
    idle_states : tuple of str

    """

    core_count: int
    leaders: tuple[int, ...]
    table_khz: tuple[int, ...]
    mode_min_khz: int
    param: str
    idle_states: tuple[str, ...] = ('WFI', 'c7')


class EmcDefinition(NamedTuple):
    """
    The memory clock.

    Attributes
    ----------
    table_hz : tuple of int
    idle_hz : int
        Where it rests without load.
    cap_file : str
        File that nvpmodel writes its cap to.
    kind : str
        Where its live values are: 'clk' (t210), 'bpmp' (t194, t234) or 'devfreq' (t264).

    """

    table_hz: tuple[int, ...]
    idle_hz: int
    cap_file: str
    kind: str


class ModeDefinition(NamedTuple):
    """
    One power mode; -1 stands for no cap, and 0 too for the memory clock before JetPack 6.

    Attributes
    ----------
    mode_id : int
    name : str
    cores : int
        How many cores are online, counted from core 0.
    cpu_max_khz, gpu_max_hz, emc_max_hz : int
    tpc_mask : int or None

    """

    mode_id: int
    name: str
    cores: int
    cpu_max_khz: int
    gpu_max_hz: int
    emc_max_hz: int
    tpc_mask: int | None = None


class RailDefinition(NamedTuple):
    """A power rail: base_mw plus the weighted parts of the power model; voltage in mV."""

    name: str
    voltage_mv: int
    base_mw: float = 0.0
    gpu: float = 0.0
    cpu: float = 0.0
    emc: float = 0.0
    soc: float = 0.0


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
    Power of each part at full load and top clock in mW, and the share of it that idling costs.

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
        The block is switched off: reading its temperature fails.
    hottest : bool
        The zone shows the hottest of all (tj).

    """

    zone_type: str
    label: str
    gpu_share: float = 0.0
    cpu_share: float = 0.0
    offset_c: float = 0.0
    fixed_c: float | None = None
    gated: bool = False
    hottest: bool = False


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
        What the mask's file shows whatever was asked for, where a board was seen to do that.
    fan : str
        'pwm-fan' (JetPack 4) or 'hwmon' (nvfancontrol).
    fan_profile : str or None
        Profile that nvpmodel knows about, where it handles fans.
    ram_mb, swap_mb : int
    grammar : str
        Of tegrastats: 'jp4', 'jp5', 'jp6' or 'jp7'.
    input_rails : tuple of str
        Rails that together carry all power; the others are behind them.

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
        """Return the mode with that id; PowerCommandError when the board has none."""
        for mode in self.modes:
            if mode.mode_id == mode_id:
                return mode
        known = ', '.join(f'{mode.mode_id} {mode.name}' for mode in self.modes)
        raise PowerCommandError(f'expected a mode of {self.name} ({known}), found {mode_id}')

    @property
    def l4t_release(self) -> str:
        """Release as people write it: 'R36.4.3'."""
        return f'R{self.l4t[0]}.{self.l4t[1]}'
