"""
The requests that the power service accepts, each with checked arguments.

They change only what the lines of `yolov7_trt power permissions` allow a user: power modes that
need no reboot, the lock of the clocks, limits of GPU and CPU within the mode. No request names a
file or a command.

"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

from yolov7_trt_ros.errors import PowerFormatError, PowerPermissionError, PowerRebootError
from yolov7_trt_ros.power.clocks.clock_files import UNITS
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.service.values import expect, mode_to_json, optional, ServiceState

_LONGEST_TEXT = 64
_HIGHEST_MHZ = 100_000.0


@dataclasses.dataclass(frozen=True)
class Grants:
    """
    Additional permissions.

    Attributes
    ----------
    reboot_modes
        Also power modes that need a reboot, which nvpmodel itself then refuses.
    fan
        Also the fan profile.

    """

    reboot_modes: bool = False
    fan: bool = False


@dataclasses.dataclass(frozen=True)
class Call:
    """A request: the board, the permissions, and the arguments."""

    control: PowerControl
    grants: Grants
    arguments: tuple[Any, ...]

    def text(self, place: int = 0) -> str:
        """Return an argument; raises PowerFormatError unless it is a short printable text."""
        text = expect(self.arguments[place], str, 'the argument')
        if not text.isprintable() or not 0 < len(text) <= _LONGEST_TEXT:
            raise PowerFormatError(f'expected a short printable text, found {text!r:.80}')
        return text

    def flag(self, place: int = 0) -> bool:
        """Return an argument that is true or false."""
        return expect(self.arguments[place], bool, 'the argument')

    def unit(self) -> str:
        """Return the first argument, 'gpu' or 'cpu'."""
        unit = self.text()
        if unit not in UNITS:
            raise PowerFormatError(f'expected {" or ".join(UNITS)}, found {unit!r}')
        return unit

    def mhz(self) -> float | None:
        """Return the second argument, a clock or None."""
        mhz = optional(self.arguments[1], float, 'the clock')
        if mhz is not None and not 0 < mhz <= _HIGHEST_MHZ:
            raise PowerFormatError(f'expected a clock above 0 MHz, found {mhz:g}')
        return mhz


@dataclasses.dataclass(frozen=True)
class Verb:
    """
    A request that can be made.

    Attributes
    ----------
    count
        Number of arguments.
    act
        Carries it out; returns a value for JSON.
    changes
        Whether it may change the board.

    """

    count: int
    act: Callable[[Call], Any]
    changes: bool = False


def state_of(control: PowerControl) -> ServiceState:
    """Return the state of a session; takes no lock and starts no tool."""
    noted, now = control.mode_stamps()
    return ServiceState(
        control.changed, control.holds_journal, control.journal_problem, control.foreign_modes,
        noted, now,
    )


def _set_mode(call: Call) -> dict[str, Any]:
    name = call.text()
    masks = '' if call.grants.reboot_modes else call.control.masks_that_differ(name)
    if masks:
        raise PowerRebootError(
            f'the power mode {name} needs a reboot ({masks}), and the power service was started '
            'without --reboot-modes'
        )
    return dataclasses.asdict(call.control.set_mode(name))


def _set_fan_profile(call: Call) -> str:
    if not call.grants.fan:
        raise PowerPermissionError(
            'the power service was started without --fan: it leaves the fan alone'
        )
    return call.control.set_fan_profile(call.text())


def _hold_frequency(call: Call) -> float:
    return call.control.hold_frequency(call.unit(), call.mhz(), cap_only=call.flag(2))


VERBS = {
    'state': Verb(0, lambda call: None),
    'board': Verb(0, lambda call: dataclasses.asdict(call.control.board())),
    'modes': Verb(0, lambda call: [mode_to_json(mode) for mode in call.control.modes()]),
    'default_mode_id': Verb(0, lambda call: call.control.default_mode_id()),
    'current_mode': Verb(0, lambda call: dataclasses.asdict(call.control.current_mode())),
    'jetson_clocks_state': Verb(0, lambda call: call.control.jetson_clocks_state()),
    'describe_clock_lock': Verb(0, lambda call: call.control.describe_clock_lock()),
    'gpu_frequencies_mhz': Verb(0, lambda call: call.control.gpu_frequencies_mhz()),
    'cpu_frequencies_mhz': Verb(0, lambda call: call.control.cpu_frequencies_mhz()),
    'fan_profile': Verb(0, lambda call: call.control.fan_profile()),
    'adopt': Verb(0, lambda call: call.control.adopt()),
    'follow_mode': Verb(0, lambda call: call.control.follow_mode()),
    'keep': Verb(0, lambda call: call.control.keep()),
    'restore': Verb(0, lambda call: call.control.restore()),
    'set_mode': Verb(1, _set_mode, changes=True),
    'set_jetson_clocks': Verb(
        1, lambda call: call.control.set_jetson_clocks(call.flag()), changes=True
    ),
    'set_max_frequency': Verb(
        2, lambda call: call.control.set_max_frequency(call.unit(), call.mhz()), changes=True
    ),
    'hold_frequency': Verb(3, _hold_frequency, changes=True),
    'set_fan_profile': Verb(1, _set_fan_profile, changes=True),
}
