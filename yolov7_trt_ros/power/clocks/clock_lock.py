"""
jetson_clocks: lock every clock at the limit of the power mode, and restore the state before.

`jetson_clocks --restore FILE` writes any value to any path that FILE lists, as root. So the
baseline is in /run, where only root may write, and is lost at the next boot, as the lock is.

"""

from __future__ import annotations

import contextlib
from typing import Literal

from yolov7_trt_ros.errors import PowerCommandError, PowerError, PowerPermissionError
from yolov7_trt_ros.power.clocks.clock_files import find_cpu_clocks, find_gpu_clock, read_limits
from yolov7_trt_ros.power.clocks.jetson_clocks import find_refusal, parse_store
from yolov7_trt_ros.power.root.commands import CommandResult
from yolov7_trt_ros.power.root.root_access import RootAccess
from yolov7_trt_ros.power.root.sudoers import explain_root_needed
from yolov7_trt_ros.power.sysfs import SysfsTree, whole_number

ClockLockState = Literal['on', 'off', 'broken', 'uncontrolled']
"""
`on`: locked, with a baseline to restore. `off`: not locked. `broken`: there is a baseline, but the
board neither is locked nor matches it: another program undid a part of the lock. `uncontrolled`:
locked by another program, so there is no baseline.
"""

BASELINE_FILE = '/run/yolov7_trt_ros_clocks.conf'
"""The baseline: written by `jetson_clocks --store` before the clocks were locked."""

_TOOL = 'jetson_clocks'
_CORES = '/sys/devices/system/cpu/'
_IDLE_STATES = f'{_CORES}cpu0/cpuidle/state*/disable'
_MOST_NAMED = 3


class ClockLock:
    """
    Locks and unlocks the clocks with jetson_clocks.

    Parameters
    ----------
    access
        Makes the changes.

    """

    def __init__(self, access: RootAccess) -> None:
        self._access = access
        self._tree = access.tree

    def state(self) -> ClockLockState:
        """
        Return the state as the limits of the clocks show it; root is not needed.

        Raises
        ------
        PowerError
            No clock can be read.

        """
        is_stored = self._tree.exists(BASELINE_FILE)
        if is_locked(self._tree, trusts_clocks=is_stored):
            return 'on' if is_stored else 'uncontrolled'
        return 'broken' if is_stored and self._compare_with_baseline() else 'off'

    def turn_on(self) -> None:
        """
        Store the baseline, then lock; read both back. An existing baseline is kept.

        Raises
        ------
        PowerError
            The tool refused; without a baseline nothing is locked.

        """
        if self.state() == 'off':
            self._store()
        elif not self._access.dry_run:
            self._read_baseline()  # only a lock that can be undone is set
        try:
            self.lock_again()
        except PowerError:
            self._undo_partial_lock()
            raise

    def lock_again(self) -> None:
        """Lock at the current limits, without changing the baseline."""
        self._run()
        if not self._access.dry_run and not is_locked(self._tree):
            raise PowerCommandError(
                'jetson_clocks ended without an error, but the clocks are not locked: their '
                'minimum is below their maximum; another program may set them too'
            )

    def turn_off(self) -> None:
        """
        Restore the baseline and delete it.

        Raises
        ------
        PowerCommandError
            There is no baseline, or the clocks are still locked after it.

        """
        if not self._access.dry_run and not self._tree.exists(BASELINE_FILE):
            raise PowerCommandError(
                f'the clocks are locked, but not by this program: {BASELINE_FILE} is not there, '
                'so what was before is not known. Free them with the file they were stored in '
                f'(sudo {_TOOL} --restore FILE), or by a reboot'
            )
        if not self._access.dry_run:
            self._read_baseline()  # a damaged one would be written as root all the same
        self._run('--restore', self._access.path_on_host(BASELINE_FILE))
        if not self._access.dry_run:
            self._check_restored()
        try:
            self._delete_baseline()
        except PowerError as exc:  # the clocks are free; the next lock has to delete it anyway
            self._access.report(str(exc))

    def clear(self) -> None:
        """Delete a baseline that the board matches: there is no lock to undo."""
        if self._tree.exists(BASELINE_FILE) and self.state() == 'off':
            self._delete_baseline()

    def commands(self) -> list[tuple[str, ...]]:
        """Return the commands that sudo has to allow."""
        tool, baseline = self._access.require(_TOOL), self._access.path_on_host(BASELINE_FILE)
        return [
            (tool,),
            (tool, '--store', baseline),
            (tool, '--restore', baseline),
            self._delete_command(),
        ]

    def _store(self) -> None:
        """Store the baseline; an existing file is outdated, since nothing is locked."""
        if self._tree.exists(BASELINE_FILE):
            self._delete_baseline()  # the tool would ask whether to overwrite it
        self._run('--store', self._access.path_on_host(BASELINE_FILE))
        if not self._access.dry_run and not self._tree.exists(BASELINE_FILE):
            raise PowerCommandError(
                f'{_TOOL} --store ended without an error, but {BASELINE_FILE} is not there; '
                'nothing was locked, since it could not be undone'
            )

    def _check_restored(self) -> None:
        if is_locked(self._tree):
            raise PowerCommandError(
                f'{_TOOL} --restore ended without an error, but the clocks are still locked: '
                f'it did nothing, or {BASELINE_FILE} was stored while they were. A reboot frees '
                'them'
            )
        wrong = self._compare_with_baseline(also_unread=False)
        if wrong:
            raise PowerCommandError(
                f'{_TOOL} --restore ended without an error, but not all is as before: {wrong}. '
                f'{BASELINE_FILE} is kept; another program may set these too, a reboot frees them'
            )

    def _compare_with_baseline(self, *, also_unread: bool = True) -> str:
        """
        Return how the board differs from the baseline, '' if not at all; fans are left out.

        A file that cannot be read counts as a difference; one that this user may not read only
        with `also_unread`.
        """
        try:
            stored = self._read_baseline()
        except PowerError as exc:
            return str(exc) if also_unread else ''
        wrong = []
        for path, real in self._tree.read_all(
            path for path in stored if not _is_fan(path) and self._is_there(path)
        ).items():
            if isinstance(real, str) and real != stored[path]:
                wrong.append(f'{path} is {real or "empty"}, it was {stored[path]}')
            elif not isinstance(real, str) and (
                also_unread or not isinstance(real, PowerPermissionError)
            ):
                wrong.append(str(real))
        rest = f' and {len(wrong) - _MOST_NAMED} more' if len(wrong) > _MOST_NAMED else ''
        return '; '.join(wrong[:_MOST_NAMED]) + rest

    def _read_baseline(self) -> dict[str, str]:
        try:
            return parse_store(self._tree.read_text(BASELINE_FILE))
        except PowerError as exc:
            raise PowerCommandError(
                f'{BASELINE_FILE}, which holds the state before the clocks were locked, cannot be '
                f'used: {exc}. A reboot frees the clocks and removes it'
            ) from exc

    def _is_there(self, path: str) -> bool:
        """Whether the file can have a value now: an offline core has no clock."""
        return not path.startswith(_CORES) or self._tree.exists(path)

    def _undo_partial_lock(self) -> None:
        """After a failed lock, restore what it may have set; its failure is reported."""
        with contextlib.suppress(PowerError):
            self._run('--restore', self._access.path_on_host(BASELINE_FILE))
            self._check_restored()
            self._delete_baseline()

    def _delete_baseline(self) -> None:
        result = self._access.run(*self._delete_command())
        if result.status != 0:
            raise PowerCommandError(f'cannot delete {BASELINE_FILE}: {result.last_lines}')

    def _delete_command(self) -> tuple[str, ...]:
        return (
            self._access.require('rm'), '-f', self._access.path_on_host(BASELINE_FILE)
        )

    def _run(self, *arguments: str) -> None:
        result = self._access.run(_TOOL, *arguments)
        refusal = find_refusal(result.tool_text)
        if refusal is not None and refusal.kind == 'permission':
            raise PowerPermissionError(
                explain_root_needed(
                    self._access.runner.user, self._command_of(arguments), refusal.line
                )
            )
        if refusal is not None or result.status != 0:
            raise PowerCommandError(_explain(result))

    def _command_of(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        return (self._access.require(_TOOL), *arguments)


def is_locked(tree: SysfsTree, *, trusts_clocks: bool = False) -> bool:
    """
    Whether the GPU and every online core are limited to one frequency.

    Not if idle states are allowed: jetson_clocks forbids them, and a cap at the minimum, which
    looks the same otherwise, does not.

    Parameters
    ----------
    tree
        Files of the board.
    trusts_clocks
        The clocks alone show the lock if the idle states cannot be read.

    Raises
    ------
    PowerError
        No clock can be read, or no idle state, unless the clocks are trusted.

    """
    gpu = find_gpu_clock(tree)
    clocks = [*find_cpu_clocks(tree), *([] if gpu is None else [gpu])]
    limits = []
    failures = []
    for clock in clocks:
        try:
            limits.append(read_limits(tree, clock))
        except PowerError as exc:  # the GPU of a Thor may hang; the cores are enough
            failures.append(str(exc))
    if not limits:
        raise PowerError(
            'no clock can be read, so whether they are locked is not known: '
            + ('; '.join(failures) or 'the kernel shows none, this is not a Jetson')
        )
    if not all(limit.is_pinned for limit in limits):
        return False
    allows = _allows_idle_states(tree)
    if allows is None and not trusts_clocks:
        raise PowerError(
            f'whether the clocks are locked is not known: each is limited to one frequency, but '
            f'none of {_IDLE_STATES} can be read'
        )
    return not allows


def _allows_idle_states(tree: SysfsTree) -> bool | None:
    """Whether the first core may enter one of its idle states; None if none can be read."""
    switches = tree.find(_IDLE_STATES)
    texts = [value for value in tree.read_all(switches).values() if isinstance(value, str)]
    disabled = [number for text in texts if (number := whole_number(text)) is not None]
    return None if switches and not disabled else 0 in disabled


def _is_fan(path: str) -> bool:
    """Whether a stored file is of a fan: jetson_clocks leaves it alone, and heat changes it."""
    return 'pwm' in path or '/temp_control' in path


def _explain(result: CommandResult) -> str:
    return (
        f'{" ".join(result.command)} failed with exit status {result.status}: {result.last_lines}'
    )
