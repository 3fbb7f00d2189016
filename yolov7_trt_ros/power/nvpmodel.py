"""
Parse the text of nvpmodel: its conf file, its answers, its refusals and its status file.

Pure text in, frozen values out. Nothing here takes the exit code into account: nvpmodel returns 0
for much that it did not do, so a change has to be read back.

"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Literal

from yolov7_trt_ros.errors import PowerFormatError

UNLIMITED = -1
"""Value of a MAX_FREQ without a cap; the tool itself prints INT_MAX or LLONG_MAX for it."""

Value = int | str
"""A setting: a number where it looks like one, else the word (`on`, `auto`)."""

RefusalKind = Literal['chroot', 'reboot', 'unknown_mode', 'permission', 'error']

_PRINTED_UNLIMITED = (2**31 - 1, 2**63 - 1)
_LONGEST_EXCERPT = 80
_NEXT_KERNEL = '_KNEXT'


@dataclasses.dataclass(frozen=True)
class ConfParameter:
    """
    A `< PARAM ... >` section: where the settings of one parameter are written.

    Attributes
    ----------
    name
        Such as `CPU_ONLINE`.
    kind
        `FILE`, `CLOCK`, `HWMON`, or what a later release has.
    paths
        Argument to file; for HWMON the folder below which the file lies. Those with `_KNEXT`
        at the end are for newer kernels.
    hwmon_files
        Argument to the name of its file, HWMON only.

    """

    name: str
    kind: str
    paths: Mapping[str, str]
    hwmon_files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def candidates(self, argument: str) -> tuple[str, ...]:
        """Return the files an argument may have, the one for newer kernels first."""
        names = (argument + _NEXT_KERNEL, argument)
        return tuple(self.paths[name] for name in names if name in self.paths)


@dataclasses.dataclass(frozen=True)
class PowerMode:
    """
    A power mode.

    Attributes
    ----------
    mode_id, name
        Such as 2 and `MODE_15W`. Ids have gaps and differ between boards and releases.
    settings
        (parameter, argument) to value, such as ('GPU', 'MAX_FREQ') to 918000000.

    """

    mode_id: int
    name: str
    settings: Mapping[tuple[str, str], Value] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """Return `MODE_15W (2)`."""
        return f'{self.name} ({self.mode_id})'

    @property
    def masks(self) -> dict[str, int]:
        """Power gating masks by argument; where one differs, a change needs a reboot."""
        return {
            argument: value for (_, argument), value in self.settings.items()
            if argument.endswith('_MASK') and isinstance(value, int)
        }

    @property
    def tpc_mask(self) -> int | None:
        """Which TPCs of the GPU are without power; None where the board has no such setting."""
        return self.masks.get('TPC_PG_MASK')

    @property
    def cores(self) -> dict[int, bool]:
        """Whether each core is online. Cores that can not go offline may be absent."""
        return {
            int(match[1]): value != 0 for (_, argument), value in self.settings.items()
            if (match := _CORE.fullmatch(argument)) is not None
        }

    @property
    def cpu_max_khz(self) -> int | None:
        """Highest clock of the CPU; None without a cap."""
        return self._max_clock('CPU')

    @property
    def gpu_max_hz(self) -> int | None:
        """Highest clock of the GPU; None without a cap."""
        return self._max_clock('GPU')

    @property
    def emc_max_hz(self) -> int | None:
        """Highest clock of the memory; None without a cap."""
        return self._max_clock('EMC')

    def _max_clock(self, prefix: str) -> int | None:
        """Return the largest MAX_FREQ of the parameters with this prefix."""
        caps = [
            value for (parameter, argument), value in self.settings.items()
            if parameter.startswith(prefix) and argument == 'MAX_FREQ' and isinstance(value, int)
        ]
        # 0 is how the EMC of R32 and R35 says "no cap".
        return max(caps) if caps and min(caps) > 0 else None


@dataclasses.dataclass(frozen=True)
class NvpmodelConf:
    """
    The modes of a board.

    Attributes
    ----------
    parameters
        Where settings are written.
    modes
        In the order of the file.
    default_id
        Mode at first boot; None where the text has none.
    fan_default
        Such as `quiet`; None where the text has none.
    unknown
        Lines that were not understood.

    """

    parameters: tuple[ConfParameter, ...]
    modes: tuple[PowerMode, ...]
    default_id: int | None = None
    fan_default: str | None = None
    unknown: tuple[str, ...] = ()

    def find_mode(self, name_or_id: str | int) -> PowerMode | None:
        """Return the mode with this name or this id; a name of digits loses to an id."""
        wanted = str(name_or_id).strip()
        for mode in self.modes:
            if str(mode.mode_id) == wanted:
                return mode
        for mode in self.modes:
            if mode.name.lower() == wanted.lower():
                return mode
        return None

    def find_parameter(self, name: str) -> ConfParameter | None:
        """Return the parameter with this name."""
        return next((found for found in self.parameters if found.name == name), None)


@dataclasses.dataclass(frozen=True)
class CurrentMode:
    """
    What `nvpmodel -q` says.

    Attributes
    ----------
    name, mode_id
        The mode.
    fan_profile
        Such as `quiet` (R32 and R35); None where it is not printed.
    problems
        The lines with WARN and ERROR around it. A caller who is not root gets them always.

    """

    name: str
    mode_id: int
    fan_profile: str | None = None
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class VerboseValue:
    """
    One setting in `nvpmodel -q --verbose`: what is, and what the mode asks for.

    Attributes
    ----------
    parameter, argument
        '' in R28, which prints only the path.
    path
        File.
    real, conf
        They differ where the kernel rounds or the file switches by itself (`auto`); UNLIMITED
        for any of the large numbers that stand for it.

    """

    parameter: str
    argument: str
    path: str
    real: Value
    conf: Value


@dataclasses.dataclass(frozen=True)
class Refusal:
    """
    Why nvpmodel did not do what it was told.

    Attributes
    ----------
    kind
        `chroot` (in a container: ignored, though it says 0), `reboot`, `unknown_mode`,
        `permission`, or `error` for any other.
    line
        The line that says so.

    """

    kind: RefusalKind
    line: str


def parse_conf(text: str) -> NvpmodelConf:
    """
    Parse an nvpmodel.conf.

    Raises
    ------
    PowerFormatError
        A line has a form that the file cannot have, or there is no power mode.

    """
    draft = _Draft()
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition('#')[0].strip()
        if line:
            draft.take_line(line, number)
    return draft.finished('nvpmodel.conf')


def parse_modes_verbose(text: str) -> NvpmodelConf:
    """
    Parse the output of `nvpmodel -p --verbose`, which is the conf file as it was understood.

    Lines before the first section are left out, others that are not understood are kept.

    Raises
    ------
    PowerFormatError
        It has no power mode, or the header of one has no id or no name.

    """
    draft = _Draft()
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_prefix(raw)
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


def parse_query(text: str) -> CurrentMode:
    """
    Parse the output of `nvpmodel -q`, with or without --verbose, stdout and stderr together.

    Raises
    ------
    PowerFormatError
        It does not say a mode: none was ever set, or it is not that output.

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


def parse_verbose_values(text: str) -> tuple[VerboseValue, ...]:
    """Return the settings in `nvpmodel -q --verbose`; none where it prints none."""
    values: list[VerboseValue] = []
    path_before: tuple[str, str] | None = None
    for line in map(_without_prefix, text.splitlines()):
        match = _VERBOSE.fullmatch(line)
        old_value = _OLD_VALUE.fullmatch(line)
        if match is not None:
            names = (match['parameter'], match['argument'], match['path'])
            values.append(VerboseValue(*names, _value(match['real']), _value(match['conf'])))
        elif old_value is not None and path_before is not None:
            path, conf = path_before
            values.append(VerboseValue('', '', path, _value(old_value[1]), _value(conf)))
        old_path = _OLD_PATH.fullmatch(line)
        path_before = (old_path[1], old_path[2]) if old_path is not None else None
    return tuple(values)


def parse_status_file(text: str) -> int:
    """
    Parse /var/lib/nvpmodel/status: the id of the mode, which anyone may read.

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
            f'{text[:_LONGEST_EXCERPT]!r}; set a mode to have it written anew'
        )
    return int(match[1])


def find_refusal(text: str) -> Refusal | None:
    """
    Find out why nvpmodel refused, from its output (stdout and stderr, and sudo's).

    Of several lines the weightiest is returned. None is no proof that it was done.

    """
    lines = [line.strip() for line in text.splitlines()]
    for kind, pattern in _REFUSALS:
        for line in lines:
            if pattern.search(line):
                return Refusal(kind, line)
    return None


@dataclasses.dataclass
class _Draft:
    """A NvpmodelConf while its lines are read, with what the section it is in fills."""

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
        """Return the whole."""
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
        """Read a line of the file: a header, or a line of the section it is in."""
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
        """Begin a section; lines that follow belong to it."""
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
        """`ARG path`, or `ARG folder file` for HWMON."""
        words = line.split()
        if not 2 <= len(words) <= 3:
            raise _unexpected(number, '"ARGUMENT path"', line)
        self.paths[words[0]] = words[1]
        if len(words) == 3:
            self.hwmon_files[words[0]] = words[2]

    def take_setting(self, line: str, number: int) -> None:
        """`PARAM ARG VAL`."""
        words = line.split(None, 2)
        if len(words) != 3:
            raise _unexpected(number, '"PARAMETER ARGUMENT value"', line)
        self.settings[words[0], words[1]] = _value(words[2])


def _attributes(text: str) -> dict[str, str]:
    """Parse `KEY=VALUE KEY=VALUE`; a value goes on to the next key."""
    _, *parts = _KEY.split(text)
    return {key: value.strip() for key, value in zip(parts[::2], parts[1::2], strict=True)}


def _needed(
    attributes: Mapping[str, str], keys: Iterable[str], section: str, number: int
) -> list[str]:
    """Return these attributes of a header; raise where one is absent or empty."""
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


def _value(text: str) -> Value:
    """Return the number that the text is, UNLIMITED for what is printed for it, else the text."""
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    if not _INTEGER.fullmatch(text):
        return text
    number = int(text)
    return UNLIMITED if number in _PRINTED_UNLIMITED else number


def _without_prefix(line: str) -> str:
    """Return the line without `NVPM VERB:`."""
    return line.strip().removeprefix('NVPM VERB:').strip()


def _id_after(lines: Iterable[str], mode_line: str) -> int:
    """Return the id: the next line, or behind lines of stderr that got between."""
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
    """Return the fan profile that `nvpmodel -q` names."""
    for line in lines:
        match = _FAN_LINE.search(line)
        if match is not None:
            return match[1]
    return None


_SECTIONS = ('PARAM', 'POWER_MODEL', 'PM_CONFIG', 'FAN_CONFIG')
_HEADER = re.compile(r'<\s*(?P<section>\w+)\b(?P<rest>.*)>', re.ASCII)
_KEY = re.compile(r'\b(\w{1,64})\s*=', re.ASCII)
_INTEGER = re.compile(r'-?\d{1,20}', re.ASCII)
_HEXADECIMAL = re.compile(r'0[xX][0-9a-fA-F]{1,16}')
_CORE = re.compile(r'CORE_(\d{1,4})', re.ASCII)
_PRINTED_ID = re.compile(r'^(?:.*\()?(\d{1,9})\)?$', re.ASCII)
_PRINTED_SECTION = re.compile(rf'(?P<section>{"|".join(_SECTIONS)}):?\s+(?P<rest>\w+=.*)')
_PRINTED_SETTING = re.compile(r'\w+\s+\w+\s+[^\s:]+', re.ASCII)
_PRINTED_PATH = re.compile(r'\w+\s+/\S+(?:\s+\S+)?', re.ASCII)
_MODE_LINE = re.compile(r'NV Power Mode:\s*(\S.*)')
_FAN_LINE = re.compile(r'NV Fan Mode:\s*(\S.*)')
_ID_LINE = re.compile(r'\d{1,9}', re.ASCII)
_PROBLEM = re.compile(r'\bNVPM (?:WARN|ERROR)\b')
_VERBOSE = re.compile(
    r'PARAM (?P<parameter>\S+): ARG (?P<argument>\S+): PATH (?P<path>\S+): '
    r'REAL_VAL: (?P<real>.*?) CONF_VAL: ?(?P<conf>.*)'
)
_OLD_PATH = re.compile(r'(/\S+) (\S+)')
_OLD_VALUE = re.compile(r'value = (.*)')
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
