"""
How the emulated nvpmodel reads its nvpmodel.conf.

On purpose not the parser of `power/`, which is tested against this tool.

"""

from __future__ import annotations

from typing import NamedTuple


class ConfArgument(NamedTuple):
    """One argument of a parameter: the file it is written to."""

    kind: str
    param: str
    argument: str
    path: str


class ConfMode(NamedTuple):
    """One mode of the file; settings are (parameter, argument, value)."""

    mode_id: int
    name: str
    settings: list[tuple[str, str, str]]


class Conf(NamedTuple):
    """What nvpmodel.conf says."""

    arguments: dict[tuple[str, str], ConfArgument]
    modes: list[ConfMode]
    default: int
    fan: str | None

    def mode(self, mode_id: int) -> ConfMode | None:
        """Return the mode with that id."""
        return next((mode for mode in self.modes if mode.mode_id == mode_id), None)


def read_conf(text: str) -> Conf:
    """Read nvpmodel.conf; text that it does not know is passed over."""
    conf = Conf({}, [], 0, None)
    section, kind, param = '', '', ''
    for raw in text.splitlines():
        line = raw.partition('#')[0].strip()
        if line.startswith('<'):
            section, *fields = line.strip('<> ').split()
            keys = dict(field.partition('=')[::2] for field in fields)
            kind, param = keys.get('TYPE', ''), keys.get('NAME', '')
            if section == 'POWER_MODEL':
                conf.modes.append(ConfMode(int(keys['ID']), keys['NAME'], []))
            elif section == 'PM_CONFIG':
                conf = conf._replace(default=int(keys['DEFAULT']))
            elif section == 'FAN_CONFIG':
                conf = conf._replace(fan=keys['DEFAULT'])
        elif line and section == 'PARAM':
            name, _, path = line.partition(' ')
            conf.arguments[param, name] = ConfArgument(kind, param, name, path.strip())
        elif line and section == 'POWER_MODEL':
            first, second, value = line.split()
            conf.modes[-1].settings.append((first, second, value))
    return conf
