"""
Parse the refusals of `jetson_clocks`, and the file of `jetson_clocks --store`.

Pure text in, frozen values out.

"""

from __future__ import annotations

import re

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.root.tool_refusal import RefusalKind, ToolRefusal

_LONGEST_EXCERPT = 80
_COLOUR = re.compile(r'\x1b\[[0-9;]*m')
_STORED = re.compile(r'(?P<path>\S+):(?P<value>[^\s:]+)')
_REFUSALS: tuple[tuple[RefusalKind, re.Pattern[str]], ...] = (
    ('permission', re.compile(
        r'as a root user|permission denied|not permitted|password is required|not allowed to'
        r'|not in the sudoers', re.IGNORECASE,
    )),
    ('file_exists', re.compile(r'\bfile\b.* already exists', re.IGNORECASE)),
    ('file_missing', re.compile(r'\bfile\b.* not found', re.IGNORECASE)),
    ('error', re.compile(r'^error\b', re.IGNORECASE)),
)


def parse_store(text: str) -> dict[str, str]:
    """
    Parse a file of `jetson_clocks --store`: lines of `path:value`.

    Returns
    -------
    Value of each path, in the order of the file.

    Raises
    ------
    PowerFormatError
        A line has another form, or there are no lines.

    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _STORED.fullmatch(line.strip())
        if match is None:
            raise PowerFormatError(
                f'line {number}: expected "path:value" of jetson_clocks --store, found '
                f'{line[:_LONGEST_EXCERPT]!r}; delete the file and store it again'
            )
        values[match['path']] = match['value']
    if not values:
        raise PowerFormatError(
            'expected lines "path:value" of jetson_clocks --store, found none; '
            'delete the file and store it again'
        )
    return values


def find_refusal(text: str) -> ToolRefusal | None:
    """Find the line in which jetson_clocks (or sudo) refuses, if any."""
    for line in map(str.strip, _COLOUR.sub('', text).splitlines()):
        for kind, pattern in _REFUSALS:
            if pattern.search(line):
                return ToolRefusal(kind, line)
    return None
