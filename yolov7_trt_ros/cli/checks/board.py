"""Checks of an NVIDIA Jetson: the board, its tools, and the rights of this user."""

from __future__ import annotations

import re

from yolov7_trt_ros.cli.checks.host_probe import Check, HostProbe, MISSING, OK, WARN

_TOOLS = ('nvpmodel', 'jetson_clocks', 'tegrastats')
_GROUPS = ('video', 'render')


def check_board(probe: HostProbe) -> list[Check]:
    """Check the board; one line if this is not a Jetson."""
    model = probe.read('/proc/device-tree/model') or ''
    release = probe.read('/etc/nv_tegra_release') or ''
    if 'nvidia' not in model.lower() and not release:
        found = f'none ({model})' if model else 'none'
        return [Check('Jetson board', OK, f'{found}; its tools are not needed')]
    board = Check('Jetson board', OK, f'{model or "unknown"}, {_l4t(release)}')
    tools = [_tool(probe, name) for name in _TOOLS]
    return [board, *tools, _groups(probe), _sudo(probe)]


def _l4t(release: str) -> str:
    """Return `L4T 36.4.3` from the first line of nv_tegra_release."""
    found = re.search(r'R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)', release)
    return f'L4T {found.group(1)}.{found.group(2)}' if found else 'L4T release unknown'


def _tool(probe: HostProbe, name: str) -> Check:
    path = probe.which(name)
    if path:
        return Check(name, OK, path)
    fix = 'sudo apt install nvidia-l4t-tools nvidia-l4t-nvpmodel'
    return Check(name, MISSING, 'not on PATH', fix)


def _groups(probe: HostProbe) -> Check:
    mine = (probe.run(('id', '-nG')) or '').split()
    absent = [group for group in _GROUPS if group not in mine]
    if not absent or 'root' in mine:
        found = [group for group in mine if group in (*_GROUPS, 'root')]
        return Check('groups', OK, ' '.join(found))
    return Check('groups', WARN, f'not in {", ".join(absent)}: the GPU may be inaccessible',
                 f'sudo usermod -aG {",".join(absent)} $USER, then log in again')


def _sudo(probe: HostProbe) -> Check:
    if probe.run(('sudo', '-n', 'true')) is not None:
        return Check('sudo', OK, 'works without a password')
    return Check('sudo', WARN, 'asks for a password: power modes cannot be set',
                 'allow nvpmodel and jetson_clocks in /etc/sudoers.d')
