"""Boards of JetPack 4: Nano, TX2, Xavier NX, AGX Xavier; see `catalogue`."""

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


def _zones_jp4(*labels: str) -> tuple[ZoneDefinition, ...]:
    """Return the thermal zones of JetPack 4, with the PMIC that always shows 100 degrees."""
    shares = {
        'CPU': ZoneDefinition('CPU-therm', 'CPU', gpu_share=0.1, cpu_share=0.6, offset_c=1.0),
        'GPU': ZoneDefinition('GPU-therm', 'GPU', gpu_share=0.6, cpu_share=0.1, offset_c=0.5),
        'PMIC': ZoneDefinition('PMIC-Die', 'PMIC', fixed_c=100.0),
        'thermal': ZoneDefinition('thermal-fan-est', 'thermal', gpu_share=0.2, cpu_share=0.2),
        'Tboard': ZoneDefinition('Tboard_tegra', 'Tboard'),
        'Tdiode': ZoneDefinition('Tdiode_tegra', 'Tdiode', gpu_share=0.1),
    }
    return tuple(
        shares.get(label, ZoneDefinition(f'{label}-therm', label, offset_c=0.2))
        for label in labels
    )


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
        0, 'CPU_A57', max_goes_up=True),
    gpu=GpuDefinition(
        'sys/devices/57000000.gpu', 'sys/devices/gpu.0', 'gpu', 'GPU',
        (ClockDefinition('57000000.gpu', 'sys/devices/57000000.gpu/devfreq/57000000.gpu',
                         steps(76800000, 921600000, 76800000)),),
        max_goes_up=False, gated='power'),
    emc=EmcDefinition(mhz(204, 408, 665.6, 800, 1065.6, 1331.2, 1600), 204000000,
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

TX2 = BoardDefinition(
    name='tx2',
    model='NVIDIA Jetson TX2 Developer Kit',
    compatible=('nvidia,p2597-0000+p3310-1000', 'nvidia,quill', 'nvidia,tegra186'),
    soc_family='tegra186', machine='quill', l4t=(32, '7.1'),
    conf_name='nvpmodel_t186.conf',
    cpu=CpuDefinition(
        6, (0, 1), steps(345600, 2035200, 153600), 0, 'CPU',
        clusters=((0, 3, 4, 5), (1, 2)), params=('CPU_A57', 'CPU_DENVER'), first_listed=1),
    gpu=GpuDefinition(
        'sys/devices/17000000.gp10b', 'sys/devices/gpu.0', 'gp10b', 'GPU',
        (ClockDefinition(
            '17000000.gp10b', 'sys/devices/17000000.gp10b/devfreq/17000000.gp10b',
            mhz(114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 726.75, 854.25, 930.75, 1032.75,
                1122, 1236.75, 1300.5)),)),
    emc=EmcDefinition(mhz(204, 408, 665.6, 800, 1062.4, 1331.2, 1600, 1866), 1600000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=(ModeDefinition(0, 'MAXN', 6, -1, -1, 0),
           ModeDefinition(1, 'MAXQ', 4, 1200000, 850000000, 1331200000, off=(1, 2)),
           ModeDefinition(2, 'MAXP_CORE_ALL', 6, 1400000, 1120000000, 1600000000),
           ModeDefinition(3, 'MAXP_CORE_ARM', 4, 2000000, 1120000000, 1600000000, off=(1, 2))),
    default_mode=2, reboot_rule='never',
    chips=(ChipDefinition('ina3221x', '0-0040',
                          ('VDD_SYS_GPU', 'VDD_SYS_SOC', 'VDD_4V0_WIFI')),
           ChipDefinition('ina3221x', '0-0041', ('VDD_IN', 'VDD_SYS_CPU', 'VDD_SYS_DDR'))),
    rails=(RailDefinition('VDD_SYS_GPU', 19000, 100, gpu=1.0),
           RailDefinition('VDD_SYS_SOC', 19000, 90, soc=1.0),
           RailDefinition('VDD_4V0_WIFI', 4800),
           RailDefinition('VDD_IN', 19000, 1200, 1.08, 1.08, 1.08, 1.08),
           RailDefinition('VDD_SYS_CPU', 19000, 100, cpu=1.0),
           RailDefinition('VDD_SYS_DDR', 19000, 300, emc=1.0)),
    input_rails=('VDD_IN',),
    power=PowerModel(7500, 0.02, 5000, 0.03, 2000, 0.4, 600),
    thermal=ThermalDefinition(
        _zones_jp4('PLL', 'MCPU', 'PMIC', 'Tboard', 'GPU', 'BCPU', 'thermal', 'Tdiode'),
        3.0, 100.0, 95.5, 101.0),
    fan='pwm-fan', grammar='jp4', ram_mb=7852, swap_mb=3926)

XAVIER_NX = BoardDefinition(
    name='xavier_nx',
    model='NVIDIA Jetson Xavier NX Developer Kit',
    compatible=('nvidia,p3449-0000+p3668-0000', 'nvidia,tegra194'),
    soc_family='tegra194', machine='NVIDIA Jetson Xavier NX Developer Kit', l4t=(32, '7.1'),
    conf_name='nvpmodel_t194_p3668.conf',
    cpu=CpuDefinition(6, (0, 2, 4), steps(115200, 1907200, 76800), 1190400, 'CPU_DENVER'),
    gpu=GpuDefinition(
        'sys/devices/17000000.gv11b', 'sys/devices/gpu.0', 'gv11b', 'GPU',
        (ClockDefinition(
            '17000000.gv11b', 'sys/devices/17000000.gv11b/devfreq/17000000.gv11b',
            mhz(114.75, 204, 306, 408, 510, 599.25, 701.25, 752.25, 803.25, 854.25, 905.25,
                956.25, 1007.25, 1058.25, 1109.25)),)),
    emc=EmcDefinition(mhz(204, 665.6, 800, 1065.6, 1331.2, 1600, 1866), 1600000000,
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

AGX_XAVIER = BoardDefinition(
    name='agx_xavier',
    model='NVIDIA Jetson AGX Xavier Developer Kit',
    compatible=('nvidia,p2972-0000', 'nvidia,tegra194'),
    soc_family='tegra194', machine='Jetson-AGX', l4t=(32, '7.1'),
    conf_name='nvpmodel_t194.conf',
    cpu=CpuDefinition(8, (0, 2, 4, 6), steps(115200, 2265600, 76800), 1190400, 'CPU_DENVER'),
    gpu=GpuDefinition(
        'sys/devices/17000000.gv11b', 'sys/devices/gpu.0', 'gv11b', 'GPU',
        (ClockDefinition(
            '17000000.gv11b', 'sys/devices/17000000.gv11b/devfreq/17000000.gv11b',
            mhz(114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 675.75, 828.75, 905.25, 1032.75,
                1198.5, 1236.75, 1338.75, 1377)),)),
    emc=EmcDefinition(mhz(204, 665.6, 800, 1065.6, 1331.2, 1600, 2133), 1600000000,
                      'sys/kernel/nvpmodel_emc_cap/emc_iso_cap', 'bpmp'),
    modes=(ModeDefinition(0, 'MAXN', 8, -1, -1, 0, 0),
           ModeDefinition(1, 'MODE_10W', 2, 1200000, 520000000, 1065600000, 5),
           ModeDefinition(2, 'MODE_15W', 4, 1200000, 670000000, 1331200000, 0),
           ModeDefinition(3, 'MODE_30W_ALL', 8, 1200000, 900000000, 1600000000, 0),
           ModeDefinition(4, 'MODE_30W_6CORE', 6, 1450000, 900000000, 1600000000, 0),
           ModeDefinition(5, 'MODE_30W_4CORE', 4, 1780000, 900000000, 1600000000, 0),
           ModeDefinition(6, 'MODE_30W_2CORE', 2, 2100000, 900000000, 1600000000, 0),
           ModeDefinition(7, 'MODE_15W_DESKTOP', 4, 2188800, 670000000, 1331200000, 0)),
    default_mode=7, reboot_rule='mask',
    chips=(ChipDefinition('ina3221x', '1-0040', ('GPU', 'CPU', 'SOC')),
           ChipDefinition('ina3221x', '1-0041', ('CV', 'VDDRQ', 'SYS5V'))),
    rails=(RailDefinition('GPU', 19000, gpu=1.0),
           RailDefinition('CPU', 19000, 700, cpu=1.0),
           RailDefinition('SOC', 19000, 600, emc=0.7, soc=1.0),
           RailDefinition('CV', 19000),
           RailDefinition('VDDRQ', 19000, 200, emc=0.8),
           RailDefinition('SYS5V', 5000, 3900, emc=0.2)),
    input_rails=('GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V'),
    power=PowerModel(19300, 0.03, 15000, 0.06, 5000, 0.3, 1500),
    thermal=ThermalDefinition(
        _zones_jp4('AO', 'GPU', 'Tdiode', 'PMIC', 'AUX', 'CPU', 'thermal', 'Tboard'),
        1.2, 110.0, 97.0, 101.0),
    fan='pwm-fan', fan_profile='quiet', grammar='jp4', ram_mb=31919, swap_mb=15959,
    extra_caps=('nafll_dla', 'nafll_dla_falcon', 'nafll_pva_vps', 'nafll_pva_core',
                'nafll_cvnas'))
