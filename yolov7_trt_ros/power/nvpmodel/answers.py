"""
Parse the output of nvpmodel (answers and refusals) and its status file.

Pure text in, frozen values out. Exit codes are not used: nvpmodel often returns 0 although it did
nothing, so a change has to be read back.

"""

from __future__ import annotations

from collections.abc import Iterable
import re

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode
from yolov7_trt_ros.power.root.tool_refusal import RefusalKind, ToolRefusal

_LONGEST_EXCERPT = 80
_MODE_LINE = re.compile(r'NV Power Mode:\s*(\S.*)')
_FAN_LINE = re.compile(r'NV Fan Mode:\s*(\S.*)')
_ID_LINE = re.compile(r'\d{1,9}', re.ASCII)
_PROBLEM = re.compile(r'\bNVPM (?:WARN|ERROR)\b')
_STATUS = re.compile(r'\bpmode:\s*(\d{1,9})\b', re.ASCII)
_REFUSALS: tuple[tuple[RefusalKind, re.Pattern[str]], ...] = (
    ('chroot', re.compile(r'running in chroot', re.IGNORECASE)),
    ('reboot', re.compile(r'reboot required|\brebooting\b', re.IGNORECASE)),
    ('unknown_mode', re.compile(r'bad power mode', re.IGNORECASE)),
    ('permission', re.compile(
        r'error opening .*: (?:1|13)$|permission denied|not permitted|root user'
        r'|password is required|not allowed to|not in the sudoers', re.IGNORECASE,
    )),
    ('error', re.compile(r'\bNVPM ERROR\b|^nvpmodel: |^sudo: ')),
)


def parse_query(text: str) -> CurrentMode:
    """
    Parse the output of `nvpmodel -q`, with or without --verbose, stdout and stderr together.

    Raises
    ------
    PowerFormatError
        It names no mode: none was ever set, or it is another output.

    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        match = _MODE_LINE.search(line)
        if match is not None:
            return CurrentMode(
                match[1], _id_after(lines[index + 1:], line), _find_fan_profile(lines),
                tuple(filter(_PROBLEM.search, lines)),
            )
    raise PowerFormatError(
        'expected a line "NV Power Mode: NAME" from nvpmodel -q, found '
        f'{text[:_LONGEST_EXCERPT]!r}; if no mode was ever set, set one: sudo nvpmodel -m ID'
    )


def parse_status_file(text: str) -> int:
    """
    Parse /var/lib/nvpmodel/status: the id of the mode; any user may read it.

    In a container nvpmodel writes this file and changes nothing.

    Raises
    ------
    PowerFormatError
        It has no `pmode:`.

    """
    match = _STATUS.search(text)
    if match is None:
        raise PowerFormatError(
            'expected "pmode:0002" in the status file of nvpmodel, found '
            f'{text[:_LONGEST_EXCERPT]!r}; set a mode to have it written again'
        )
    return int(match[1])


def find_refusal(text: str) -> ToolRefusal | None:
    """
    Find the refusal in the output of nvpmodel (stdout and stderr, and sudo's).

    Of several lines the most specific one is returned. None does not prove success.

    """
    lines = [line.strip() for line in text.splitlines()]
    for kind, pattern in _REFUSALS:
        for line in lines:
            if pattern.search(line):
                return ToolRefusal(kind, line)
    return None


def _id_after(lines: Iterable[str], mode_line: str) -> int:
    """Return the id: the next line, apart from lines of stderr in between."""
    for line in lines:
        if _ID_LINE.fullmatch(line):
            return int(line)
        if not line.startswith('NVPM'):
            break
    raise PowerFormatError(
        f'expected the id of the mode in the line after {mode_line[:_LONGEST_EXCERPT]!r}, '
        'found none; run nvpmodel -q by hand'
    )


def _find_fan_profile(lines: Iterable[str]) -> str | None:
    """Return the fan profile in the output of `nvpmodel -q`."""
    for line in lines:
        match = _FAN_LINE.search(line)
        if match is not None:
            return match[1]
    return None
