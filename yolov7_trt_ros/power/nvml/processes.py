"""The programs that use the GPU of a PC, and the GPU memory of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolov7_trt_ros.power.nvml.library import NvmlDevice

_QUESTIONS = ('nvmlDeviceGetComputeRunningProcesses', 'nvmlDeviceGetGraphicsRunningProcesses')
_BYTES_PER_MIB = 1024.0 * 1024.0
_MOST = 32
_NOT_AVAILABLE = (1 << 64) - 1  # nvml.h; newer versions of pynvml make it None
_LONGEST_NAME = 40


def read_processes(device: NvmlDevice, root: Path = Path('/')) -> dict[str, float | None]:
    """
    Return the memory of each program in MiB, the largest first; only within `device.guarded`.

    Parameters
    ----------
    device
        The GPU.
    root
        Folder that holds `proc`.

    Returns
    -------
    dict
        By `4711 python3`, or `4711` if its name is hidden, as in a container. None if the driver
        does not report it.

    """
    found: dict[int, float | None] = {}
    for question in _QUESTIONS:
        for process in device.ask(question) or ():
            pid, memory = int(process.pid), _memory_mib(process)
            found[pid] = memory if found.get(pid) is None else found[pid]
    largest = sorted(found.items(), key=lambda item: item[1] or 0.0, reverse=True)[:_MOST]
    return {f'{pid} {_name(root, pid)}'.strip(): memory for pid, memory in largest}


def _memory_mib(process: Any) -> float | None:
    used = process.usedGpuMemory
    return None if used is None or used == _NOT_AVAILABLE else used / _BYTES_PER_MIB


def _name(root: Path, pid: int) -> str:
    try:
        text = (root / f'proc/{pid}/comm').read_text('utf-8', 'replace')
    except OSError:
        return ''
    name = text.strip()[:_LONGEST_NAME]
    return ''.join(sign if sign.isprintable() else '?' for sign in name)
