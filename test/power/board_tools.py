"""Runs the tools of an emulated board as its users do."""

from __future__ import annotations

import os
import signal
import subprocess

from yolov7_trt_ros.emulated_board.board import EmulatedBoard

GPU = '/sys/class/devfreq/17000000.gpu'
CPU0 = '/sys/devices/system/cpu/cpu0/cpufreq'
ABORTED = 234

Result = subprocess.CompletedProcess


def run(board: EmulatedBoard, *command: str, answer: str | None = None) -> Result[str]:
    """Run a tool of the board to its end, with stdin closed unless there is an answer."""
    return subprocess.run(
        command, env={**os.environ, **board.env}, capture_output=True, text=True, timeout=600,
        **({'stdin': subprocess.DEVNULL} if answer is None else {'input': answer}))


def tegrastats_lines(board: EmulatedBoard, count: int, *prefix: str) -> list[str]:
    """Return the first lines of a tegrastats that is then ended."""
    process = subprocess.Popen(
        [*prefix, 'tegrastats', '--interval', '20'], env={**os.environ, **board.env}, text=True,
        stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip('\n') for _ in range(count)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(600) == 0
    process.stdout.close()
    return lines


def current_mode(board: EmulatedBoard) -> int:
    return int(board.read('/var/lib/nvpmodel/status').removeprefix('pmode:'))
