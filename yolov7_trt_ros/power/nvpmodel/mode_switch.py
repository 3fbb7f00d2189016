"""
nvpmodel: read the power modes of the board and the current one, and change it.

A change counts only when it was read back: both nvpmodel and the files below /sys have to show it,
since the tool often exits with 0 although it did nothing. Its questions are never answered, so
nothing is rebooted.

"""

from __future__ import annotations

from collections.abc import Collection
import dataclasses
import os
from pathlib import Path
from typing import NoReturn

from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerFormatError,
    PowerPermissionError,
    PowerRebootError,
)
from yolov7_trt_ros.power.board.identity import find_nvpmodel_conf, nvpmodel_status_file
from yolov7_trt_ros.power.nvpmodel.answers import find_refusal, parse_query, parse_status_file
from yolov7_trt_ros.power.nvpmodel.conf import parse_conf, parse_modes_verbose
from yolov7_trt_ros.power.nvpmodel.mode_check import Deviation, find_heat, ModeCheck
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, NvpmodelConf, PowerMode
from yolov7_trt_ros.power.root.commands import CommandResult
from yolov7_trt_ros.power.root.root_access import RootAccess
from yolov7_trt_ros.power.root.sudoers import explain_root_needed
from yolov7_trt_ros.power.root.tool_refusal import ToolRefusal

_TOOL = 'nvpmodel'
# After other complaints of nvpmodel the change may have succeeded: the board shows it.
_FINAL = ('reboot', 'unknown_mode')


@dataclasses.dataclass(frozen=True)
class _Before:
    """The state before a change."""

    mode_id: int | None
    deviations: tuple[Deviation, ...]


class ModeSwitch:
    """
    Reads and changes the power mode with nvpmodel.

    Parameters
    ----------
    access
        Makes the changes.

    Attributes
    ----------
    noted_stamp
        Stamp of nvpmodel's status file at the latest mode that was set or noticed here.

    """

    def __init__(self, access: RootAccess) -> None:
        self._access = access
        self._tree = access.tree
        self._conf: NvpmodelConf | None = None
        self.check = ModeCheck(self._tree, self.conf)
        self.noted_stamp = self.stamp()

    def conf(self) -> NvpmodelConf:
        """
        Return the modes from nvpmodel.conf, or from the tool if that cannot be read.

        Raises
        ------
        PowerError
            Neither is available.

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
            There is no such mode, or several; the message lists the available ones.

        """
        conf = self.conf()
        mode = conf.find_mode(name_or_id)
        if mode is not None and len(alike := conf.find_alike(mode, name_or_id)) > 1:
            raise PowerError(
                f'which power mode {name_or_id!r} is, is not known: nvpmodel.conf has '
                f'{", ".join(map(str, alike))}; give a name or id that only one of them has, or '
                'repair the file'
            )
        if mode is None:
            known = ', '.join(f'{mode.mode_id} {mode.name}' for mode in conf.modes)
            raise PowerError(
                f'this board has no power mode {name_or_id!r}; by id or name it has: {known}'
            )
        return mode

    def current(self) -> CurrentMode:
        """
        Return the mode in `nvpmodel -q`, or without that tool in its status file.

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

    def in_force(self, own: Collection[str] = ()) -> CurrentMode:
        """
        Return the mode that the board shows: that of `current`, unless the board contradicts it.

        In a container nvpmodel changes only its status file, and the status file of a container
        says nothing about the host. `contradiction` describes the difference.

        Parameters
        ----------
        own
            Files of limits set by this program, which do not show the mode.

        Raises
        ------
        PowerError
            As `current`.

        """
        reported = self.current()
        mode = self.conf().find_mode(reported.mode_id)
        wrong = 'there is no such mode' if mode is None else _join(self._unexplained(mode, own))
        if not wrong:
            return reported
        problem = f'nvpmodel says {reported.name} ({reported.mode_id}), but {wrong}'
        shown = self._find_shown(own)
        if shown is None:
            return dataclasses.replace(reported, contradiction=problem)
        return CurrentMode(
            shown.name, shown.mode_id, reported.fan_profile, reported.problems, problem
        )

    def before(self, own: Collection[str] = ()) -> CurrentMode | None:
        """
        Return the mode before a change, to restore it later; None if unknown.

        If nvpmodel reports that none was ever set, its status file, the default of its conf and
        the board are used.

        """
        try:
            return self.in_force(own)
        except PowerFormatError:
            pass
        for mode in filter(None, (self.stored(), self._default_mode())):
            if not self._unexplained(mode, own):
                return CurrentMode(mode.name, mode.mode_id)
        shown = self._find_shown(own)
        return None if shown is None else CurrentMode(shown.name, shown.mode_id)

    def before_or_default(self) -> CurrentMode | None:
        """Return the current mode, or that of the first boot if it is unknown."""
        default_id = self.conf().default_id
        default = None if default_id is None else CurrentMode('', default_id)
        return self.before() or default

    def stored(self) -> PowerMode | None:
        """Return the mode in nvpmodel's status file; None if it has none."""
        path = nvpmodel_status_file(self._tree.root)
        try:
            return self.conf().find_mode(parse_status_file(self._read(path)))
        except PowerError:
            return None

    def stamp(self) -> tuple[int, ...]:
        """Return a stamp that changes when nvpmodel sets a mode; () if there is none."""
        try:
            found = os.stat(nvpmodel_status_file(self._tree.root))
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size

    def switch(self, mode: PowerMode, now: CurrentMode | None) -> CurrentMode:
        """
        Change to the mode and read it back.

        Parameters
        ----------
        mode
            The new one.
        now
            The result of `before`, since nvpmodel is slow.

        Raises
        ------
        PowerRebootError
            It needs a reboot; the message names the mask that differs.
        PowerPermissionError
            Root is needed; the message gives the sudoers line.
        PowerCommandError
            The tool is missing, hangs, ignores the request in a container, fails, or reported
            success without effect.

        """
        before = _Before(None if now is None else now.mode_id, self.check.deviations(mode))
        try:
            result = self._access.run(_TOOL, '-m', str(mode.mode_id))
        finally:  # at once: what is set from now on, while this is checked, another program sets
            self.noted_stamp = self.stamp()
        refusal = find_refusal(result.tool_text)
        if refusal is not None or result.status != 0:
            return self._trust_board(mode, before, result, refusal) or self._refuse(
                mode, now, result, refusal
            )
        if self._access.dry_run:
            self._warn_of_reboot(mode, now)
            return CurrentMode(mode.name, mode.mode_id)
        return self._read_back(mode, before)

    def contradictions(self, mode: PowerMode, own: Collection[str] = ()) -> tuple[str, ...]:
        """Return how /sys differs from the mode, apart from heat and raised limits."""
        return tuple(found.text for found in self._unexplained(mode, own))

    def masks_that_differ(self, now: CurrentMode | None, mode: PowerMode) -> str:
        """
        Return `TPC_PG_MASK 240 -> 252`; '' if no mask differs.

        A current mask that is not known counts as another one, unless all modes have the same.
        """
        current = None if now is None else self.conf().find_mode(now.mode_id)
        masks = self.conf().common_masks if current is None else current.masks
        return ', '.join(
            f'{name} {masks.get(name, "unknown")} -> {wanted}'
            for name, wanted in mode.masks.items() if masks.get(name) != wanted
        )

    def commands(self, *, reboot_modes: bool) -> list[tuple[str, ...]]:
        """
        Return the commands that sudo has to allow, one for each mode.

        Without `reboot_modes` only modes with the masks of the current one: for others nvpmodel
        asks whether to reboot the board, and any user who may run it may answer yes.
        """
        tool = self._access.require(_TOOL)
        now = None if reboot_modes else self.before_or_default()
        return [
            (tool, '-m', str(mode.mode_id)) for mode in self.conf().modes
            if reboot_modes or not self.masks_that_differ(now, mode)
        ]

    def _read_conf(self) -> NvpmodelConf:
        path = find_nvpmodel_conf(self._tree.root)
        if path is not None:
            try:
                text = self._read(path)
            except PowerError:
                pass  # this user may not read it; the tool prints it too
            else:
                return parse_conf(text)
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
            text = self._read(path)
        except PowerError as exc:
            raise PowerCommandError(
                f'the power mode is not known: the tool {_TOOL} is not installed here, and '
                f'{path} cannot be read; this is not a Jetson, or a container ({exc})'
            ) from exc
        mode_id = parse_status_file(text)
        mode = self.conf().find_mode(mode_id)
        return CurrentMode('unknown' if mode is None else mode.name, mode_id)

    def _read(self, path: Path) -> str:
        """Read a file of nvpmodel's, with the limits of `SysfsTree`."""
        return self._tree.read_text(f'/{path.relative_to(self._tree.root)}')

    def _default_mode(self) -> PowerMode | None:
        default = self.conf().default_id
        return None if default is None else self.conf().find_mode(default)

    def _find_shown(self, own: Collection[str]) -> PowerMode | None:
        """Return the only mode that the board matches; None if several or none match."""
        fitting = [mode for mode in self.conf().modes if not self.check.deviations(mode, own)]
        return fitting[0] if len(fitting) == 1 else None

    def _unexplained(self, mode: PowerMode, own: Collection[str]) -> tuple[Deviation, ...]:
        """Return the deviations from a mode that neither heat nor a lock explains."""
        heat = find_heat(self._tree)
        return tuple(
            found for found in self.check.deviations(mode, own)
            if found.is_definite or (found.kind == 'below' and not heat)
        )

    def _trust_board(
        self, mode: PowerMode, before: _Before, result: CommandResult, refusal: ToolRefusal | None
    ) -> CurrentMode | None:
        """Return the mode if the board shows it, regardless of the tool's answer; else None."""
        if refusal is not None and refusal.kind in _FINAL:
            return None
        is_chroot = refusal is not None and refusal.kind == 'chroot'
        if is_chroot and before.mode_id != mode.mode_id:
            return None
        if not before.deviations and before.mode_id != mode.mode_id:
            return None  # this mode and the one before look alike
        try:
            now = self._read_back(mode, before)
        except PowerError:
            return None
        line = result.last_lines if refusal is None else refusal.line
        self._access.report(
            f'{_TOOL} -m {mode.mode_id} complained ({line}; exit status {result.status}), but the '
            f'board shows {mode}'
        )
        return now

    def _read_back(self, mode: PowerMode, before: _Before) -> CurrentMode:
        now = self._current_or_stored()
        if now.mode_id != mode.mode_id:
            raise PowerCommandError(
                f'{_TOOL} -m {mode.mode_id} ended without an error, but the mode is still '
                f'{now.name} ({now.mode_id}), expected {mode}'
            )
        if not self.check.can_show(mode):
            raise PowerCommandError(
                f'{_TOOL} reports the mode {mode}, but none of the CPU and GPU files of this mode '
                'is below /sys, so whether it was applied is not known: a container may hide '
                'them, or nvpmodel.conf is of another board or release'
            )
        found = self.check.deviations(mode)
        heat = find_heat(self._tree)
        definite = [item for item in found if item.is_definite]
        lower = [item for item in found if item.kind == 'below']
        unchanged = bool(lower) and found == before.deviations and before.mode_id != mode.mode_id
        if definite or unchanged or (lower and not heat):
            raise PowerCommandError(
                f'{_TOOL} reports the mode {mode}, but the board does not show it: '
                f'{_join(definite or lower)}. Either nothing was applied, or another program '
                'holds these'
            )
        for item in found:  # the rest is explained by heat or a lock
            why = f'for heat ({heat})' if item.kind == 'below' else 'another program holds it up'
            self._access.report(f'{mode} is set, except: {item.text}, {why}')
        return now

    def _current_or_stored(self) -> CurrentMode:
        """Return the mode in `nvpmodel -q`; in its status file if that answer is not known."""
        try:
            return self.current()
        except PowerFormatError:
            mode = self.stored()
            if mode is None:
                raise
            return CurrentMode(mode.name, mode.mode_id)

    def _warn_of_reboot(self, mode: PowerMode, now: CurrentMode | None) -> None:
        masks = self.masks_that_differ(now, mode)
        if masks:
            self._access.report(f'{mode} would probably need a reboot: {masks}')

    def _refuse(
        self,
        mode: PowerMode,
        now: CurrentMode | None,
        result: CommandResult,
        refusal: ToolRefusal | None,
    ) -> NoReturn:
        """Raise the error for nvpmodel's refusal, a general one for an unknown text."""
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


def _join(deviations: Collection[Deviation]) -> str:
    return '; '.join(found.text for found in deviations)
