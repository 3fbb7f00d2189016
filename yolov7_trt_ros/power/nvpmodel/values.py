"""Power modes and settings from nvpmodel's files and answers, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re

UNLIMITED = -1
"""Value of a MAX_FREQ without a cap; the tool itself prints INT_MAX or LLONG_MAX for it."""

Value = int | str
"""A setting: an integer if it is one, else a word (`on`, `auto`)."""

_PRINTED_UNLIMITED = (2**31 - 1, 2**63 - 1)
_NEXT_KERNEL = '_KNEXT'
_CORE = re.compile(r'CORE_(\d{1,4})', re.ASCII)
_INTEGER = re.compile(r'-?\d{1,20}', re.ASCII)
_HEXADECIMAL = re.compile(r'0[xX][0-9a-fA-F]{1,16}')


@dataclasses.dataclass(frozen=True)
class ConfParameter:
    """
    A `< PARAM ... >` section: the files of one parameter.

    Attributes
    ----------
    name
        Such as `CPU_ONLINE`.
    kind
        `FILE`, `CLOCK`, `HWMON`, or a kind of a later release.
    paths
        Argument to file; for HWMON to the folder that contains the file. Arguments that end with
        `_KNEXT` are for newer kernels.
    hwmon_files
        Argument to the name of its file, HWMON only.

    """

    name: str
    kind: str
    paths: Mapping[str, str]
    hwmon_files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def candidates(self, argument: str) -> tuple[str, ...]:
        """Return the possible files of an argument, that of newer kernels first."""
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
        """Power gating masks by argument; a change that alters one needs a reboot."""
        return {
            argument: value for (_, argument), value in self.settings.items()
            if argument.endswith('_MASK') and isinstance(value, int)
        }

    @property
    def tpc_mask(self) -> int | None:
        """Mask of the GPU's TPCs that are without power; None if the board has no such setting."""
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
        # The EMC of R32 and R35 writes 0 for no cap.
        return max(caps) if caps and min(caps) > 0 else None


@dataclasses.dataclass(frozen=True)
class NvpmodelConf:
    """
    The modes of a board.

    Attributes
    ----------
    parameters, modes
        The files of the settings, and the modes in the order of the file.
    default_id
        Mode at first boot; None if the text has none.
    fan_default
        Such as `quiet`; None if the text has none.
    unknown
        Lines that were not understood.

    """

    parameters: tuple[ConfParameter, ...]
    modes: tuple[PowerMode, ...]
    default_id: int | None = None
    fan_default: str | None = None
    unknown: tuple[str, ...] = ()

    def find_mode(self, name_or_id: str | int) -> PowerMode | None:
        """Return the mode with this name or id; an id takes precedence over a name of digits."""
        wanted = str(name_or_id).strip()
        for mode in self.modes:
            if str(mode.mode_id) == wanted:
                return mode
        for mode in self.modes:
            if mode.name.lower() == wanted.lower():
                return mode
        return None

    def find_alike(self, mode: PowerMode, name_or_id: str | int) -> tuple[PowerMode, ...]:
        """Return the modes that cannot be told from this one, found by this name or id."""
        by_id = str(mode.mode_id) == str(name_or_id).strip()
        return tuple(
            one for one in self.modes if one.mode_id == mode.mode_id
            or (not by_id and one.name.lower() == mode.name.lower())
        )

    @property
    def common_masks(self) -> dict[str, int]:
        """Return the masks that are the same in all modes."""
        first, *others = (mode.masks for mode in self.modes)
        return {
            name: mask for name, mask in first.items()
            if all(masks.get(name) == mask for masks in others)
        }

    def find_parameter(self, name: str) -> ConfParameter | None:
        """Return the parameter with this name."""
        return next((found for found in self.parameters if found.name == name), None)


@dataclasses.dataclass(frozen=True)
class CurrentMode:
    """
    The output of `nvpmodel -q`.

    Attributes
    ----------
    name, mode_id
        The mode.
    fan_profile
        Such as `quiet` (R32 and R35); None if it is not printed.
    problems
        The lines with WARN and ERROR. Without root there are always some.
    contradiction
        How the board contradicts nvpmodel; '' if everything that can be read matches.

    """

    name: str
    mode_id: int
    fan_profile: str | None = None
    problems: tuple[str, ...] = ()
    contradiction: str = ''


def parse_value(text: str) -> Value:
    """Return an integer, UNLIMITED for its printed forms, else the text itself."""
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    if not _INTEGER.fullmatch(text):
        return text
    number = int(text)
    return UNLIMITED if number in _PRINTED_UNLIMITED else number


def without_prefix(line: str) -> str:
    """Return a line of nvpmodel without the prefix `NVPM VERB:`."""
    return line.strip().removeprefix('NVPM VERB:').strip()
