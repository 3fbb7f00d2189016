"""
The sudoers lines that let a user change power settings, each for one exact command.

A line without arguments would allow every argument, so a tool that takes none is written with
`""`. Nothing here is a wildcard.

"""

from __future__ import annotations

from collections.abc import Sequence
import re
import shlex

from yolov7_trt_ros.errors import SettingError

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
    """Return the text of the drop-in: one line for each command, without duplicates."""
    lines = dict.fromkeys(sudoers_line(user, command) for command in commands)
    return _HEADER.format(user=user) + '\n'.join(lines) + '\n'


def explain_root_needed(user: str, command: Sequence[str], answer: str = '') -> str:
    """Return the message of a PowerPermissionError: the command, and the line to add."""
    refused = f' and sudo -n refused ({answer})' if answer else ''
    return (
        f'root is needed to run {shlex.join(command)}{refused}. To allow {user} just this, put '
        f'the line\n    {sudoers_line(user, command)}\ninto /{SUDOERS_FILE} with '
        f'`sudo visudo -f /{SUDOERS_FILE}`; `yolov7_trt power permissions` prints and installs '
        'such lines. Or run this as root.'
    )


def _is_possible(part: str) -> bool:
    return bool(part) and part.isprintable() and not any(sign in part for sign in _IMPOSSIBLE)


def _escape(text: str) -> str:
    """Put a backslash before the special characters of sudoers."""
    return _SPECIAL.sub(lambda match: f'\\{match.group()}', text)
