"""One task per recording: its arguments, its result, and errors as results."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import errno
from typing import Any

from yolov7_trt_ros.errors import InputError, SettingError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """One recording: its name, and the arguments of the verb's function for it."""

    key: str
    given: tuple[Any, ...]


Function = Callable[..., dict[str, Any]]
"""Takes the arguments of the verb, those of the task, and `show`; returns JSON-ready values."""

Runner = Callable[[Function, argparse.Namespace, Sequence[Task]],
                  Iterator[tuple[str, dict[str, Any]]]]


def guarded(
    function: Function, args: argparse.Namespace, given: Sequence[Any], **more: Any
) -> dict[str, Any]:
    """
    Return the result of a task; what cannot be read or written becomes its `error`.

    Raises
    ------
    SettingError
        A value of the arguments is wrong, for any recording.

    """
    try:
        return function(args, *given, **more)
    except SettingError:  # wrong for all
        raise
    except InputError as exc:
        return {'error': str(exc), 'disk': _is_disk(exc.__cause__)}
    except OSError as exc:
        return {'error': f'{exc.filename or "a file"}: {exc.strerror}', 'disk': _is_disk(exc)}


def _is_disk(exc: BaseException | None) -> bool:
    """Whether another machine could succeed: the disk is full or read-only."""
    return isinstance(exc, OSError) and exc.errno in _DISK_ERRORS


def failures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the errors of failed tasks, by name."""
    return {name: each['error'] for name, each in results.items() if 'error' in each}
