"""
Install the sudoers lines of this package in /etc/sudoers.d.

Sudo reads every file there whose name has no dot, and one with a syntax error locks everybody out
of sudo: a file is checked before it goes there.

"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
import tempfile

from yolov7_trt_ros.errors import PowerCommandError, PowerError
from yolov7_trt_ros.power.root.commands import CommandRunner
from yolov7_trt_ros.power.root.sudoers import SUDOERS_FILE


@dataclasses.dataclass(frozen=True)
class InstalledPermissions:
    """
    The installed drop-in.

    Attributes
    ----------
    path
        The file.
    checked
        Whether visudo checked it first.

    """

    path: Path
    checked: bool


def install_permissions(
    runner: CommandRunner, text: str, root: Path = Path('/')
) -> InstalledPermissions:
    """
    Check the drop-in with `visudo -c` if that is installed, and install it as root.

    Raises
    ------
    PowerError
        There is no /etc/sudoers.d, or visudo rejects the text; nothing was installed then.
    PowerPermissionError
        Not root, and sudo would ask for a password.
    PowerCommandError
        The file could not be installed.

    """
    target = root / SUDOERS_FILE
    if not target.parent.is_dir():
        raise PowerError(
            f'{target.parent} is not there, so sudo is not installed: install it, or start what '
            'changes the power as root'
        )
    handle, name = tempfile.mkstemp(prefix='sudoers_')
    draft = Path(name)
    try:
        with os.fdopen(handle, 'w', encoding='utf-8') as file:
            file.write(text)
        checked = _check(runner, draft)
        _put_in_place(runner, draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return InstalledPermissions(target, checked)


def _check(runner: CommandRunner, draft: Path) -> bool:
    """Check the draft with visudo; False without visudo."""
    if runner.find('visudo') is None:
        return False
    result = runner.run(['visudo', '-c', '-f', str(draft)])
    if result.status != 0:
        raise PowerError(f'visudo rejects the sudoers lines, nothing installed: {result.text}')
    return True


def _put_in_place(runner: CommandRunner, draft: Path, target: Path) -> None:
    result = runner.run(['install', '-m', '0440', str(draft), str(target)], as_root=True)
    if result.status != 0:
        raise PowerCommandError(f'cannot install {target}: {result.last_lines}')
