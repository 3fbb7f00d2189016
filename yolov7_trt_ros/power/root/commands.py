"""
Run the board's power tools: no input, a time limit, `sudo -n` if root is needed.

Questions of a tool get no answer, so a reboot or overwriting a file is never confirmed. A tool
runs in its own session: Ctrl-C in the terminal ends the caller, which then restores the board, and
not a half finished `jetson_clocks`.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import os
from pathlib import Path
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from typing import Protocol

from yolov7_trt_ros.errors import PowerCommandError, PowerPermissionError, PowerTimeoutError
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.root.sudoers import explain_root_needed, is_sudoers_user
from yolov7_trt_ros.power.root.tool_pipes import close_pipes, exchange

TOOL_FOLDERS = '/usr/sbin:/usr/bin:/sbin:/bin'
"""
Searched before PATH, so that sudo runs the system's tools, which the sudoers lines name. The PATH
of a service often lacks /usr/sbin.
"""

_KILL_GRACE_S = 1.0
# Messages of sudo -n if it would have to ask, refuses this user, or cannot work at all.
_SUDO_REFUSAL = re.compile(
    r'^sudo: .*(?:a password is required|a terminal is required|no tty present|must have a tty'
    r'|no new privileges|must be owned by uid 0|must be setuid root|effective uid is not 0)'
    r'|^Sorry, user .* (?:is not allowed to execute|may not run sudo)'
    r'|^\S+ is not in the sudoers file',
    re.MULTILINE,
)

_SUDO_LINE = re.compile(r'sudo: ')
_SUDO_WARNING = re.compile(r'sudo: (?:unable to resolve host|setrlimit\()')


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """
    The result of a tool.

    Attributes
    ----------
    command
        The command as it was run, including `sudo -n`.
    status
        Exit status; negative is the number of the signal that ended it.
    output, errors
        The begin of its stdout and stderr; bytes that are not UTF-8 are replaced.

    """

    command: tuple[str, ...]
    status: int
    output: str = ''
    errors: str = ''

    @property
    def text(self) -> str:
        """Stdout, then stderr."""
        return '\n'.join(part for part in (self.output.rstrip(), self.errors.rstrip()) if part)

    @property
    def tool_text(self) -> str:
        """Return the text without warnings of sudo: with exit status 0 it has run the tool."""
        return '\n'.join(
            line for line in self.text.splitlines()
            if not (_SUDO_WARNING if self.status else _SUDO_LINE).match(line)
        )

    @property
    def last_lines(self) -> str:
        """Return the last three lines of output, joined, for an error message."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return ' / '.join(lines[-3:]) or 'nothing was printed'


class CommandRunner(Protocol):
    """Runs tools for PowerControl; `SystemRunner` is the real one."""

    @property
    def is_root(self) -> bool:
        """Whether commands already run as root, without sudo."""

    @property
    def user(self) -> str:
        """User for a sudoers line: `alice`, or `#1000` for one without a name."""

    def find(self, tool: str) -> Path | None:
        """Return the path of the tool; None if it is not installed."""

    def run(
        self,
        command: Sequence[str],
        *,
        as_root: bool = False,
        input_text: str | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> CommandResult:
        """Run a tool to its end; see `SystemRunner.run`."""


def current_user() -> str:
    """
    Return the user for a sudoers line: the one this process runs as.

    That is `#uid` for a user without a name, as in a container started with `--user 1234`, and
    for names that sudoers does not accept, such as those of a domain (`alice@corp`).
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ''
    return name if is_sudoers_user(name) else f'#{os.getuid()}'


class SystemRunner:
    """
    Runs tools on this machine.

    Parameters
    ----------
    search_path
        Folders to search for tools, as in PATH; None: the PATH of `environment` if it has one,
        else `TOOL_FOLDERS` and then the PATH of this process.
    environment
        Variables for the tools in addition to those of this process.
    is_root
        None: detect it. False: use sudo even as root (for an emulated board).
    user
        User for a sudoers line; None: the user of this process.

    """

    def __init__(
        self,
        search_path: str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        is_root: bool | None = None,
        user: str | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        usual = self._environment.get('PATH', f'{TOOL_FOLDERS}:{os.environ.get("PATH", "")}')
        self._search_path = usual if search_path is None else search_path
        self._is_root = os.geteuid() == 0 if is_root is None else is_root
        self._user = current_user() if user is None else user

    @property
    def is_root(self) -> bool:
        """Whether commands already run as root, without sudo."""
        return self._is_root

    @property
    def user(self) -> str:
        """User for a sudoers line."""
        return self._user

    def find(self, tool: str) -> Path | None:
        """Return the absolute path of the tool; None when it is not installed."""
        found = shutil.which(tool, path=self._search_path)
        return None if found is None else Path(found).absolute()

    def run(
        self,
        command: Sequence[str],
        *,
        as_root: bool = False,
        input_text: str | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> CommandResult:
        """
        Run a tool to its end.

        Parameters
        ----------
        command
            Name of the tool and its arguments.
        as_root
            Put `sudo -n` before it unless this is root already.
        input_text
            Stdin of the tool; None: empty.
        timeout_s
            The tool is killed after this time.

        Returns
        -------
        CommandResult
            Also if the exit status is not 0: the caller has to check it.

        Raises
        ------
        PowerCommandError
            The tool is not installed, cannot be started, or took too long.
        PowerPermissionError
            Sudo would ask for a password, or refuses; the message gives the sudoers line.

        """
        full = self._full_command(command)
        if not as_root or self._is_root:
            return self._execute(full, input_text, timeout_s)
        sudo = self.find('sudo')
        if sudo is None:
            raise PowerPermissionError(
                f'{explain_root_needed(self._user, full)} Sudo itself is not installed here.'
            )
        result = self._execute((str(sudo), '-n', *full), input_text, timeout_s)
        if _is_sudo_refusal(result):
            raise PowerPermissionError(explain_root_needed(self._user, full, result.last_lines))
        return result

    def _full_command(self, command: Sequence[str]) -> tuple[str, ...]:
        found = self.find(command[0])
        if found is None:
            raise PowerCommandError(
                f'the tool {command[0]} is not installed, or not in {self._search_path}; on a '
                'Jetson it comes with the board support package (in a container: not at all)'
            )
        return (str(found), *command[1:])

    def _execute(
        self, command: tuple[str, ...], input_text: str | None, timeout_s: float
    ) -> CommandResult:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if input_text is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, 'LC_ALL': 'C', **self._environment},
                start_new_session=True,
            )
        except OSError as exc:
            raise PowerCommandError(f'cannot start {shlex.join(command)}: {exc}') from exc
        try:
            output, errors = exchange(process, (input_text or '').encode(), timeout_s)
        except subprocess.TimeoutExpired as exc:
            _end(process)
            raise PowerTimeoutError(
                f'{shlex.join(command)} was not done after {timeout_s:g} s and was ended; whether '
                'it took effect is not known'
            ) from exc
        return CommandResult(
            command, process.returncode, *(
                text.decode('utf-8', 'replace').replace('\r\n', '\n') for text in (output, errors)
            )
        )


def _is_sudo_refusal(result: CommandResult) -> bool:
    """Whether sudo itself refused, and not the tool that it started."""
    return result.status != 0 and _SUDO_REFUSAL.search(result.errors) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the tool and its children; one of root, or stuck in the kernel, is left running."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)  # sudo passes this one on to its command
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_GRACE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_GRACE_S)
    close_pipes(process)
