"""
Run the board's power tools: no input, a time limit, `sudo -n` if root is needed.

A tool that asks something gets no answer, so nothing here ever agrees to a reboot or to
overwriting a file. A tool runs in a session of its own: Ctrl-C in the terminal ends the caller,
which then puts things back, and not a half finished `jetson_clocks`.

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
from yolov7_trt_ros.power.root.sudoers import explain_root_needed, is_sudoers_user

COMMAND_TIMEOUT_S = 20.0
"""For one tool; `nvpmodel` on a busy board takes several seconds."""
TOOL_FOLDERS = '/usr/sbin:/usr/bin:/sbin:/bin'
"""
Searched before PATH: sudo is to run the system's tools, those that its sudoers lines name. And
services often lack /usr/sbin in their PATH.
"""

_KILL_GRACE_S = 1.0
# What sudo -n says when it would have to ask, does not let this user do it, or cannot work at all.
_SUDO_REFUSAL = re.compile(
    r'^sudo: .*(?:a password is required|a terminal is required|no tty present|must have a tty'
    r'|no new privileges|must be owned by uid 0|must be setuid root|effective uid is not 0)'
    r'|^Sorry, user .* (?:is not allowed to execute|may not run sudo)'
    r'|^\S+ is not in the sudoers file',
    re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """
    What a finished tool left.

    Attributes
    ----------
    command
        As it was run, `sudo -n` included.
    status
        Exit status; negative is the number of the signal that ended it.
    output, errors
        Its stdout and stderr; bytes that are not UTF-8 are replaced.

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
    def last_lines(self) -> str:
        """Return the last three lines said, on one line, for an error message."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return ' / '.join(lines[-3:]) or 'nothing was printed'


class CommandRunner(Protocol):
    """What PowerControl runs tools with; `SystemRunner` is the real one."""

    @property
    def is_root(self) -> bool:
        """Whether commands already run as root, without sudo."""

    @property
    def user(self) -> str:
        """Whom a sudoers line has to name: `alice`, or `#1000` for a user without a name."""

    def find(self, tool: str) -> Path | None:
        """Return where the tool lies; None when it is not installed."""

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
    Return whom a sudoers line has to name: the user this process runs as.

    That is `#uid` for one without a name, as in a container started with `--user 1234`, and for
    one whose name sudoers would not read as it is, as those of a domain (`alice@corp`).
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
        Folders to look for tools, as in PATH; None: the PATH of `environment` where it has one,
        else `TOOL_FOLDERS`, then this process's PATH.
    environment
        Variables for the tools besides this process's own, such as an emulated board's.
    is_root
        None: found out. False makes it go through sudo even as root (the emulated board's).
    user
        Whom to name in a sudoers line; None: the user of this process.

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
        """Whom a sudoers line has to name."""
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
            What the tool reads on stdin; None: nothing, its end at once.
        timeout_s
            The tool is killed after this long.

        Returns
        -------
        CommandResult
            Also when the exit status is not 0: that is the caller's to judge.

        Raises
        ------
        PowerCommandError
            The tool is not installed, cannot be started, or took too long.
        PowerPermissionError
            Sudo would have asked for a password, or refused; names the sudoers line.

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
                text=True,
                encoding='utf-8',
                errors='replace',
                env={**os.environ, 'LC_ALL': 'C', **self._environment},
                start_new_session=True,
            )
        except OSError as exc:
            raise PowerCommandError(f'cannot start {shlex.join(command)}: {exc}') from exc
        try:
            output, errors = process.communicate(input_text, timeout=timeout_s)
        except subprocess.TimeoutExpired as exc:
            _end(process)
            raise PowerTimeoutError(
                f'{shlex.join(command)} was not done after {timeout_s:g} s and was ended; whether '
                'it took effect is not known'
            ) from exc
        return CommandResult(command, process.returncode, output, errors)


def _is_sudo_refusal(result: CommandResult) -> bool:
    """Whether sudo itself refused, rather than the tool it started failing."""
    return result.status != 0 and _SUDO_REFUSAL.search(result.errors) is not None


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the tool and what it started; one that root runs, or stuck in the kernel, is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)  # sudo passes this one on to its command
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_GRACE_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_GRACE_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
