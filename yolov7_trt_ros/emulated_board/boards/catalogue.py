"""
The emulated boards by name: clocks, power modes, rails and sensors of each.

Names, ids, masks, caps and frequency tables were recorded on boards. The rest is our estimate: the
tables of memory clocks, the lowest clocks of Thor (only the number of steps, the top and some
others are known) and its number of TPCs, and all coefficients of the power and thermal models,
which are fitted to idle and loaded lines of ``tegrastats`` if available.
"""

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
from yolov7_trt_ros.emulated_board.boards.boards_jp4 import AGX_XAVIER, NANO, TX2, XAVIER_NX
from yolov7_trt_ros.emulated_board.boards.boards_orin import (
    AGX_ORIN,
    AGX_ORIN_32GB,
    ORIN_NANO,
    ORIN_NANO_SUPER,
    ORIN_NX,
)
from yolov7_trt_ros.emulated_board.boards.clock_definitions import (
    ClockDefinition,
    CpuDefinition,
    EmcDefinition,
    GpuDefinition,
)
from yolov7_trt_ros.emulated_board.boards.frequencies import mhz, steps
from yolov7_trt_ros.errors import PowerCommandError

THOR = BoardDefinition(
    name='thor',
    model='NVIDIA Jetson AGX Thor Developer Kit',
    compatible=('nvidia,p4071-0000+p3834-0008', 'nvidia,p3834-0008', 'nvidia,tegra264'),
    soc_family='tegra264', machine='NVIDIA Jetson AGX Thor Developer Kit', l4t=(38, '4.0'),
    conf_name='nvpmodel_p3834_0008.conf',
    cpu=CpuDefinition(14, (0, 2, 4, 6, 8, 10, 12), steps(54000, 2601000, 54000), 972000,
                      'CPU', ('WFI', 'cc7')),
    gpu=GpuDefinition(
        'sys/devices/platform/gpu.0', 'sys/devices/platform/gpu.0', '', 'GPU_GPC',
        (ClockDefinition('gpu-gpc-0', 'sys/devices/virtual/devfreq/gpu-gpc-0',
                         steps(54000000, 1575000000, 9000000), 315000000),
         ClockDefinition('gpu-nvd-0', 'sys/devices/virtual/devfreq/gpu-nvd-0',
                         steps(54000000, 1692000000, 9000000), 315000000)), tpc_count=11),
    emc=EmcDefinition(mhz(665.6, 2750, 4266), 2750000000, 'sys/kernel/nvpmodel_clk_cap/emc',
                      'devfreq'),
    modes=(ModeDefinition(0, 'MAXN', 14, -1, -1, -1, 64),
           ModeDefinition(1, '120W', 14, 2601000, 1386000000, -1, 64),
           ModeDefinition(2, '90W', 12, 2601000, 1530000000, -1, 15873),
           ModeDefinition(3, '70W', 12, 1998000, 1530000000, -1, 15873)),
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
    board.name: board for board in (
        NANO, TX2, XAVIER_NX, AGX_XAVIER, AGX_ORIN, AGX_ORIN_32GB, ORIN_NX, ORIN_NANO,
        ORIN_NANO_SUPER, THOR)
}


def find_board(name: str) -> BoardDefinition:
    """Return the board of that name; raises PowerCommandError with the available names."""
    if name not in BOARDS:
        raise PowerCommandError(
            f'expected the name of an emulated board ({", ".join(BOARDS)}), found {name!r}')
    return BOARDS[name]
