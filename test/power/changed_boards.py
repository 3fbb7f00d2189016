"""What the tests of PowerControl change boards with, and look at them with."""

from __future__ import annotations

from collections.abc import Callable

from power_host import TOOL_LIMIT_S

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.root.commands import SystemRunner

Make = Callable[..., EmulatedBoard]

ORIN_GPU = '/sys/class/devfreq/17000000.gpu'
CPU0 = '/sys/devices/system/cpu/cpu0/cpufreq'


def control_of(
    board: EmulatedBoard,
    lines: list[str] | None = None,
    *,
    is_root: bool = True,
    dry_run: bool = False,
    timeout_s: float = TOOL_LIMIT_S,
) -> PowerControl:
    runner = SystemRunner(environment=board.env, is_root=is_root, user='alice')
    report = (lambda line: None) if lines is None else lines.append
    return PowerControl(
        board.root, runner, dry_run=dry_run, report=report, timeout_s=timeout_s
    )


def end_tools_after(control: PowerControl, seconds: float) -> None:
    """Give tools this time from now on: one that hangs is to be ended soon."""
    control._access.timeout_s = seconds


def replace_tool(board: EmulatedBoard, tool: str, script: str) -> None:
    """Put a shell script in the place of a tool; `original` in it is the emulated one."""
    path = board.tools / tool
    original = path.rename(path.with_name(f'{tool}.original'))
    path.write_text(f'#!/bin/sh\noriginal={original}\n{script}\n')
    path.chmod(0o755)


def settings(board: EmulatedBoard) -> dict[str, str]:
    """Return every file of the board that this room may change, and what is in it."""
    patterns = (
        'sys/**/*_freq', 'sys/**/online', 'sys/**/disable', 'sys/**/*_mask', 'sys/**/railgate*',
        'sys/**/fan_profile', 'sys/kernel/nvpmodel*/*', 'var/lib/nv*/status', 'etc/nvfan*',
        'run/*',
    )
    return {
        str(file.relative_to(board.root)): file.read_text().strip()
        for pattern in patterns for file in sorted(board.root.glob(pattern))
        if file.is_file() and 'cur_freq' not in file.name
    }
