"""Facts about a machine besides its power: module, JetPack, time since boot, disk space."""

from __future__ import annotations

from pathlib import Path
import re
import shutil

from yolov7_trt_ros.power.board.identity import BoardInfo
from yolov7_trt_ros.power.board.names import jetpack_name, module_name

_UPTIME = re.compile(r'(\d{1,12})(?:\.\d+)? ', re.ASCII)
_S_PER_MINUTE, _MINUTES_PER_HOUR, _HOURS_PER_DAY = 60, 60, 24
_BYTES_PER_GIB = 1024**3


def machine_facts(root: Path, board: BoardInfo) -> dict[str, str]:
    """
    Return facts by name; reads files, which may hang on a failing disk.

    Parameters
    ----------
    root
        Folder that holds `proc`; the free space is that of its file system.
    board
        Which board it is.

    """
    facts = {
        'module': module_name(board.compatible),
        'JetPack': jetpack_name(board.l4t_release),
        'uptime': read_uptime(root),
        'disk': read_disk(root),
    }
    return {name: text for name, text in facts.items() if text}


def read_uptime(root: Path) -> str:
    """Return the time since boot, such as `3 d 04:05`; '' if it cannot be read."""
    try:
        match = _UPTIME.match((root / 'proc/uptime').read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError):
        return ''
    if match is None:
        return ''
    hours, minutes = divmod(int(match[1]) // _S_PER_MINUTE, _MINUTES_PER_HOUR)
    days, hours = divmod(hours, _HOURS_PER_DAY)
    return f'{days} d {hours:02}:{minutes:02}'


def read_disk(root: Path) -> str:
    """Return the space of the disk that the root folder is on; '' if unknown."""
    try:
        disk = shutil.disk_usage(root)
    except OSError:
        return ''
    free, total = disk.free / _BYTES_PER_GIB, disk.total / _BYTES_PER_GIB
    return f'{free:.1f} of {total:.1f} GiB free'
