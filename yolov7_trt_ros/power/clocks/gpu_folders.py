"""Find the devfreq folders of the GPU's clocks, by name."""

from __future__ import annotations

import re

from yolov7_trt_ros.power.sysfs import SysfsTree

GPU = 'gpu'
"""Folder of the compute part's clock; Thor has another one, for the video part."""

_CHIPS = ('gpu', 'gv11b', 'gp10b', 'ga10b', 'gb10b', 'gm20b')
_NAME = re.compile(rf'(?:.*\.)?(?:{"|".join(_CHIPS)})|gpu-.*')
# For kernels whose /sys/class/devfreq is empty or hidden.
_FOLDERS = (
    '/sys/devices/gpu.0/devfreq/*',
    '/sys/devices/*.g[pva]1[01]b/devfreq/*',
    '/sys/devices/*.g[pva]1[01]b/devfreq_dev',
    '/sys/devices/platform/*.gpu/devfreq_dev',
    '/sys/devices/platform/*/*.gpu/devfreq_dev',
)


def find_gpu_folders(tree: SysfsTree) -> tuple[tuple[str, str], ...]:
    """
    Find the folders with the GPU's clocks.

    Returns
    -------
    tuple
        Pairs of name and folder. The name of the first, or Thor's gpu-gpc-0, is 'gpu'; others
        are named as they are (Thor's gpu-nvd-0: 'gpu_nvd').

    """
    listed = [path for path in tree.find('/sys/class/devfreq/*') if _is_gpu(tree, path)]
    if not listed:
        listed = [path for path in tree.find(*_FOLDERS) if tree.exists(f'{path}/cur_freq')][:1]
    if not listed:
        return ()
    named = {path: _gpu_name(path) for path in listed}
    if GPU not in named.values():
        named[listed[0]] = GPU
    return tuple((name, path) for path, name in named.items())


def _is_gpu(tree: SysfsTree, path: str) -> bool:
    name = tree.read_or_empty(f'{path}/device/of_node/name')
    return name in _CHIPS or _NAME.fullmatch(path.rsplit('/', 1)[1]) is not None


def _gpu_name(path: str) -> str:
    """'gpu-nvd-0' -> 'gpu_nvd', 'gpu-gpc-0' -> 'gpu', '17000000.ga10b' -> itself."""
    name = re.sub(r'-0$', '', path.rsplit('/', 1)[1]).replace('-', '_')
    return GPU if name == 'gpu_gpc' else name
