"""
Parse nvpmodel's configuration file, and the output of `nvpmodel -p --verbose`.

Pure text in, frozen values out.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
import re

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.nvpmodel.values import (
    ConfParameter,
    NvpmodelConf,
    parse_value,
    PowerMode,
    Value,
    without_prefix,
)

_LONGEST_EXCERPT = 80
_BYTE_ORDER_MARK = '\ufeff'
_SECTIONS = ('PARAM', 'POWER_MODEL', 'PM_CONFIG', 'FAN_CONFIG')
_HEADER = re.compile(r'<\s*(?P<section>\w+)\b(?P<rest>.*)>', re.ASCII)
_KEY = re.compile(r'\b(\w{1,64})\s*=', re.ASCII)
_PRINTED_ID = re.compile(r'^(?:.*\()?(\d{1,9})\)?$', re.ASCII)
_PRINTED_SECTION = re.compile(rf'(?P<section>{"|".join(_SECTIONS)}):?\s+(?P<rest>\w+=.*)')
_PRINTED_SETTING = re.compile(r'\w+\s+\w+\s+[^\s:]+', re.ASCII)
_PRINTED_PATH = re.compile(r'\w+\s+/\S+(?:\s+\S+)?', re.ASCII)


def parse_conf(text: str) -> NvpmodelConf:
    """
    Parse an nvpmodel.conf.

    Raises
    ------
    PowerFormatError
        A line is malformed, or there is no power mode.

    """
    draft = _Draft()
    for number, raw in enumerate(text.removeprefix(_BYTE_ORDER_MARK).splitlines(), 1):
        line = raw.partition('#')[0].strip()
        if line:
            draft.take_line(line, number)
    return draft.finished('nvpmodel.conf')


def parse_modes_verbose(text: str) -> NvpmodelConf:
    """
    Parse the output of `nvpmodel -p --verbose`: the conf file as nvpmodel read it.

    Lines before the first section are dropped; unknown lines after it are kept.

    Raises
    ------
    PowerFormatError
        It has no power mode, or a mode without id or name.

    """
    draft = _Draft()
    for number, raw in enumerate(text.splitlines(), 1):
        line = without_prefix(raw)
        match = _PRINTED_SECTION.fullmatch(line)
        if match is not None:
            draft.open_section(match['section'], _attributes(match['rest']), number)
        elif draft.section == 'POWER_MODEL' and _PRINTED_SETTING.fullmatch(line):
            draft.take_setting(line, number)
        elif draft.section == 'PARAM' and _PRINTED_PATH.fullmatch(line):
            draft.take_path(line, number)
        elif draft.section and line:
            draft.unknown.append(line)
    return draft.finished('nvpmodel -p --verbose')


@dataclasses.dataclass
class _Draft:
    """A NvpmodelConf while its lines are read, with the current section."""

    parameters: list[ConfParameter] = dataclasses.field(default_factory=list)
    modes: list[PowerMode] = dataclasses.field(default_factory=list)
    default_id: int | None = None
    fan_default: str | None = None
    unknown: list[str] = dataclasses.field(default_factory=list)
    section: str = ''
    paths: dict[str, str] = dataclasses.field(default_factory=dict)
    hwmon_files: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: dict[tuple[str, str], Value] = dataclasses.field(default_factory=dict)

    def finished(self, source: str) -> NvpmodelConf:
        """Return the finished value."""
        if not self.modes:
            raise PowerFormatError(
                f'expected at least one POWER_MODEL in {source}, found none; '
                'check that it is whole and of this board'
            )
        return NvpmodelConf(
            tuple(self.parameters), tuple(self.modes), self.default_id, self.fan_default,
            tuple(self.unknown),
        )

    def take_line(self, line: str, number: int) -> None:
        """Read a line of the file: a header, or a line of the current section."""
        if line.startswith('<'):
            match = _HEADER.fullmatch(line)
            if match is None:
                raise _unexpected(number, '"< SECTION KEY=VALUE ... >"', line)
            self.open_section(match['section'], _attributes(match['rest']), number)
            if self.section not in _SECTIONS:
                self.unknown.append(line)
        elif self.section == 'PARAM':
            self.take_path(line, number)
        elif self.section == 'POWER_MODEL':
            self.take_setting(line, number)
        elif self.section:
            self.unknown.append(line)
        else:
            raise _unexpected(number, 'a header "< SECTION ... >" before it', line)

    def open_section(self, section: str, attributes: Mapping[str, str], number: int) -> None:
        """Begin a section, to which the following lines belong."""
        self.section = section
        if section == 'PARAM':
            self.paths, self.hwmon_files = {}, {}
            name, kind = _needed(attributes, ('NAME', 'TYPE'), section, number)
            self.parameters.append(ConfParameter(name, kind, self.paths, self.hwmon_files))
        elif section == 'POWER_MODEL':
            self.settings = {}
            mode_id, name = _needed(attributes, ('ID', 'NAME'), section, number)
            self.modes.append(PowerMode(_mode_id(mode_id, number), name, self.settings))
        elif section == 'PM_CONFIG':
            (default,) = _needed(attributes, ('DEFAULT',), section, number)
            self.default_id = _mode_id(default, number)
        elif section == 'FAN_CONFIG':
            (self.fan_default,) = _needed(attributes, ('DEFAULT',), section, number)

    def take_path(self, line: str, number: int) -> None:
        """Read `ARG path`, or `ARG folder file` for HWMON."""
        words = line.split()
        if not 2 <= len(words) <= 3:
            raise _unexpected(number, '"ARGUMENT path"', line)
        self.paths[words[0]] = words[1]
        if len(words) == 3:
            self.hwmon_files[words[0]] = words[2]

    def take_setting(self, line: str, number: int) -> None:
        """Read `PARAM ARG VAL`."""
        words = line.split(None, 2)
        if len(words) != 3:
            raise _unexpected(number, '"PARAMETER ARGUMENT value"', line)
        self.settings[words[0], words[1]] = parse_value(words[2])


def _attributes(text: str) -> dict[str, str]:
    """Parse `KEY=VALUE KEY=VALUE`; a value ends at the next key."""
    _, *parts = _KEY.split(text)
    return {key: value.strip() for key, value in zip(parts[::2], parts[1::2], strict=True)}


def _needed(
    attributes: Mapping[str, str], keys: Iterable[str], section: str, number: int
) -> list[str]:
    """Return attributes of a header; raises if one is absent or empty."""
    for key in keys:
        if not attributes.get(key):
            raise PowerFormatError(
                f'line {number}: expected {key}=... in the {section} header, found '
                f'{dict(attributes)}; see the comments at the top of nvpmodel.conf'
            )
    return [attributes[key] for key in keys]


def _mode_id(text: str, number: int) -> int:
    """Parse `2`, or `MODE_15W(2)` as it is printed."""
    match = _PRINTED_ID.search(text)
    if match is None:
        raise _unexpected(number, 'the number of a power mode', text)
    return int(match[1])


def _unexpected(number: int, expected: str, found: str) -> PowerFormatError:
    """Return the error for a line."""
    return PowerFormatError(
        f'line {number}: expected {expected}, found {found[:_LONGEST_EXCERPT]!r}; '
        'see the comments at the top of nvpmodel.conf'
    )
