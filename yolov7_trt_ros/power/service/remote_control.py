"""
RemoteControl: changes a board's power settings from a container, through the host's service.

Three connections, so that reading the board does not wait for a running change: one for changes,
one for reading, one for requests that have to be fast. Changes belong to the first one, so after a
change it also reads the mode and the lock. When the service ends, it restores the changes; the
next call connects again.

"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
import socket
import threading
import time
from typing import Any, get_args

from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerFormatError,
    PowerPermissionError,
)
from yolov7_trt_ros.power.board.identity import BoardInfo
from yolov7_trt_ros.power.clocks.clock_lock import ClockLockState
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, PowerMode
from yolov7_trt_ros.power.root.root_access import ignore, Report
from yolov7_trt_ros.power.service.lines import LineSocket
from yolov7_trt_ros.power.service.values import (
    board_from_json,
    current_mode_from_json,
    error_from_json,
    expect,
    expect_list,
    LONGEST_REPLY_BYTES,
    LONGEST_REQUEST_BYTES,
    mode_from_json,
    optional,
    PROTOCOL,
    ServiceState,
    state_from_json,
)

CONNECT_TIMEOUT_S = 2.0
_NOTICE_TIMEOUT_S = 0.5
_RETRY_S = 5.0
_MOST_TOOLS = 20  # that one change runs, one after the other
_LOOK_TOOLS = 3


class _Channel:
    """
    One connection to the service, opened when it is used.

    Parameters
    ----------
    path
        Path of the socket.
    begin
        Arguments of the first request.
    report
        Called with a line about each action of the service.
    timeout_s
        Time limit of a reply.

    """

    def __init__(self, path: Path, begin: list[Any], report: Report, timeout_s: float) -> None:
        self._path, self._begin, self._report = path, begin, report
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._lines: LineSocket | None = None
        self.state = ServiceState()
        self.begins = 0

    def ask(self, verb: str, *arguments: Any) -> Any:
        """
        Send a request and return its value; `state` is then that of the session.

        Raises
        ------
        PowerError
            The error of the service, or it does not answer.

        """
        with self._lock:
            if self._lines is not None and self._is_broken(self._lines):
                self._drop()
            if self._lines is None:
                self._connect()
            return self._exchange(verb, list(arguments))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lines = LineSocket(connection, LONGEST_REPLY_BYTES)
        connection.settimeout(min(CONNECT_TIMEOUT_S, self._timeout_s))
        try:
            connection.connect(str(self._path))
        except OSError as exc:
            self._drop()
            raise _explain(exc, self._path) from exc
        self.begins += 1
        self._exchange('begin', self._begin)

    def _exchange(self, verb: str, arguments: list[Any]) -> Any:
        assert self._lines is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # a refusal may wait to be read
                self._lines.write(
                    {'verb': verb, 'arguments': arguments}, LONGEST_REQUEST_BYTES,
                    CONNECT_TIMEOUT_S,
                )
            reply = self._lines.read(self._timeout_s, CONNECT_TIMEOUT_S)
        except (OSError, PowerError) as exc:
            self._drop()
            raise PowerCommandError(f'the power service at {self._path}: {exc}') from exc
        if reply is None:
            self._drop()
            raise PowerCommandError(
                f'the power service at {self._path} has ended the connection; what was changed '
                'through it, it puts back'
            )
        for line in expect_list(reply.get('lines', []), str, 'the lines'):
            self._report(line)
        if reply.get('state'):
            self.state = state_from_json(reply['state'])
        if reply.get('ok') is not True:
            raise error_from_json(reply)
        return reply.get('value')

    def _is_broken(self, lines: LineSocket) -> bool:
        """Whether the service has closed the connection since the last reply."""
        lines.connection.setblocking(False)
        try:
            return lines.connection.recv(1, socket.MSG_PEEK) is not None
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _drop(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None


class RemoteControl:
    """
    Does what `PowerControl` does, on the host, which has the journal.

    Parameters
    ----------
    path
        Path of the service's socket.
    dry_run
        Change nothing; report what would be done.
    report
        Called with a line about each change.
    timeout_s
        Time limit of one tool.
    program
        Name of this process for the service.

    Raises
    ------
    PowerError
        The service does not answer, or refuses this user.

    """

    def __init__(
        self,
        path: Path,
        *,
        dry_run: bool = False,
        report: Report = ignore,
        timeout_s: float = COMMAND_TIMEOUT_S,
        program: str = 'yolov7_trt power',
    ) -> None:
        self._dry_run, self._report = dry_run, report
        begin = [PROTOCOL, program, dry_run, timeout_s]
        self._changes = _Channel(path, begin, report, _MOST_TOOLS * timeout_s)
        self._looks = _Channel(path, begin, report, _LOOK_TOOLS * timeout_s)
        self._notices = _Channel(path, begin, report, _NOTICE_TIMEOUT_S)
        self._channels = (self._changes, self._looks, self._notices)
        self._lock = threading.Lock()
        self._foreign_before = 0
        self._lost: set[str] = set()
        self._blind_until_s = 0.0
        try:
            for channel in self._channels:  # so that other clients cannot take their places
                channel.ask('state')
        except PowerError:
            self.close()
            raise

    @property
    def dry_run(self) -> bool:
        """Whether changes are only reported."""
        return self._dry_run

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the changes to restore, in the order of the first of each."""
        return self._changes.state.changed

    @property
    def journal_problem(self) -> str:
        """Return the defect of the host's journal, or what a new service has restored."""
        if self._lost:
            return (
                'the power service of the host was restarted and has put back '
                f'{", ".join(sorted(self._lost))}: set that again'
            )
        return self._changes.state.journal_problem

    @property
    def holds_journal(self) -> bool:
        """Whether this process, and no other, changes the board."""
        return self._changes.state.holds_journal

    @property
    def foreign_modes(self) -> int:
        """Return the number of power modes set by other programs, as far as detected."""
        return self._foreign_before + self._changes.state.foreign_modes

    def board(self) -> BoardInfo:
        """Return which board the host is."""
        return board_from_json(self._look('board'))

    def modes(self) -> tuple[PowerMode, ...]:
        """Return the power modes of the board; errors as `PowerControl`, here and below."""
        return tuple(map(mode_from_json, expect(self._look('modes'), list, 'the modes')))

    def default_mode_id(self) -> int | None:
        """Return the mode of the first boot; None if unknown."""
        return optional(self._look('default_mode_id'), int, 'the default mode')

    def current_mode(self) -> CurrentMode:
        """Return the current power mode, as the board shows it."""
        return current_mode_from_json(self._look_with_changes('current_mode'))

    def set_mode(self, name_or_id: str) -> CurrentMode:
        """Change the power mode, and read it back."""
        return current_mode_from_json(self._change('set_mode', name_or_id))

    def jetson_clocks_state(self) -> ClockLockState:
        """Return `on`, `off`, `broken` or `uncontrolled`: locked by another program."""
        return _lock_state(self._look_with_changes('jetson_clocks_state'))

    def set_jetson_clocks(self, on: bool) -> ClockLockState:
        """Lock the clocks at the mode's limits, or restore the state before."""
        return _lock_state(self._change('set_jetson_clocks', on))

    def describe_clock_lock(self) -> str:
        """Return the state, and the clocks that a cap or hold of ours keeps below the lock."""
        return expect(self._look_with_changes('describe_clock_lock'), str, 'the lock')

    def gpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the GPU clocks that this power mode allows, ascending."""
        return expect_list(self._look('gpu_frequencies_mhz'), float, 'the clocks')

    def cpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the CPU clocks that this power mode allows, ascending."""
        return expect_list(self._look('cpu_frequencies_mhz'), float, 'the clocks')

    def set_max_frequency(self, unit: str, mhz: float | None) -> float:
        """Cap the clock of the 'gpu' or the 'cpu'; None removes the cap."""
        return expect(self._change('set_max_frequency', unit, mhz), float, 'the clock')

    def hold_frequency(
        self, unit: str, mhz: float | None, *, cap_only: bool = False
    ) -> float:
        """Keep the clock of the 'gpu' or the 'cpu' at one frequency; None releases it."""
        return expect(self._change('hold_frequency', unit, mhz, cap_only), float, 'the clock')

    def fan_profile(self) -> str | None:
        """Return the fan profile; None if the board has none."""
        return optional(self._look('fan_profile'), str, 'the fan profile')

    def set_fan_profile(self, name: str) -> str:
        """Set the fan profile, and read it back."""
        return expect(self._change('set_fan_profile', name), str, 'the fan profile')

    def mode_was_changed(self) -> bool:
        """Whether nvpmodel has set a mode since the last change here; waits half a second."""
        if time.monotonic() < self._blind_until_s:
            return False
        begins = self._notices.begins
        try:
            self._notices.ask('state')
        except PowerError:
            self._blind_until_s = time.monotonic() + _RETRY_S
            return bool(self.changed)  # following the mode then shows its effect
        is_anew = 0 < begins < self._notices.begins
        return is_anew or self._notices.state.stamp != self._changes.state.noted_stamp

    def follow_mode(self) -> str:
        """Fit caps, holds and lock to a mode set by another program; returns its name."""
        return expect(self._change('follow_mode'), str, 'the power mode')

    def adopt(self) -> tuple[str, ...]:
        """Take the host's journal, with the changes that an ended process did not restore."""
        return expect_list(self._change('adopt'), str, 'what was left')

    def restore(self) -> None:
        """Restore the state before the first change of each kind, latest first."""
        if self._changes.state.changed:
            self._change('restore')

    def keep(self) -> None:
        """Keep our changes: they are not to be restored."""
        self._change('keep')

    def close(self) -> None:
        """End the connections: the service restores changes that were not kept."""
        for channel in self._channels:
            channel.close()

    def _look(self, verb: str) -> Any:
        return self._looks.ask(verb)

    def _look_with_changes(self, verb: str) -> Any:
        """Read through the session that has our caps and locks: they may contradict a mode."""
        return self._change(verb) if self.changed else self._look(verb)

    def _change(self, verb: str, *arguments: Any) -> Any:
        """Ask for a change, and see whether the service is another than at the one before."""
        with self._lock:
            before, begins = self._changes.state, self._changes.begins
            try:
                return self._changes.ask(verb, *arguments)
            finally:
                if 0 < begins < self._changes.begins:
                    self._foreign_before += before.foreign_modes + 1
                    self._lost |= set(before.changed)
                self._lost -= set(self._changes.state.changed)


def _lock_state(value: Any) -> ClockLockState:
    states: tuple[ClockLockState, ...] = get_args(ClockLockState)
    for state in states:
        if state == value:
            return state
    raise PowerFormatError(f'expected the state of the clocks, found {value!r:.80}')


def _explain(error: OSError, path: Path) -> PowerError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return PowerPermissionError(
            f'{path} is not for this user: it has to be in the group of that socket (ls -ln '
            f'{path}); a container by docker run --group-add'
        )
    return PowerCommandError(
        f'nobody answers at {path} ({error.strerror or error}): is `yolov7_trt power serve` '
        'running on the host? A container that was given the socket of one that has ended has to '
        'be restarted'
    )
