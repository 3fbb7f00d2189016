"""
The sudoers lines that let a user change power settings, each for one exact command.

A line without arguments would allow every argument, so a tool that takes none is written with
`""`. Nothing here is a wildcard. Sudo reads every file of /etc/sudoers.d whose name has no dot,
and one with a syntax error locks everybody out of sudo: a file is checked before it goes there.

"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import os
from pathlib import Path
import re
import shlex
import tempfile
from typing import TYPE_CHECKING

from yolov7_trt_ros.errors import PowerCommandError, PowerError, SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.power.root.commands import CommandRunner

SUDOERS_FILE = 'etc/sudoers.d/yolov7_trt_ros'
"""The drop-in, below the root folder; no dot in its name, or sudo would skip it."""

_HEADER = """\
# Lets {user} change power mode and clocks through yolov7_trt_ros, without a password: the exact
# commands below and no others. Made by `yolov7_trt power permissions`; delete the file to revoke.
# Every program of {user} may run them, and where nvpmodel asks whether to reboot, answer yes: a
# board that asks for the modes below too can be rebooted so. tee writes any number to its file.
"""
_USER = re.compile(r'[%#]?[A-Za-z0-9_][A-Za-z0-9_.-]*\$?', re.ASCII)
_SPECIAL = re.compile(r'[\\,:=*?\[\]!#\s]')
_IMPOSSIBLE = '"^'  # no backslash helps: a quote ends the line's syntax, and ^ begins a pattern


def is_sudoers_user(name: str) -> bool:
    """Whether sudoers reads this as a user (`alice`, `#1000`) or a group (`%power`)."""
    return _USER.fullmatch(name) is not None


def sudoers_line(user: str, command: Sequence[str]) -> str:
    r"""
    Return the line that allows one command, exactly as it is, as root.

    Parameters
    ----------
    user
        `alice`, `#1000` (a user id) or `%power` (a group).
    command
        Absolute path of the tool, and its arguments.

    Examples
    --------
    >>> sudoers_line('alice', ['/usr/sbin/nvpmodel', '-m', '2'])
    'alice ALL=(root) NOPASSWD: /usr/sbin/nvpmodel -m 2'
    >>> sudoers_line('#1000', ['/usr/bin/jetson_clocks'])
    '#1000 ALL=(root) NOPASSWD: /usr/bin/jetson_clocks ""'

    Raises
    ------
    SettingError
        Not the name of a user, or a command that no line can hold.

    """
    if not is_sudoers_user(user):
        raise SettingError(
            f'a sudoers line needs a user such as alice, #1000 or %power, got {user!r}'
        )
    tool, *arguments = command
    if not tool.startswith('/') or not all(map(_is_possible, command)):
        raise SettingError(
            'a sudoers line needs a tool by its absolute path and printable arguments without '
            f'quotes, got {shlex.join(command)}'
        )
    words = [_escape(part) for part in arguments] or ['""']
    return f'{user} ALL=(root) NOPASSWD: {" ".join([_escape(tool), *words])}'


def sudoers_text(user: str, commands: Sequence[Sequence[str]]) -> str:
    """Return the text of the drop-in: one line for each command, in order, none twice."""
    lines = dict.fromkeys(sudoers_line(user, command) for command in commands)
    return _HEADER.format(user=user) + '\n'.join(lines) + '\n'


def explain_root_needed(user: str, command: Sequence[str], said: str = '') -> str:
    """Return the message of a PowerPermissionError: what needs root, and the line to add."""
    refused = f' and sudo -n refused ({said})' if said else ''
    return (
        f'root is needed to run {shlex.join(command)}{refused}. To allow {user} just this, put '
        f'the line\n    {sudoers_line(user, command)}\ninto /{SUDOERS_FILE} with '
        f'`sudo visudo -f /{SUDOERS_FILE}`; `yolov7_trt power permissions` prints and installs '
        'such lines. Or run this as root.'
    )


@dataclasses.dataclass(frozen=True)
class InstalledPermissions:
    """
    Where the drop-in went.

    Attributes
    ----------
    path
        The file.
    checked
        Whether visudo was there to check it first.

    """

    path: Path
    checked: bool


def install_permissions(
    runner: CommandRunner, text: str, root: Path = Path('/')
) -> InstalledPermissions:
    """
    Check the drop-in with `visudo -c` where that is installed, and put it in place as root.

    Raises
    ------
    PowerError
        There is no /etc/sudoers.d, or visudo rejects the text; nothing was installed then.
    PowerPermissionError
        Not root, and sudo would ask for a password.
    PowerCommandError
        The file could not be put in place.

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
    """Let visudo read the draft; False where there is no visudo."""
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


def _is_possible(part: str) -> bool:
    return bool(part) and part.isprintable() and not any(sign in part for sign in _IMPOSSIBLE)


def _escape(text: str) -> str:
    """Put a backslash before what sudoers would read as its own."""
    return _SPECIAL.sub(lambda match: f'\\{match.group()}', text)
