"""Checks of image transport: Fast DDS profile, shared memory, socket buffers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
import xml.etree.ElementTree

from yolov7_trt_ros.cli.checks.host_probe import Check, HostProbe, MISSING, OK, WARN
from yolov7_trt_ros.cli.checks.ros import reads_old_profile_variable, used_rmw

PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
"""The name from Kilted on, and the name up to Jazzy."""

PROFILE_NAME = 'fastdds_large_images.xml'
LEAST_SEGMENT_BYTES = 32 << 20
_LEAST_FREE_BYTES = 256 << 20
_LEAST_RMEM_BYTES = 4 << 20
_RMEM_PATH = '/proc/sys/net/core/rmem_max'


def check_transport(probe: HostProbe) -> list[Check]:
    """Check whether raw camera images will arrive."""
    return [_profile(probe), _shared_memory(probe), _left_over(probe), _rmem(probe)]


def _profile(probe: HostProbe) -> Check:
    name = 'large images'
    if 'fastrtps' not in used_rmw(probe):
        return Check(name, OK, f'{used_rmw(probe)} needs no Fast DDS profile')
    fix = _export(probe)
    given = {name: probe.environ[name] for name in PROFILE_VARIABLES if name in probe.environ}
    if not given:
        return Check(name, WARN, 'no Fast DDS profile set: raw images above 0.5 MB get lost', fix)
    wanted = _variables(probe)
    if not set(given) & set(wanted):
        return Check(name, WARN, f'{", ".join(given)} is set, but Fast DDS here reads '
                     f'{wanted[0]}: raw images above 0.5 MB get lost', fix)
    for variable, value in given.items():
        problem = _profile_problem(Path(value)) if value else 'is set, but empty'
        if problem:
            return Check(name, WARN, f'{variable} {problem}', fix)
    return Check(name, OK, f'profile {value}')


def _variables(probe: HostProbe) -> tuple[str, ...]:
    """Return the variables that this Fast DDS reads; both if unknown."""
    new, old = PROFILE_VARIABLES
    return {None: PROFILE_VARIABLES, True: (old,), False: (new,)}[
        reads_old_profile_variable(probe)
    ]


def _profile_problem(path: Path) -> str:
    """Return what is wrong with a profile; empty if its segment is large enough."""
    try:
        tree = xml.etree.ElementTree.parse(path)
    except OSError as exc:
        return f'names {path}, which cannot be read: {exc.strerror}'
    except xml.etree.ElementTree.ParseError as exc:
        return f'names {path}, which is not XML: {exc}'
    largest = _largest(tree, 'segment_size')
    if largest < LEAST_SEGMENT_BYTES:
        return (f'names {path}, whose shared-memory segment_size is {largest} bytes; '
                f'{LEAST_SEGMENT_BYTES} are needed')
    return ''


def _largest(tree: xml.etree.ElementTree.ElementTree[Any], tag: str) -> int:
    """Return the largest number in elements of a name; 0 if there is none."""
    texts = [
        (element.text or '').strip()
        for element in tree.iter()
        if element.tag.rpartition('}')[2] == tag
    ]
    return max((int(text) for text in texts if text.isdecimal()), default=0)


def _export(probe: HostProbe) -> str:
    """Return the command that sets the profile of this package."""
    folders = [prefix / 'share/yolov7_trt_ros/config' for prefix in probe.ament_prefixes()]
    folders.append(Path(__file__).parents[3] / 'config')  # a checkout
    files = (folder / PROFILE_NAME for folder in folders)
    path = next((file for file in files if file.is_file()), None)
    shown = path or f'<prefix>/share/yolov7_trt_ros/config/{PROFILE_NAME}'
    first, *others = _variables(probe)
    return (
        f'in the shell of the camera and of the node: export {first}={shown}'
        + ''.join(f' (Jazzy and before: {name})' for name in others)
    )


def _shared_memory(probe: HostProbe) -> Check:
    folder = probe.root / 'dev/shm'
    try:
        status = os.statvfs(folder)
    except OSError:
        return Check('/dev/shm', MISSING, 'missing: images between processes use UDP',
                     'in a container: --ipc=host, or --shm-size=1g')
    total = status.f_blocks * status.f_frsize
    free = status.f_bavail * status.f_frsize
    found = f'{free >> 20} MiB of {total >> 20} MiB free'
    if free < _LEAST_FREE_BYTES:
        return Check('/dev/shm', WARN, found,
                     'remove leftover files (fastdds shm clean); in a container: --shm-size=1g')
    return Check('/dev/shm', OK, found)


def _left_over(probe: HostProbe) -> Check:
    files = list((probe.root / 'dev/shm').glob('fastdds_*'))
    files += list((probe.root / 'dev/shm').glob('fastrtps_*'))
    sizes = []
    for file in files:
        try:
            sizes.append(file.stat().st_size)
        except OSError:  # deleted in the meantime
            continue
    if not sizes:
        return Check('shared-memory files', OK, 'none of Fast DDS')
    found = (
        f'{len(sizes)} of Fast DDS, {sum(sizes) >> 20} MiB: of running nodes, or left over from '
        'killed ones'
    )
    return Check('shared-memory files', WARN, found,
                 'when no ROS process runs: fastdds shm clean')


def _rmem(probe: HostProbe) -> Check:
    text = probe.read(_RMEM_PATH)
    if text is None or not text.isdigit():
        return Check('net.core.rmem_max', MISSING, f'{_RMEM_PATH} cannot be read')
    size = int(text)
    if size < _LEAST_RMEM_BYTES:
        found = f'{size} bytes: large images from other hosts get lost'
        fix = f'sudo sysctl -w net.core.rmem_max={_LEAST_RMEM_BYTES * 4}'
        return Check('net.core.rmem_max', WARN, found, fix)
    asked = _receive_buffer(probe)
    if asked is not None and asked < _LEAST_RMEM_BYTES:
        return Check('net.core.rmem_max', WARN, f'{size} bytes, of which the profile asks for '
                     f'{asked or "none"}: large images from other hosts get lost',
                     f'<receiveBufferSize>{_LEAST_RMEM_BYTES * 4}</receiveBufferSize> in its '
                     'transport of type UDPv4')
    return Check('net.core.rmem_max', OK, f'{size} bytes')


def _receive_buffer(probe: HostProbe) -> int | None:
    """Return the buffer size that the profile requests; None without a readable profile."""
    paths = [probe.environ[name] for name in PROFILE_VARIABLES if probe.environ.get(name)]
    try:
        trees = [xml.etree.ElementTree.parse(path) for path in paths]
    except (OSError, xml.etree.ElementTree.ParseError):
        return None  # the profile's own check reports it
    return min((_largest(tree, 'receiveBufferSize') for tree in trees), default=None)
