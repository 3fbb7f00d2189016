"""
What each emulated board is: its clocks, power modes, rails and sensors.

Names, ids, masks, caps and frequency tables are those recorded on boards. What no recording shows
is our own estimate: the tables of the Orin Nano's and Thor's memory clock, Thor's CPU table and
caps per mode, and every coefficient of the power and thermal models, which are fitted to the idle
and loaded lines of ``tegrastats`` where there are some.
"""

from __future__ import annotations

from yolov7_trt_ros.emulated_board.board_definition import (
    BoardDefinition,
    ChipDefinition,
    ClockDefinition,
    CpuDefinition,
    EmcDefinition,
    GpuDefinition,
    ModeDefinition,
    PowerModel,
    RailDefinition,
    ThermalDefinition,
    ZoneDefinition,
)
from yolov7_trt_ros.errors import PowerCommandError


def _steps(first: int, last: int, step: int) -> tuple[int, ...]:
    """Return first, first + step, ... and last."""
    return (*range(first, last, step), last)


def _mhz(*values: float) -> tuple[int, ...]:
    """Return values in MHz as whole Hz."""
    return tuple(round(value * 1e6) for value in values)


def _zones_jp4(*labels: str) -> tuple[ZoneDefinition, ...]:
    """Return the thermal zones of JetPack 4, with the PMIC that always shows 100 degrees."""
    shares = {
        'CPU': ZoneDefinition('CPU-therm', 'CPU', gpu_share=0.1, cpu_share=0.6, offset_c=1.0),
        'GPU': ZoneDefinition('GPU-therm', 'GPU', gpu_share=0.6, cpu_share=0.1, offset_c=0.5),
        'PMIC': ZoneDefinition('PMIC-Die', 'PMIC', fixed_c=100.0),
        'thermal': ZoneDefinition('thermal-fan-est', 'thermal', gpu_share=0.2, cpu_share=0.2),
    }
    return tuple(
        shares.get(label, ZoneDefinition(f'{label}-therm', label, offset_c=0.2))
        for label in labels
    )


def _zones_orin(suffix: str, cpu: str, gpu: str, order: str) -> tuple[ZoneDefinition, ...]:
    """Return the zones of an Orin in the order tegrastats prints them; cv blocks are gated."""

    def zone(label: str) -> ZoneDefinition:
        kind = label.lower()
        return ZoneDefinition(
            f'{label}-{suffix}', label,
            gpu_share={gpu: 0.35, cpu: 0.1}.get(label, 0.1),
            cpu_share={cpu: 0.6}.get(label, 0.1),
            offset_c=1.0 if label in (cpu, gpu) else 0.0,
            gated=kind.startswith('cv'), hottest=kind == 'tj',
        )

    return tuple(zone(label) for label in order.split())


NANO = BoardDefinition(
    name='nano',
    model='NVIDIA Jetson Nano Developer Kit',
    compatible=('nvidia,p3450-0000', 'nvidia,jetson-nano', 'nvidia,tegra210'),
    soc_family='tegra210', machine='jetson-nano', l4t=(32, '7.1'),
    conf_name='nvpmodel_t210_jetson-nano.conf',
    cpu=CpuDefinition(
        4, (0,),
        (102000, 204000, 307200, 403200, 518400, 614400, 710400, 825600, 921600, 1036800,
         1132800, 1224000, 1326000, 1428000),
        0, 'CPU_A57'),
    gpu=GpuDefinition(
        'sys/devices/57000000.gpu', 'sys/devices/gpu.0', 'gpu', 'GPU',
        (ClockDefinition('57000000.gpu', 'sys/devices/57000000.gpu/devfreq/57000000.gpu',
                         _steps(76800000, 921600000, 76800000)),)),
    emc=EmcDefinition(_mhz(204, 408, 665.6, 800, 1065.6, 1331.2, 1600), 204000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'clk'),
    modes=(ModeDefinition(0, 'MAXN', 4, -1, -1, 0),
           ModeDefinition(1, '5W', 2, 918000, 640000000, 1600000000)),
    default_mode=0, reboot_rule='never',
    chips=(ChipDefinition('ina3221x', '6-0040', ('POM_5V_IN', 'POM_5V_GPU', 'POM_5V_CPU')),),
    rails=(RailDefinition('POM_5V_IN', 5000, 700, 1.08, 1.08, 1.08, 1.08),
           RailDefinition('POM_5V_GPU', 5000, gpu=1.0),
           RailDefinition('POM_5V_CPU', 5000, cpu=1.0)),
    input_rails=('POM_5V_IN',),
    power=PowerModel(4200, 0.05, 3600, 0.06, 1500, 0.2, 100),
    thermal=ThermalDefinition(
        _zones_jp4('PLL', 'CPU', 'PMIC', 'GPU', 'AO', 'thermal'), 4.5, 120.0, 97.0, 103.0),
    fan='pwm-fan', grammar='jp4', ram_mb=3964, swap_mb=1982)

XAVIER_NX = BoardDefinition(
    name='xavier_nx',
    model='NVIDIA Jetson Xavier NX Developer Kit',
    compatible=('nvidia,p3449-0000+p3668-0000', 'nvidia,tegra194'),
    soc_family='tegra194', machine='NVIDIA Jetson Xavier NX Developer Kit', l4t=(32, '7.1'),
    conf_name='nvpmodel_t194_p3668.conf',
    cpu=CpuDefinition(6, (0, 2, 4), _steps(115200, 1907200, 76800), 1190400, 'CPU_DENVER'),
    gpu=GpuDefinition(
        'sys/devices/17000000.gv11b', 'sys/devices/gpu.0', 'gv11b', 'GPU',
        (ClockDefinition(
            '17000000.gv11b', 'sys/devices/17000000.gv11b/devfreq/17000000.gv11b',
            _mhz(114.75, 204, 306, 408, 510, 599.25, 701.25, 752.25, 803.25, 854.25, 905.25,
                 956.25, 1007.25, 1058.25, 1109.25)),)),
    emc=EmcDefinition(_mhz(204, 665.6, 800, 1065.6, 1331.2, 1600, 1866), 1600000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=tuple(
        ModeDefinition(mode_id, name, cores, cpu, gpu, emc, 1)
        for mode_id, name, cores, cpu, gpu, emc in (
            (0, 'MODE_15W_2CORE', 2, 1907200, 1109250000, 1600000000),
            (1, 'MODE_15W_4CORE', 4, 1420800, 1109250000, 1600000000),
            (2, 'MODE_15W_6CORE', 6, 1420800, 1109250000, 1600000000),
            (3, 'MODE_10W_2CORE', 2, 1497600, 803250000, 1600000000),
            (4, 'MODE_10W_4CORE', 4, 1190400, 803250000, 1600000000),
            (5, 'MODE_10W_DESKTOP', 4, 1907200, 510000000, 1600000000),
            (6, 'MODE_20W_2CORE', 2, 1907200, 1109250000, 1866000000),
            (7, 'MODE_20W_4CORE', 4, 1420800, 1109250000, 1866000000),
            (8, 'MODE_20W_6CORE', 6, 1420800, 1109250000, 1866000000))),
    default_mode=5, reboot_rule='mask', real_tpc_mask=2,
    chips=(ChipDefinition('ina3221x', '7-0040', ('VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC')),),
    rails=(RailDefinition('VDD_IN', 5000, 1800, 1.08, 1.08, 1.08, 1.08),
           RailDefinition('VDD_CPU_GPU_CV', 5000, 200, gpu=1.0, cpu=1.0),
           RailDefinition('VDD_SOC', 5000, emc=1.0, soc=1.0)),
    input_rails=('VDD_IN',),
    power=PowerModel(9500, 0.05, 6000, 0.08, 2600, 0.3, 700),
    thermal=ThermalDefinition(
        _zones_jp4('AO', 'GPU', 'PMIC', 'AUX', 'CPU', 'thermal'), 3.6, 90.0, 96.0, 101.0),
    fan='pwm-fan', fan_profile='quiet', grammar='jp4', ram_mb=7772, swap_mb=3886,
    extra_caps=('nafll_dla', 'nafll_dla_falcon', 'nafll_pva_vps', 'nafll_pva_core',
                'nafll_cvnas'))

AGX_ORIN = BoardDefinition(
    name='agx_orin',
    model='Jetson AGX Orin',
    compatible=('nvidia,p3737-0000+p3701-0000', 'nvidia,tegra234', 'nvidia,tegra23x'),
    soc_family='tegra234', machine='Jetson AGX Orin', l4t=(35, '5.0'),
    conf_name='nvpmodel_p3701_0000.conf',
    cpu=CpuDefinition(12, (0, 4, 8), _steps(115200, 2201600, 76800), 729600, 'CPU_A78'),
    gpu=GpuDefinition(
        'sys/devices/17000000.ga10b', 'sys/devices/gpu.0', 'ga10b', 'GPU',
        (ClockDefinition(
            '17000000.ga10b', 'sys/devices/17000000.ga10b/devfreq/17000000.ga10b',
            _mhz(114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 726.75, 828.75, 930.75,
                 1032.75, 1134.75, 1236.75, 1300.5)),)),
    emc=EmcDefinition(_mhz(204, 665.6, 2133, 3199), 2133000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=(ModeDefinition(0, 'MAXN', 12, -1, -1, 0, 0),
           ModeDefinition(1, 'MODE_15W', 4, 1113600, 408000000, 2133000000, 248),
           ModeDefinition(2, 'MODE_30W', 8, 1728000, 612000000, 0, 240),
           ModeDefinition(3, 'MODE_50W', 12, 1497600, 816000000, 0, 0)),
    default_mode=2, reboot_rule='always',
    chips=(ChipDefinition('ina3221', '1-0040', ('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0')),
           ChipDefinition('ina3221', '1-0041', ('NC', 'VDDQ_VDD2_1V8AO', 'NC'))),
    rails=(RailDefinition('VDD_GPU_SOC', 19800, gpu=1.0, soc=1.0),
           RailDefinition('VDD_CPU_CV', 19800, cpu=1.0),
           RailDefinition('VIN_SYS_5V0', 5000, 2600, emc=1.0),
           RailDefinition('VDDQ_VDD2_1V8AO', 5000, 100, emc=0.15)),
    input_rails=('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'),
    power=PowerModel(27000, 0.06, 16000, 0.1, 5200, 0.45, 2200),
    thermal=ThermalDefinition(
        _zones_orin('therm', 'CPU', 'GPU', 'CV0 CPU SOC2 SOC0 CV1 GPU tj SOC1 CV2'),
        1.2, 110.0, 99.0, 105.0),
    fan='hwmon', grammar='jp5', ram_mb=62801, swap_mb=31400)

ORIN_NANO_SUPER = BoardDefinition(
    name='orin_nano_super',
    model='NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super',
    compatible=('nvidia,p3768-0000+p3767-0005-super', 'nvidia,p3767-0005', 'nvidia,tegra234'),
    soc_family='tegra234',
    machine='NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super', l4t=(36, '4.4'),
    conf_name='nvpmodel_p3767_0003_super.conf',
    cpu=CpuDefinition(6, (0,), _steps(115200, 1728000, 76800), 729600, 'CPU_A78'),
    gpu=GpuDefinition(
        'sys/devices/platform/17000000.gpu', 'sys/devices/platform/gpu.0', 'gpu', 'GPU',
        (ClockDefinition('17000000.gpu', 'sys/devices/platform/17000000.gpu/devfreq/17000000.gpu',
                         _steps(306000000, 1020000000, 102000000)),), fbp_mask=2),
    emc=EmcDefinition(_mhz(204, 665.6, 2133, 3199), 2133000000,
                      'sys/kernel/nvpmodel_clk_cap/emc', 'bpmp'),
    modes=(ModeDefinition(0, '15W', 6, 1497600, 612000000, 2133000000, 240),
           ModeDefinition(1, '25W', 6, 1344000, 918000000, 3199000000, 240),
           ModeDefinition(2, 'MAXN_SUPER', 6, -1, -1, -1, 240),
           ModeDefinition(3, '7W', 4, 960000, 408000000, 2133000000, 252)),
    default_mode=1, reboot_rule='mask',
    chips=(ChipDefinition('ina3221', '1-0040', ('VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC')),),
    rails=(RailDefinition('VDD_IN', 5000, 2624, 1.08, 1.08, 1.08, 1.08),
           RailDefinition('VDD_CPU_GPU_CV', 5000, 300, gpu=1.0, cpu=1.0),
           RailDefinition('VDD_SOC', 5000, emc=1.0, soc=1.0)),
    input_rails=('VDD_IN',),
    power=PowerModel(12800, 0.068, 3500, 0.143, 3600, 0.458, 660),
    thermal=ThermalDefinition(
        _zones_orin('thermal', 'cpu', 'gpu', 'cpu soc2 soc0 gpu tj soc1'),
        3.6, 80.0, 99.0, 105.0),
    fan='hwmon', grammar='jp6', ram_mb=7607)

THOR = BoardDefinition(
    name='thor',
    model='NVIDIA Jetson AGX Thor Developer Kit',
    compatible=('nvidia,p4071-0000+p3834-0008', 'nvidia,p3834-0008', 'nvidia,tegra264'),
    soc_family='tegra264', machine='NVIDIA Jetson AGX Thor Developer Kit', l4t=(38, '4.0'),
    conf_name='nvpmodel_p3834_0008.conf',
    cpu=CpuDefinition(14, (0, 2, 4, 6, 8, 10, 12), _steps(648000, 2601000, 108000), 972000,
                      'CPU', ('WFI', 'cc7')),
    gpu=GpuDefinition(
        'sys/devices/platform/gpu.0', 'sys/devices/platform/gpu.0', '', 'GPU_GPC',
        (ClockDefinition('gpu-gpc-0', 'sys/devices/virtual/devfreq/gpu-gpc-0',
                         _steps(315000000, 1575000000, 105000000)),
         ClockDefinition('gpu-nvd-0', 'sys/devices/virtual/devfreq/gpu-nvd-0',
                         _steps(315000000, 1692000000, 153000000)))),
    emc=EmcDefinition(_mhz(665.6, 2750, 4266), 2750000000, 'sys/kernel/nvpmodel_clk_cap/emc',
                      'devfreq'),
    modes=(ModeDefinition(0, 'MAXN', 14, -1, -1, -1, 64),
           ModeDefinition(1, '120W', 14, 2592000, 1365000000, -1, 64),
           ModeDefinition(2, '90W', 12, 2160000, 1155000000, -1, 15873),
           ModeDefinition(3, '70W', 12, 1620000, 945000000, -1, 15873)),
    default_mode=1, reboot_rule='mask',
    chips=(ChipDefinition('ina3221', '2-0040', ('VDD_GPU', 'VDD_CPU_SOC_MSS', 'VIN_SYS_5V0')),
           ChipDefinition('ina238', '2-0044', ('VIN',))),
    rails=(RailDefinition('VDD_GPU', 20000, 1400, gpu=1.0),
           RailDefinition('VDD_CPU_SOC_MSS', 20000, cpu=1.0, emc=0.5, soc=1.0),
           RailDefinition('VIN_SYS_5V0', 5000, 4200, emc=0.5),
           RailDefinition('VIN', 20000, 8420, 1.45, 1.45, 1.45, 1.45)),
    input_rails=('VIN',),
    power=PowerModel(60000, 0.08, 30000, 0.05, 14000, 0.4, 3500),
    thermal=ThermalDefinition(
        (ZoneDefinition('cpu-thermal', 'cpu', 0.05, 0.25, 0.5),
         ZoneDefinition('tj-thermal', 'tj', hottest=True),
         ZoneDefinition('soc012-thermal', 'soc012', 0.05, 0.05),
         ZoneDefinition('gpu-thermal', 'gpu', 0.12, 0.05, 0.5),
         ZoneDefinition('soc345-thermal', 'soc345', 0.05, 0.05)),
        0.5, 120.0, 104.0, 114.5),
    fan='hwmon', grammar='jp7', ram_mb=125772)

BOARDS: dict[str, BoardDefinition] = {
    board.name: board for board in (NANO, XAVIER_NX, AGX_ORIN, ORIN_NANO_SUPER, THOR)
}


def find_board(name: str) -> BoardDefinition:
    """Return the board of that name; PowerCommandError lists the names there are."""
    if name not in BOARDS:
        raise PowerCommandError(
            f'expected the name of an emulated board ({", ".join(BOARDS)}), found {name!r}')
    return BOARDS[name]
