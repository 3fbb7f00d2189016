"""Boards of the Orin family, of JetPack 5 and 6; see `catalogue`."""

from __future__ import annotations

from yolov7_trt_ros.emulated_board.boards.board_definition import (
    BoardDefinition,
    ChipDefinition,
    ModeDefinition,
    PowerModel,
    RailDefinition,
    ThermalDefinition,
    ZoneDefinition,
)
from yolov7_trt_ros.emulated_board.boards.clock_definitions import (
    ClockDefinition,
    CpuDefinition,
    EmcDefinition,
    GpuDefinition,
)
from yolov7_trt_ros.emulated_board.boards.frequencies import mhz, steps


def _zones_orin(
    suffix: str, cpu: str, gpu: str, order: str, *, gated: str = 'cv'
) -> tuple[ZoneDefinition, ...]:
    """Return the zones of an Orin in the order tegrastats prints them."""

    def zone(label: str) -> ZoneDefinition:
        kind = label.lower()
        return ZoneDefinition(
            f'{label}-{suffix}', label,
            gpu_share={gpu: 0.35, cpu: 0.1}.get(label, 0.1),
            cpu_share={cpu: 0.6}.get(label, 0.1),
            offset_c=1.0 if label in (cpu, gpu) else 0.0,
            gated=bool(gated) and kind.startswith(gated), hottest=kind == 'tj',
            of_gpu=label == 'GPU',
        )

    return tuple(zone(label) for label in order.split())


AGX_ORIN = BoardDefinition(
    name='agx_orin',
    model='Jetson AGX Orin',
    compatible=('nvidia,p3737-0000+p3701-0000', 'nvidia,tegra234', 'nvidia,tegra23x'),
    soc_family='tegra234', machine='Jetson AGX Orin', l4t=(35, '5.0'),
    conf_name='nvpmodel_p3701_0000.conf',
    cpu=CpuDefinition(12, (0, 4, 8), steps(115200, 2201600, 76800), 729600, 'CPU_A78'),
    gpu=GpuDefinition(
        'sys/devices/17000000.ga10b', 'sys/devices/gpu.0', 'ga10b', 'GPU',
        (ClockDefinition(
            '17000000.ga10b', 'sys/devices/17000000.ga10b/devfreq/17000000.ga10b',
            mhz(114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 726.75, 828.75, 930.75,
                1032.75, 1134.75, 1236.75, 1300.5)),), gated='all'),
    emc=EmcDefinition(mhz(204, 665.6, 2133, 3199), 2133000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=(ModeDefinition(0, 'MAXN', 12, -1, -1, 0, 0),
           ModeDefinition(1, 'MODE_15W', 4, 1113600, 408000000, 2133000000, 248),
           ModeDefinition(2, 'MODE_30W', 8, 1728000, 612000000, 0, 240),
           ModeDefinition(3, 'MODE_50W', 12, 1497600, 816000000, 0, 0)),
    default_mode=2, reboot_rule='always',
    chips=(ChipDefinition('ina3221', '1-0040', ('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0')),
           ChipDefinition('ina3221', '1-0041', ('NC', 'VDDQ_VDD2_1V8AO', 'NC'))),
    rails=(RailDefinition('VDD_GPU_SOC', 19800, gpu=1.0, soc=1.0, step_ma=20),
           RailDefinition('VDD_CPU_CV', 19800, cpu=1.0, step_ma=20),
           RailDefinition('VIN_SYS_5V0', 5000, 2600, emc=1.0, step_ma=20),
           RailDefinition('VDDQ_VDD2_1V8AO', 5000, 100, emc=0.15, step_ma=20)),
    input_rails=('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'),
    power=PowerModel(27000, 0.06, 16000, 0.1, 5200, 0.45, 2200),
    thermal=ThermalDefinition(
        _zones_orin('therm', 'CPU', 'GPU', 'CV0 CPU Tboard SOC2 Tdiode SOC0 CV1 GPU tj SOC1 CV2'),
        1.2, 110.0, 99.0, 105.0),
    fan='hwmon', grammar='jp5', ram_mb=62801, swap_mb=31400)

AGX_ORIN_32GB = AGX_ORIN._replace(
    name='agx_orin_32gb',
    model='NVIDIA Jetson AGX Orin 32GB',
    compatible=('nvidia,p3737-0000+p3701-0004', 'nvidia,tegra234', 'nvidia,tegra23x'),
    conf_name='nvpmodel_p3701_0004.conf',
    cpu=CpuDefinition(8, (0, 4), steps(115200, 2188800, 76800), 729600, 'CPU_A78'),
    gpu=AGX_ORIN.gpu._replace(clocks=(AGX_ORIN.gpu.clocks[0]._replace(
        table_hz=AGX_ORIN.gpu.clocks[0].table_hz[:9]),)),
    modes=(ModeDefinition(0, 'MAXN', 8, -1, -1, 0, 128),
           ModeDefinition(1, 'MODE_15W', 4, 1113600, 408000000, 2133000000, 248),
           ModeDefinition(2, 'MODE_30W', 8, 1728000, 612000000, 0, 240),
           ModeDefinition(3, 'MODE_40W', 8, 1497600, 816000000, 0, 128)),
    power=PowerModel(18000, 0.06, 11000, 0.1, 5200, 0.45, 2200),
    ram_mb=30697, swap_mb=15348)

_ORIN_JP5_GPU = GpuDefinition(
    'sys/devices/17000000.ga10b', 'sys/devices/gpu.0', 'ga10b', 'GPU',
    (ClockDefinition('17000000.ga10b', 'sys/devices/17000000.ga10b/devfreq/17000000.ga10b',
                     steps(306000000, 918000000, 102000000)),), fbp_mask=2)

ORIN_NX = BoardDefinition(
    name='orin_nx',
    model='NVIDIA Jetson Orin NX Engineering Reference Developer Kit',
    compatible=('nvidia,p3768-0000+p3767-0000', 'nvidia,p3767-0000', 'nvidia,tegra234'),
    soc_family='tegra234',
    machine='NVIDIA Jetson Orin NX Engineering Reference Developer Kit', l4t=(35, '4.1'),
    conf_name='nvpmodel_p3767_0000.conf',
    cpu=CpuDefinition(8, (0, 4), steps(115200, 1984000, 76800), 729600, 'CPU_A78'),
    gpu=_ORIN_JP5_GPU,
    emc=EmcDefinition(mhz(204, 665.6, 2133, 3199), 2133000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=(ModeDefinition(0, 'MAXN', 8, -1, -1, 0, 240),
           ModeDefinition(1, '10W', 4, 1190400, 612000000, 2133000000, 252),
           ModeDefinition(2, '15W', 4, 1651200, 612000000, 0, 252),
           ModeDefinition(3, '25W', 8, 1497600, 408000000, 0, 240)),
    default_mode=2, reboot_rule='mask',
    chips=(ChipDefinition('ina3221', '1-0040', ('VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC')),),
    rails=(RailDefinition('VDD_IN', 5000, 2900, 1.08, 1.08, 1.08, 1.08),
           RailDefinition('VDD_CPU_GPU_CV', 5000, 400, gpu=1.0, cpu=1.0),
           RailDefinition('VDD_SOC', 5000, emc=1.0, soc=1.0)),
    input_rails=('VDD_IN',),
    power=PowerModel(14000, 0.06, 6000, 0.1, 3600, 0.3, 700),
    thermal=ThermalDefinition(
        _zones_orin('therm', 'CPU', 'GPU', 'CV0 CPU SOC2 SOC0 CV1 GPU tj SOC1 CV2', gated=''),
        3.0, 80.0, 99.0, 105.0),
    fan='hwmon', grammar='jp5', ram_mb=15388, swap_mb=7694)

ORIN_NANO = ORIN_NX._replace(
    name='orin_nano',
    model='NVIDIA Jetson Orin Nano Developer Kit',
    compatible=('nvidia,p3768-0000+p3767-0005', 'nvidia,p3767-0005', 'nvidia,tegra234'),
    machine='NVIDIA Jetson Orin Nano Developer Kit',
    conf_name='nvpmodel_p3767_0003.conf',
    cpu=CpuDefinition(6, (0, 4), steps(115200, 1510400, 76800), 729600, 'CPU_A78'),
    gpu=_ORIN_JP5_GPU._replace(clocks=(_ORIN_JP5_GPU.clocks[0]._replace(
        table_hz=mhz(306, 408, 510, 612, 624.75)),)),
    emc=EmcDefinition(mhz(204, 665.6, 2133), 2133000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=(ModeDefinition(0, '15W', 6, -1, -1, 0, 240),
           ModeDefinition(1, '7W', 4, 960000, 408000000, 2133000000, 252)),
    default_mode=0,
    power=PowerModel(6000, 0.068, 3000, 0.143, 2400, 0.458, 660),
    ram_mb=7620, swap_mb=3810)

ORIN_NANO_SUPER = BoardDefinition(
    name='orin_nano_super',
    model='NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super',
    compatible=('nvidia,p3768-0000+p3767-0005-super', 'nvidia,p3767-0005', 'nvidia,tegra234'),
    soc_family='tegra234',
    machine='NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super', l4t=(36, '4.4'),
    conf_name='nvpmodel_p3767_0003_super.conf',
    cpu=CpuDefinition(6, (0,), steps(115200, 1728000, 76800), 729600, 'CPU_A78'),
    gpu=GpuDefinition(
        'sys/devices/platform/17000000.gpu', 'sys/devices/platform/gpu.0', 'gpu', 'GPU',
        (ClockDefinition('17000000.gpu', 'sys/devices/platform/17000000.gpu/devfreq/17000000.gpu',
                         steps(306000000, 1020000000, 102000000)),), fbp_mask=2),
    emc=EmcDefinition(mhz(204, 665.6, 2133, 3199), 2133000000,
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
