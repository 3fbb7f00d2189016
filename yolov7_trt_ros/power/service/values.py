"""Values exchanged by the power service and its clients as JSON: limits, modes, boards, errors."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerFormatError,
    PowerPermissionError,
    PowerRebootError,
    PowerTimeoutError,
    SettingError,
    Yolov7TrtError,
)
from yolov7_trt_ros.power.board.identity import BoardInfo
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, PowerMode

PROTOCOL = 1
LONGEST_REQUEST_BYTES = 1024
LONGEST_REPLY_BYTES = 1 << 18
"""The modes of a board are the largest reply: about 30 kB on an AGX Orin."""

_LONGEST_MESSAGE = 4000
_ERRORS: dict[str, type[Yolov7TrtError]] = {
    kind.__name__: kind for kind in (
        PowerError, PowerFormatError, PowerPermissionError, PowerRebootError, PowerCommandError,
        PowerTimeoutError, SettingError,
    )
}

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class ServiceState:
    """
    The state of a session, in every reply.

    Attributes
    ----------
    changed
        Changes that this session would restore.
    holds_journal
        Whether this session, and no other, changes the board.
    journal_problem
        Defect of the journal that was found, '' for none.
    foreign_modes
        Number of power modes set by other programs in this session.
    noted_stamp, stamp
        Stamps of nvpmodel's status file: as noted by this session, and the current one.

    """

    changed: tuple[str, ...] = ()
    holds_journal: bool = False
    journal_problem: str = ''
    foreign_modes: int = 0
    noted_stamp: tuple[int, ...] = ()
    stamp: tuple[int, ...] = ()


def expect(value: Any, kind: type[T], what: str) -> T:
    """
    Return a value of a type; a bool is no number, an integer is accepted for a float.

    Raises
    ------
    PowerFormatError
        It is of another type.

    """
    if kind is float and type(value) is int:
        value = float(value)
    is_endless = isinstance(value, float) and not math.isfinite(value)
    if type(value) is not kind or is_endless:
        raise PowerFormatError(f'{what} should be {kind.__name__}, is {value!r:.80}')
    return value


def expect_list(value: Any, kind: type[T], what: str) -> tuple[T, ...]:
    """Return a list of values of a type as a tuple; raises PowerFormatError otherwise."""
    return tuple(expect(item, kind, what) for item in expect(value, list, what))


def optional(value: Any, kind: type[T], what: str) -> T | None:
    """Return None or a value of a type; raises PowerFormatError otherwise."""
    return None if value is None else expect(value, kind, what)


def state_from_json(value: Any) -> ServiceState:
    """Return the state in a reply; raises PowerFormatError if it is malformed."""
    fields = expect(value, dict, 'the state')
    return ServiceState(
        changed=expect_list(fields.get('changed'), str, 'changed'),
        holds_journal=expect(fields.get('holds_journal'), bool, 'holds_journal'),
        journal_problem=expect(fields.get('journal_problem'), str, 'journal_problem'),
        foreign_modes=expect(fields.get('foreign_modes'), int, 'foreign_modes'),
        noted_stamp=expect_list(fields.get('noted_stamp'), int, 'noted_stamp'),
        stamp=expect_list(fields.get('stamp'), int, 'stamp'),
    )


def board_from_json(value: Any) -> BoardInfo:
    """Return the board in a reply; raises PowerFormatError if it is malformed."""
    fields = expect(value, dict, 'the board')
    texts = {
        name: expect(fields.get(name), str, name)
        for name in ('name', 'l4t_release', 'kind', 'soc')
    }
    return BoardInfo(**texts, compatible=expect_list(fields.get('compatible'), str, 'compatible'))


def mode_to_json(mode: PowerMode) -> dict[str, Any]:
    """Return a power mode for a reply."""
    settings = [[*names, value] for names, value in mode.settings.items()]
    return {'id': mode.mode_id, 'name': mode.name, 'settings': settings}


def mode_from_json(value: Any) -> PowerMode:
    """Return the power mode in a reply; raises PowerFormatError if it is malformed."""
    fields = expect(value, dict, 'a power mode')
    settings = {}
    for item in expect_list(fields.get('settings'), list, 'settings'):
        if len(item) != 3 or type(item[2]) not in (int, str):
            raise PowerFormatError(f'expected a setting of a power mode, found {item!r:.80}')
        parameter, argument = expect_list(item[:2], str, 'a setting')
        settings[parameter, argument] = item[2]
    return PowerMode(
        expect(fields.get('id'), int, 'id'), expect(fields.get('name'), str, 'name'), settings
    )


def current_mode_from_json(value: Any) -> CurrentMode:
    """Return the current mode in a reply; raises PowerFormatError if it is malformed."""
    fields = expect(value, dict, 'the power mode in force')
    return CurrentMode(
        expect(fields.get('name'), str, 'name'),
        expect(fields.get('mode_id'), int, 'mode_id'),
        optional(fields.get('fan_profile'), str, 'fan_profile'),
        expect_list(fields.get('problems'), str, 'problems'),
        expect(fields.get('contradiction'), str, 'contradiction'),
    )


def error_to_json(error: Yolov7TrtError) -> dict[str, str]:
    """Return an error for a reply, as the nearest type that clients know."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return {
        'error': next((name for name in kinds if name in _ERRORS), PowerError.__name__),
        'message': str(error)[:_LONGEST_MESSAGE],
    }


def error_from_json(fields: dict[str, Any]) -> Yolov7TrtError:
    """Return the error in a reply."""
    kind = _ERRORS.get(str(fields.get('error')), PowerError)
    return kind(expect(fields.get('message'), str, 'message'))
