"""
nvpmodel: the power modes of the board, the one in force, and the change to another.

A change counts only when it was read back: nvpmodel's own word and the files below /sys have both
to show it, since the tool exits with 0 for much that it did not do. It never gets an answer to a
question, so nothing is rebooted.

"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import sys
from typing import NoReturn

from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerFormatError,
    PowerPermissionError,
    PowerRebootError,
)
from yolov7_trt_ros.power.board import find_nvpmodel_conf, nvpmodel_status_file
from yolov7_trt_ros.power.commands import CommandResult
from yolov7_trt_ros.power.nvpmodel import find_refusal, parse_query, parse_status_file
from yolov7_trt_ros.power.nvpmodel_conf import parse_conf, parse_modes_verbose
from yolov7_trt_ros.power.nvpmodel_values import CurrentMode, NvpmodelConf, PowerMode, Refusal
from yolov7_trt_ros.power.permissions import explain_root_needed
from yolov7_trt_ros.power.root_access import RootAccess

_TOOL = 'nvpmodel'
_LOWEST_CAP = 1  # 0 and -1 both stand for no cap


@dataclasses.dataclass(frozen=True)
class _Deviation:
    """A file that is not as the mode has it; definite when heat cannot be the reason."""

    text: str
    is_definite: bool


@dataclasses.dataclass(frozen=True)
class _Before:
    """What was there before a change."""

    mode_id: int | None
    deviations: tuple[_Deviation, ...]


class ModeSwitch:
    """
    Reads and changes the power mode with nvpmodel.

    Parameters
    ----------
    access
        Makes the changes.

    """

    def __init__(self, access: RootAccess) -> None:
        self._access = access
        self._tree = access.tree
        self._conf: NvpmodelConf | None = None

    def conf(self) -> NvpmodelConf:
        """
        Return the modes, from nvpmodel.conf or, where that cannot be read, from the tool.

        Raises
        ------
        PowerError
            There is neither.

        """
        if self._conf is None:
            self._conf = self._read_conf()
        return self._conf

    def find(self, name_or_id: str) -> PowerMode:
        """
        Return the mode with this name or id.

        Raises
        ------
        PowerError
            There is none; the message lists those there are.

        """
        conf = self.conf()
        mode = conf.find_mode(name_or_id)
        if mode is None:
            known = ', '.join(f'{mode.mode_id} {mode.name}' for mode in conf.modes)
            raise PowerError(
                f'this board has no power mode {name_or_id!r}; by id or name it has: {known}'
            )
        return mode

    def current(self) -> CurrentMode:
        """
        Return what `nvpmodel -q` says, or, without that tool, its status file.

        Raises
        ------
        PowerError
            No mode was ever set, or neither can be read.

        """
        if self._access.runner.find(_TOOL) is None:
            return self._current_from_file()
        result = self._access.runner.run([_TOOL, '-q'], timeout_s=self._access.timeout_s)
        try:
            return parse_query(result.text)
        except PowerFormatError as exc:
            if result.status == 0:
                raise
            raise PowerCommandError(
                f'{_TOOL} -q failed with exit status {result.status}: {result.last_lines}'
            ) from exc

    def current_or_none(self) -> CurrentMode | None:
        """Return what `current` does, None where no mode was ever set; errors as of `current`."""
        try:
            return self.current()
        except PowerFormatError:
            return None

    def switch(self, mode: PowerMode, now: CurrentMode | None) -> CurrentMode:
        """
        Change to the mode and read it back.

        Parameters
        ----------
        mode
            The new one.
        now
            What `current_or_none` has just returned: asking nvpmodel takes a while.

        Raises
        ------
        PowerRebootError
            Only a reboot would set it; the message says which mask differs.
        PowerPermissionError
            Root is needed; the message has the sudoers line.
        PowerCommandError
            The tool is missing, hangs, ignores the request in a container, fails, or says done
            and did nothing.

        """
        before = _Before(None if now is None else now.mode_id, tuple(self._deviations(mode)))
        result = self._access.run(_TOOL, '-m', str(mode.mode_id))
        refusal = find_refusal(result.text)
        if refusal is not None or result.status != 0:
            self._refuse(mode, now, result, refusal)
        if self._access.dry_run:
            self._warn_of_reboot(mode, now)
            return CurrentMode(mode.name, mode.mode_id)
        return self._read_back(mode, before)

    def contradictions(self, mode: PowerMode) -> tuple[str, ...]:
        """
        Return what below /sys is not as the mode has it; files that cannot be read are left out.

        Looked at are the cores and the highest clocks. Masks are not: a board was seen whose mask
        differs from that of its mode.
        """
        return tuple(found.text for found in self._deviations(mode))

    def masks_that_differ(self, now: CurrentMode | None, mode: PowerMode) -> str:
        """Return `TPC_PG_MASK 240 -> 252`; '' where no mask differs or the modes are unknown."""
        current = None if now is None else self.conf().find_mode(now.mode_id)
        masks = {} if current is None else current.masks
        return ', '.join(
            f'{name} {masks[name]} -> {wanted}'
            for name, wanted in mode.masks.items() if masks.get(name, wanted) != wanted
        )

    def commands(self) -> list[tuple[str, ...]]:
        """Return what sudo has to allow: each mode by its id."""
        tool = self._access.require(_TOOL)
        return [(tool, '-m', str(mode.mode_id)) for mode in self.conf().modes]

    def _read_conf(self) -> NvpmodelConf:
        path = find_nvpmodel_conf(self._tree.root)
        if path is not None:
            try:
                return parse_conf(path.read_text('utf-8', 'replace'))
            except OSError:
                pass  # not for this user to read; the tool tells as well
        if self._access.runner.find(_TOOL) is None:
            raise PowerCommandError(
                f'no power modes: neither /etc/nvpmodel.conf nor the tool {_TOOL} is here; this '
                'is not a Jetson, or a container without them'
            )
        result = self._access.runner.run(
            [_TOOL, '-p', '--verbose'], timeout_s=self._access.timeout_s
        )
        return parse_modes_verbose(result.text)

    def _current_from_file(self) -> CurrentMode:
        path = nvpmodel_status_file(self._tree.root)
        try:
            mode_id = parse_status_file(path.read_text('utf-8', 'replace'))
        except OSError as exc:
            raise PowerCommandError(
                f'the power mode is not known: the tool {_TOOL} is not installed here, and '
                f'{path} cannot be read ({exc.strerror}); this is not a Jetson, or a container'
            ) from exc
        mode = self.conf().find_mode(mode_id)
        return CurrentMode('unknown' if mode is None else mode.name, mode_id)

    def _read_back(self, mode: PowerMode, before: _Before) -> CurrentMode:
        now = self.current()
        if now.mode_id != mode.mode_id:
            raise PowerCommandError(
                f'{_TOOL} -m {mode.mode_id} ended without an error, but the mode is still '
                f'{now.name} ({now.mode_id}), expected {mode}'
            )
        deviations = tuple(self._deviations(mode))
        # Heat may hold a clock below its cap; nothing explains a core or a clock above it.
        definite = tuple(found for found in deviations if found.is_definite)
        unchanged = bool(deviations) and deviations == before.deviations
        if definite or (unchanged and before.mode_id != mode.mode_id):
            raise PowerCommandError(
                f'{_TOOL} says the mode is {mode}, but the board does not show it: '
                f'{"; ".join(found.text for found in definite or deviations)}. Either nothing was '
                'applied, or another program or heat holds these'
            )
        return now

    def _deviations(self, mode: PowerMode) -> Iterator[_Deviation]:
        """Yield each core and each cap of CPU and GPU that is not as the mode has it."""
        for (name, argument), wanted in mode.settings.items():
            is_core, is_cap = name == 'CPU_ONLINE', argument == 'MAX_FREQ'
            if not isinstance(wanted, int) or not (is_core or (is_cap and _is_watched(name))):
                continue
            path = self._path_of(name, argument)
            real = None if path is None else self._read_int(path)
            if path is None or real is None:
                continue
            low, high = (wanted, wanted) if is_core else self._around(path, wanted)
            if not low <= real <= high:
                yield _Deviation(f'{path} is {real}, expected {wanted}', is_core or real > high)

    def _path_of(self, name: str, argument: str) -> str | None:
        """Return the file of a setting; None where the conf or the board has none."""
        parameter = self.conf().find_parameter(name)
        paths = () if parameter is None else parameter.candidates(argument)
        return next((path for path in paths if self._tree.exists(path)), None)

    def _around(self, path: str, cap: int) -> tuple[int, int]:
        """Return between which two entries of the clock's table the kernel may round a cap."""
        if cap < _LOWEST_CAP:
            return 0, sys.maxsize
        table = self._read_table(path)
        below = [entry for entry in table if entry <= cap]
        above = [entry for entry in table if entry >= cap]
        # A cap above the table is the table's highest; one below it the lowest.
        return (
            max(below, default=min(above, default=cap)),
            min(above, default=max(below, default=cap)),
        )

    def _read_table(self, path: str) -> tuple[int, ...]:
        folder, _, name = path.rpartition('/')
        table = name.replace('max_freq', 'available_frequencies')
        words = self._tree.read_or_empty(f'{folder}/{table}').split()
        return tuple(int(word) for word in words if word.isdecimal())

    def _read_int(self, path: str) -> int | None:
        try:
            return self._tree.read_int(path)
        except PowerError:
            return None

    def _warn_of_reboot(self, mode: PowerMode, now: CurrentMode | None) -> None:
        masks = self.masks_that_differ(now, mode)
        if masks:
            self._access.report(f'{mode} would probably need a reboot: {masks}')

    def _refuse(
        self,
        mode: PowerMode,
        now: CurrentMode | None,
        result: CommandResult,
        refusal: Refusal | None,
    ) -> NoReturn:
        """Raise the error that fits nvpmodel's words; only an unknown text ends as plain."""
        kind = 'error' if refusal is None else refusal.kind
        line = result.last_lines if refusal is None else refusal.line
        if kind == 'reboot':
            raise PowerRebootError(self._explain_reboot(mode, now))
        if kind == 'permission':
            raise PowerPermissionError(
                explain_root_needed(self._access.runner.user, result.command[-3:], line)
            )
        if kind == 'chroot':
            raise PowerCommandError(
                f'{_TOOL} ignored the request for {mode} ({line}): it does nothing inside a '
                f'container, whatever its rights. On the host run: sudo {_TOOL} -m {mode.mode_id}'
            )
        raise PowerCommandError(
            f'{_TOOL} -m {mode.mode_id} did not set {mode}: {line} (exit status {result.status})'
        )

    def _explain_reboot(self, mode: PowerMode, now: CurrentMode | None) -> str:
        masks = self.masks_that_differ(now, mode)
        why = masks or (
            'no mask differs; nvpmodel asks so once the GPU was used since the last boot, even '
            'for the active mode'
        )
        came_from = '' if now is None else f' from {now.name} ({now.mode_id})'
        return (
            f'changing{came_from} to {mode} needs a reboot ({why}). Nothing was changed, and '
            f'nothing is ever rebooted from here; when it suits, run sudo {_TOOL} -m '
            f'{mode.mode_id} and answer yes'
        )


def _is_watched(parameter: str) -> bool:
    """Whether any user may read this clock's cap: that of the CPU or the GPU, not the memory's."""
    return parameter.startswith(('CPU', 'GPU'))
