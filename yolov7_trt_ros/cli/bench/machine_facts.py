"""Facts of a benchmark's machine: processor, GPU, driver, clocks, power mode, versions."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import platform
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.errors import MissingDependencyError, PowerError
from yolov7_trt_ros.power.board.identity import JETSON, read_board
from yolov7_trt_ros.power.nvml.library import load_nvml, NvmlDevice
from yolov7_trt_ros.report.bench.machine_load import read_load
from yolov7_trt_ros.report.bench.row import Where

if TYPE_CHECKING:
    from yolov7_trt_ros.power.telemetry.sample import TelemetrySource

_PACKAGES = ('torch', 'tensorrt', 'tensorrt_rtx', 'onnxruntime', 'onnxruntime-gpu', 'pycuda',
             'cuda-bindings', 'numpy', 'opencv-python-headless', 'opencv-python', 'pycocotools')
_KIB_PER_GIB = 1 << 20


def read_where(
    source: TelemetrySource | None, *, idle_watts: float | None = None, busy: str = '',
    root: Path = Path('/'),
) -> Where:
    """
    Return the facts of this machine, without host or user names.

    Parameters
    ----------
    source
        Source of the clocks; None if there is none.
    idle_watts
        Power metered before.
    busy
        Note on other load of the machine.
    root
        Folder that contains `proc`, `sys` and `etc`.

    """
    gpu = _gpu_facts() if root == Path('/') else {}
    board = read_board(root)
    facts = _processor_facts(root) | gpu
    if board.kind == JETSON:
        facts |= {'board': board.name, 'L4T': board.l4t_release}
        facts |= _power_mode(root)
    machine = facts.get('board') or facts.get('GPU') or facts['processor']
    return Where(
        machine=machine,
        facts={name: value for name, value in facts.items() if value},
        versions=installed_versions(),
        clocks_mhz=_clocks(source),
        idle_watts=idle_watts,
        busy=busy,
    )


def installed_versions() -> dict[str, str]:
    """Return the versions that a row depends on."""
    from importlib import metadata

    versions = output.installed_versions()
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    versions.pop('rosbags', None)
    return versions


def _processor_facts(root: Path) -> dict[str, str]:
    return {
        'processor': _processor(root),
        'cores': str(len(os.sched_getaffinity(0))),
        'load before': _load_before(),
        'memory': _memory(root),
        'CPU governor': _line(root / 'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor'),
        'operating system': _os_name(root),
        'kernel': platform.release(),
        'architecture': platform.machine(),
    }


def _processor(root: Path) -> str:
    for line in _text(root / 'proc/cpuinfo').splitlines():
        name, _, value = line.partition(':')
        if name.strip() in ('model name', 'Model'):
            return value.strip()
    return platform.machine()


def _load_before() -> str:
    load = read_load()
    text = 'unknown' if load.one_minute is None else f'{load.one_minute:.2f}'
    return f'{text} (busy)' if load.warning else text


def _memory(root: Path) -> str:
    for line in _text(root / 'proc/meminfo').splitlines():
        words = line.split()
        if words[:1] == ['MemTotal:'] and len(words) > 1 and words[1].isdecimal():
            return f'{int(words[1]) / _KIB_PER_GIB:.1f} GiB'
    return ''


def _os_name(root: Path) -> str:
    for line in _text(root / 'etc/os-release').splitlines():
        if line.startswith('PRETTY_NAME='):
            return line.partition('=')[2].strip().strip('"')
    return platform.system()


def _power_mode(root: Path) -> dict[str, str]:
    """Return the id of nvpmodel's recorded mode, which any user may read."""
    from yolov7_trt_ros.power.board.identity import nvpmodel_status_file

    noted = _line(nvpmodel_status_file(root)).partition(':')[2]
    return {'power mode': f'nvpmodel {int(noted)}'} if noted.isdecimal() else {}


def _gpu_facts() -> dict[str, str]:
    """Return facts of the first GPU from NVML; nothing without a GPU."""
    try:
        device = NvmlDevice(load_nvml())
    except (PowerError, MissingDependencyError):
        return {}
    try:
        return device.guarded('facts', lambda: _ask_gpu(device))
    except PowerError:
        return {}
    finally:
        device.close()


def _ask_gpu(device: NvmlDevice) -> dict[str, str]:
    """Return name, driver and limits; call only within `guarded`."""
    limit_mw = device.ask('nvmlDeviceGetEnforcedPowerLimit')
    memory = device.ask('nvmlDeviceGetMemoryInfo')
    largest = device.ask('nvmlDeviceGetMaxClockInfo', 1)  # NVML_CLOCK_SM
    return {
        'GPU': _plain(device.ask('nvmlDeviceGetName')),
        'driver': _driver_version(),
        'GPU memory': f'{memory.total / 1e9:.1f} GB' if memory is not None else '',
        'GPU power limit': f'{limit_mw / 1000:.0f} W' if limit_mw else '',
        'GPU largest clock': f'{largest} MHz' if largest else '',
    }


def _driver_version() -> str:
    library = load_nvml()
    with contextlib.suppress(library.NVMLError):
        return _plain(library.nvmlSystemGetDriverVersion())
    return ''


def _plain(value: object) -> str:
    """Return text; older versions of pynvml give bytes."""
    if isinstance(value, bytes):
        return value.decode('utf-8', 'replace')
    return '' if value is None else str(value)


def _clocks(source: TelemetrySource | None) -> Mapping[str, float]:
    if source is None:
        return {}
    try:
        clocks = source.read().clocks_mhz
    except PowerError:
        return {}
    return {name: round(value, 1) for name, value in clocks.items()}


def _line(path: Path) -> str:
    return _text(path).strip().partition('\n')[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
