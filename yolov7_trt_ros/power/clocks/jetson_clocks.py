"""
Parse what `jetson_clocks --show` prints and what `jetson_clocks --store` writes.

Pure text in, frozen values out. The lines of --show differ between releases; a line that is not
understood is kept word for word.

"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.clocks.jetson_clocks_values import (
    ClockRange,
    ClocksShow,
    CpuClock,
    FanState,
    Refusal,
    RefusalKind,
)

_LONGEST_EXCERPT = 80
_LARGEST_CORE = 4096
_COLOUR = re.compile(r'\x1b\[[0-9;]*m')
_INT = re.compile(r'-?\d{1,19}', re.ASCII)
_CORE_RANGE = re.compile(r'(\d{1,4})(?:-(\d{1,4}))?', re.ASCII)
_CPU_NUMBERS = ('Online', 'MinFreq', 'MaxFreq', 'CurrentFreq')
_CLOCK_NUMBERS = (*_CPU_NUMBERS, 'FreqOverride')
_NAMES = (
    re.compile(r'SOC family:\s*(?P<soc_family>\S*)\s+Machine:\s*(?P<machine>.*)'),
    re.compile(r'CPU Cluster Switching:\s*(?P<cluster_switching>.*)'),
    re.compile(r'NV Power Mode:\s*(?P<power_mode>.*)'),
)
_CORES = re.compile(r'Online CPUs:(?P<online>[^A-Za-z]*)(?:Offline CPUs:(?P<offline>.*))?')
_CPU = re.compile(r'cpu(?P<core>\d{1,4}):?\s+(?P<values>.*)', re.ASCII)
_FAN = re.compile(
    r'(?:Fan:|FAN(?:\s+Dynamic\s+Speed)?:?)\s*(?P<values>.*)', re.ASCII | re.IGNORECASE
)
_TPCS = re.compile(r'Active GPU TPCs:\s*(\d{1,4})', re.ASCII)
_UNIT = re.compile(r'(?P<name>[A-Za-z][\w.-]*):?\s+(?P<values>.*)', re.ASCII)
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


def parse_show(text: str) -> ClocksShow:
    """
    Parse the output of `jetson_clocks --show`.

    Raises
    ------
    PowerFormatError
        There is no line of a core or of a clock (without root only the first line is printed).

    """
    draft = _Draft()
    for line in text.splitlines():
        if line.strip():
            draft.take_line(line.strip())
    if not draft.cpus and not draft.clocks:
        raise PowerFormatError(
            'expected lines such as "cpu0: ... MinFreq=..." and "GPU MinFreq=..." of '
            f'jetson_clocks --show, found {text[:_LONGEST_EXCERPT]!r}; it needs root: '
            'sudo jetson_clocks --show'
        )
    return draft.finished()


def parse_store(text: str) -> dict[str, str]:
    """
    Parse a file of `jetson_clocks --store`: lines `path:value`.

    Returns
    -------
    Value of each path, in the order of the file.

    Raises
    ------
    PowerFormatError
        A line has another form, or there is none.

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


def find_refusal(text: str) -> Refusal | None:
    """Find the line with which jetson_clocks (or sudo) says that it did nothing, if any."""
    for line in map(str.strip, _COLOUR.sub('', text).splitlines()):
        for kind, pattern in _REFUSALS:
            if pattern.search(line):
                return Refusal(kind, line)
    return None


@dataclasses.dataclass
class _Draft:
    """A ClocksShow while its lines are read."""

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    online_cpus: tuple[int, ...] = ()
    offline_cpus: tuple[int, ...] = ()
    cpus: dict[int, CpuClock] = dataclasses.field(default_factory=dict)
    clocks: dict[str, ClockRange] = dataclasses.field(default_factory=dict)
    active_gpu_tpcs: int | None = None
    fan: FanState | None = None
    unknown: list[str] = dataclasses.field(default_factory=list)

    def take_line(self, line: str) -> None:
        """Give the line to the first who understands it."""
        takers = (self._take_name, self._take_cores, self._take_cpu, self._take_fan,
                  self._take_tpcs, self._take_clock)
        if not any(take(line) for take in takers):
            self.unknown.append(line)

    def finished(self) -> ClocksShow:
        """Return the whole."""
        return ClocksShow(
            soc_family=self.names.get('soc_family', ''),
            machine=self.names.get('machine', ''),
            online_cpus=self.online_cpus,
            offline_cpus=self.offline_cpus,
            cluster_switching=self.names.get('cluster_switching', ''),
            cpus=tuple(self.cpus.values()),
            clocks=self.clocks,
            active_gpu_tpcs=self.active_gpu_tpcs,
            fan=self.fan,
            power_mode=self.names.get('power_mode', ''),
            unknown=tuple(self.unknown),
        )

    def _take_name(self, line: str) -> bool:
        for pattern in _NAMES:
            match = pattern.fullmatch(line)
            if match is not None:
                self.names.update(match.groupdict())
                return True
        return False

    def _take_cores(self, line: str) -> bool:
        match = _CORES.fullmatch(line)
        if match is None:
            return False
        online, offline = _core_numbers(match['online']), _core_numbers(match['offline'] or '')
        if online is None or offline is None:
            return False
        self.online_cpus, self.offline_cpus = online, offline
        return True

    def _take_cpu(self, line: str) -> bool:
        match = _CPU.fullmatch(line)
        if match is None:
            return False
        words, _, idle_words = match['values'].partition('IdleStates:')
        values, idle_states = _key_values(words), _key_values(idle_words)
        if values is None or idle_states is None or not _are_numbers(values, _CPU_NUMBERS):
            return False
        core, online = int(match['core']), _flag(values, 'Online')
        self.cpus[core] = CpuClock(
            core,
            core in self.online_cpus or not self.online_cpus if online is None else online,
            values.get('Governor', values.get('Gonvernor', '')),  # R28 spells it so
            _number(values, 'MinFreq'), _number(values, 'MaxFreq'),
            _number(values, 'CurrentFreq'),
            {name: value != '0' for name, value in idle_states.items()},
        )
        self._keep_unknown(f'cpu{core}', values, (*_CPU_NUMBERS, 'Governor', 'Gonvernor'))
        return True

    def _take_fan(self, line: str) -> bool:
        match = _FAN.fullmatch(line)
        values = _key_values(match['values']) if match is not None else None
        if not values:
            return False
        known = self.fan or FanState()
        numbers = {key: int(value) for key, value in values.items() if _INT.fullmatch(value)}
        control = values.get('Control', values.get('control', known.control))
        self.fan = FanState(control, {**known.values, **numbers})
        words = {key: value for key, value in values.items() if value and key not in numbers}
        self._keep_unknown('fan', words, ('Control', 'control'))
        return True

    def _take_tpcs(self, line: str) -> bool:
        match = _TPCS.fullmatch(line)
        if match is None:
            return False
        self.active_gpu_tpcs = int(match[1])
        return True

    def _take_clock(self, line: str) -> bool:
        match = _UNIT.fullmatch(line)
        values = _key_values(match['values']) if match is not None else None
        if match is None or values is None or not _are_numbers(values, _CLOCK_NUMBERS):
            return False
        self.clocks[match['name']] = ClockRange(
            _number(values, 'MinFreq'), _number(values, 'MaxFreq'), _number(values, 'CurrentFreq'),
            _flag(values, 'FreqOverride'), _flag(values, 'Online'),
        )
        self._keep_unknown(match['name'], values, _CLOCK_NUMBERS)
        return True

    def _keep_unknown(
        self, name: str, values: Mapping[str, str], known: tuple[str, ...]
    ) -> None:
        self.unknown += [
            f'{name}: {key}={value}' for key, value in values.items() if key not in known
        ]


def _key_values(text: str) -> dict[str, str] | None:
    """Parse `key=value key=value`; None where there is a word of another form."""
    pairs = [word.partition('=') for word in text.split()]
    if not all(key and sign for key, sign, _ in pairs):
        return None
    return {key: value for key, _, value in pairs}


def _are_numbers(values: Mapping[str, str], keys: tuple[str, ...]) -> bool:
    """Whether one of these keys is there, and every one that is there holds a number."""
    found = [values[key] for key in keys if key in values]
    return bool(found) and all(not value or _INT.fullmatch(value) for value in found)


def _number(values: Mapping[str, str], key: str) -> int | None:
    """Return the value as a number; None where it is absent or empty."""
    return int(values[key]) if values.get(key) else None


def _flag(values: Mapping[str, str], key: str) -> bool | None:
    """Return the value as yes or no; None where it is absent or empty."""
    return values[key] != '0' if values.get(key) else None


def _core_numbers(text: str) -> tuple[int, ...] | None:
    """Parse `0-3,6`; None where it is something else."""
    cores: list[int] = []
    for part in filter(None, re.split(r'[,\s]+', text)):
        match = _CORE_RANGE.fullmatch(part)
        if match is None or int(match[2] or match[1]) > _LARGEST_CORE:
            return None
        cores += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(cores)
