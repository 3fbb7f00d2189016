"""
RootAccess: runs tools and writes files below /sys as root, or only reports it in a dry run.

As root it writes a file directly, otherwise through `sudo -n tee FILE`, which a sudoers line can
allow for exactly this file.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
import shlex

from yolov7_trt_ros.errors import PowerCommandError, PowerError, PowerPermissionError
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.root.commands import CommandResult, CommandRunner
from yolov7_trt_ros.power.root.sudoers import explain_root_needed
from yolov7_trt_ros.power.sysfs import SysfsTree

Report = Callable[[str], None]
"""Called with a line about each change: `wrote 612000000 to ...`, or `would write ...`."""


def ignore(line: str) -> None:
    """Discard a report."""


@contextmanager
def afterwards(put_back: Callable[[], None]) -> Iterator[None]:
    """
    Call `put_back` after the body, also if that fails.

    If both fail with a PowerError, that of the body is raised with the message of both.
    """
    try:
        yield
    except PowerError as exc:
        try:
            put_back()
        except PowerError as second:
            raise type(exc)(f'{exc}\nBesides, putting back failed: {second}') from exc
        raise
    except BaseException:  # Ctrl-C in the middle of a change
        put_back()
        raise
    put_back()


class RootAccess:
    """
    Makes changes as root.

    Parameters
    ----------
    tree
        The kernel's files below the root folder.
    runner
        Runs tools, with sudo where needed.
    dry_run
        Change nothing; report what would be done.
    report
        Called with a line about each change.
    timeout_s
        Time limit of one tool.

    """

    def __init__(
        self,
        tree: SysfsTree,
        runner: CommandRunner,
        *,
        dry_run: bool = False,
        report: Report = ignore,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self.tree = tree
        self.runner = runner
        self.dry_run = dry_run
        self.report = report
        self.timeout_s = timeout_s

    def require(self, tool: str) -> str:
        """
        Return the absolute path of a tool.

        Raises
        ------
        PowerCommandError
            It is not installed.

        """
        found = self.runner.find(tool)
        if found is None:
            raise PowerCommandError(
                f'the tool {tool} is not installed here; on a Jetson it comes with the board '
                'support package, in a container it has to be run on the host'
            )
        return str(found)

    def path_on_host(self, path: str) -> str:
        """Return the path on this machine, for tools, of a path on the board."""
        return str(self.tree.real_path(path))

    def run(self, *command: str) -> CommandResult:
        """
        Run a tool as root; a dry run only reports it, and returns success without output.

        Raises
        ------
        PowerCommandError
            It is missing or took too long. The caller has to check its exit status.
        PowerPermissionError
            Sudo would ask for a password.

        """
        full = (self.require(command[0]), *command[1:])
        shown = shlex.join(full if self.runner.is_root else ('sudo', '-n', *full))
        if self.dry_run:
            self.report(f'would run {shown}')
            return CommandResult(full, 0)
        result = self.runner.run(full, as_root=True, timeout_s=self.timeout_s)
        self.report(f'ran {shown}: exit status {result.status}')
        return result

    def write(self, path: str, text: str, shown: str | None = None) -> None:
        """
        Write to a file of the board that exists; the caller reads it back.

        `shown` is what is reported instead of a long text.

        Raises
        ------
        PowerPermissionError
            Not root, and sudo would ask for a password; or /sys is read-only.
        PowerError
            There is no such file, or the kernel refuses.

        """
        shown = text.strip() if shown is None else shown
        if self.dry_run:
            self.report(f'would write {shown} to {path}')
            return
        if self.runner.is_root or self._may_write(path):
            self.tree.write_text(path, text)
        else:
            self._write_with_sudo(path, text)
        self.report(f'wrote {shown} to {path}')

    def write_command(self, path: str) -> tuple[str, ...]:
        """Return the command that sudo has to allow for `write`."""
        return (self.require('tee'), self.path_on_host(path))

    def _may_write(self, path: str) -> bool:
        """Whether this user may already write the file, for example by a udev rule."""
        # For root os.access is always true, also if the runner emulates another user.
        return os.geteuid() != 0 and os.access(self.tree.real_path(path), os.W_OK)

    def _write_with_sudo(self, path: str, text: str) -> None:
        if not self.tree.exists(path):
            raise PowerError(f'cannot write {path}: this board or release has no such file')
        command = self.write_command(path)
        result = self.runner.run(
            command, as_root=True, input_text=text, timeout_s=self.timeout_s
        )
        if result.status == 0:
            return
        if 'Read-only file system' in result.text:
            raise PowerPermissionError(
                f'cannot write {path} even as root: /sys is read-only, as in a container; do '
                'this on the host'
            )
        raise PowerCommandError(
            f'cannot write {path}: {result.last_lines}. '
            + explain_root_needed(self.runner.user, command)
        )
