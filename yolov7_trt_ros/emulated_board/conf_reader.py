"""
How the emulated nvpmodel reads its nvpmodel.conf.

Deliberately not the parser of `power/`, which is tested against this tool.

"""

from __future__ import annotations

from pathlib import Path
import posixpath
from typing import NamedTuple

from yolov7_trt_ros.power.sysfs import whole_number

NEXT_KERNEL = '_KNEXT'
"""Suffix of an argument whose file newer kernels have; modes use its name without it."""


class ConfArgument(NamedTuple):
    """One argument of a parameter: its file, as in the conf."""

    kind: str
    param: str
    argument: str
    path: str

    @property
    def file(self) -> str:
        """Return the file below the root; a HWMON argument has folder and file separately."""
        path = self.path.replace(' ', '/') if self.kind == 'HWMON' else self.path
        return posixpath.normpath(f'/{path}').lstrip('/')


class ConfMode(NamedTuple):
    """One mode of the file; settings are (parameter, argument, value)."""

    mode_id: int
    name: str
    settings: list[tuple[str, str, str]]

    def value(self, argument: str, param: str = '') -> str | None:
        """Return the value of an argument, of any parameter whose name begins with this."""
        return next((value for name, found, value in self.settings
                     if found == argument and name.startswith(param)), None)


class Conf(NamedTuple):
    """The content of nvpmodel.conf."""

    arguments: dict[tuple[str, str], ConfArgument]
    modes: list[ConfMode]
    default: int
    fan: str | None

    def mode(self, mode_id: int) -> ConfMode | None:
        """Return the mode with that id."""
        return next((mode for mode in self.modes if mode.mode_id == mode_id), None)

    def find_argument(self, root: Path, param: str, argument: str) -> ConfArgument | None:
        """Return the file of an argument: that of newer kernels if it exists."""
        known = self.candidates(param, argument)
        return next((item for item in known if (root / item.file).exists()),
                    known[-1] if known else None)

    def candidates(self, param: str, argument: str) -> list[ConfArgument]:
        """Return the possible files of an argument, that of newer kernels first."""
        keys = ((param, argument + NEXT_KERNEL), (param, argument))
        return [self.arguments[key] for key in keys if key in self.arguments]


def read_conf(text: str) -> Conf:
    """Read nvpmodel.conf; unknown text is ignored."""
    conf = Conf({}, [], 0, None)
    section, kind, param = '', '', ''
    for raw in text.splitlines():
        line = raw.partition('#')[0].strip()
        if line.startswith('<'):
            section, *fields = line.strip('<> ').split() or ['']
            keys = dict(field.partition('=')[::2] for field in fields)
            kind, param = keys.get('TYPE', ''), keys.get('NAME', '')
            if section == 'POWER_MODEL':
                conf.modes.append(ConfMode(_whole(keys.get('ID')), param, []))
            elif section == 'PM_CONFIG':
                conf = conf._replace(default=_whole(keys.get('DEFAULT')))
            elif section == 'FAN_CONFIG':
                conf = conf._replace(fan=keys.get('DEFAULT'))
        elif line and section == 'PARAM':
            name, *path = line.split()
            conf.arguments[param, name] = ConfArgument(kind, param, name, ' '.join(path))
        elif section == 'POWER_MODEL' and len(words := line.split(None, 2)) == 3:
            conf.modes[-1].settings.append((words[0], words[1], words[2]))
    return conf


def _whole(text: str | None) -> int:
    number = None if text is None else whole_number(text)
    return -1 if number is None else number
