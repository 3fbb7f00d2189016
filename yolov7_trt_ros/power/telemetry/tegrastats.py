"""
Parse a line of tegrastats, from the Jetson TX1 (L4T R24) to Thor (R39.2).

The line has no fixed order and grows with each release, so it is read token by token; unknown text
is kept. Known forms, of which one of the first two is required:

    RAM 4412/7772MB (lfb 237x4MB)  SWAP 5/1982MB (cached 1MB)  IRAM 0/252kB(lfb 252kB)
    CPU [9%@1190,off]  cpu [17%,13%]@408
    04-19-2026 01:31:10                                      local time, since R35
    EMC_FREQ 0%@2133  GR3D_FREQ 12%@[1300,1300]  GR3D_FREQ @[314,314]  VIC off  APE 150
    MTS fg 0% bg 10%
    CPU@43.5C  CV0@-256C  tj@66.625C/70.1C                   -256: the block is switched off
    VDD_IN 4067/4067  VDD_IN 4541mW/4600mW  VIN 124486mW/36487mW/130000mW
                                                             now, mean since its start, largest

"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import datetime
import re

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.tegrastats_values import MemoryUse, TegrastatsSample, UnitUse

GATED_BELOW_C = -200.0
"""tegrastats prints -256 for the sensor of a block without power."""

_TO_MIB = {'K': 1 / 1024, 'M': 1.0, 'G': 1024.0}
_TO_MW = {'': 1.0, 'mW': 1.0, 'W': 1000.0}
_UNCONNECTED_RAIL = 'NC'
_LONGEST_EXCERPT = 80


def parse_line(text: str) -> TegrastatsSample:
    """
    Parse one line.

    Raises
    ------
    PowerFormatError
        It has neither `RAM used/total` nor `CPU [...]`, so it is no line of tegrastats.

    """
    draft = _Draft()
    position, was_unknown = 0, False
    while (word := _WORD.search(text, position)) is not None:
        end = _take_token(draft, text, word.start())
        if end is None:
            end = word.end()
            draft.add_unknown(word.group(), joined=was_unknown)
            was_unknown = True
        else:
            was_unknown = False
        position = end
    if draft.memories.get('RAM') is None and not draft.cpus:
        raise PowerFormatError(
            'expected a line of tegrastats with "RAM used/total" or "CPU [...]", found '
            f'{text[:_LONGEST_EXCERPT]!r}; run tegrastats by hand to see its output'
        )
    return draft.finished()


@dataclasses.dataclass
class _Draft:
    """A sample while its line is read. A take_ method returns False for an unsuitable token."""

    time: datetime.datetime | None = None
    memories: dict[str, MemoryUse] = dataclasses.field(default_factory=dict)
    cpus: tuple[UnitUse, ...] = ()
    units: dict[str, UnitUse] = dataclasses.field(default_factory=dict)
    mts_percent: tuple[float, float] | None = None
    temperatures_c: dict[str, float | None] = dataclasses.field(default_factory=dict)
    max_temperatures_c: dict[str, float | None] = dataclasses.field(default_factory=dict)
    rails: dict[str, RailPower] = dataclasses.field(default_factory=dict)
    unknown: list[str] = dataclasses.field(default_factory=list)

    def finished(self) -> TegrastatsSample:
        """Return the sample."""
        engines = dict(self.units)
        return TegrastatsSample(
            time=self.time,
            ram=self.memories.get('RAM'),
            swap=self.memories.get('SWAP'),
            iram=self.memories.get('IRAM'),
            cpus=self.cpus,
            emc=engines.pop('EMC', None),
            gpu=engines.pop('GR3D', None),
            engines=engines,
            mts_percent=self.mts_percent,
            temperatures_c=self.temperatures_c,
            max_temperatures_c=self.max_temperatures_c,
            rails=self.rails,
            unknown=tuple(self.unknown),
        )

    def add_unknown(self, word: str, *, joined: bool) -> None:
        """Keep a word, joined to the previous one if that was unknown too."""
        if joined:
            word = f'{self.unknown.pop()} {word}'
        self.unknown.append(word)

    def take_time(self, match: re.Match[str]) -> bool:
        """`MM-DD-YYYY HH:MM:SS`."""
        month, day, year, hour, minute, second = (int(part) for part in match.groups())
        try:
            self.time = datetime.datetime(year, month, day, hour, minute, second)
        except ValueError:
            return False
        return True

    def take_memory(self, match: re.Match[str]) -> bool:
        """`RAM u/tMB (lfb NxSMB)`, `SWAP u/tMB (cached nMB)`, `IRAM u/tkB(lfb nkB)`."""
        name = match['name']
        if name in self.memories:
            return False
        scale = _TO_MIB[match['unit'].upper()]
        self.memories[name] = MemoryUse(
            float(match['used']) * scale,
            float(match['total']) * scale,
            _mib(match['free'], match['free_unit']),
            int(match['count']) if match['count'] else None,
            _mib(match['cached'], match['cached_unit']),
        )
        return True

    def take_cpus(self, match: re.Match[str]) -> bool:
        """`CPU [l%@f,off]` or `CPU [l%,off]@f`."""
        words = [word.strip() for word in match['cores'].split(',')]
        uses = [_parse_use(word) for word in words]
        if self.cpus or not any(uses):
            return False
        shared = (float(match['mhz']),) if match['mhz'] else ()
        self.cpus = tuple(
            dataclasses.replace(use, clocks_mhz=use.clocks_mhz or shared) if use.on else use
            for use in (use or UnitUse() for use in uses)
        )
        self.unknown += [
            word for word, use in zip(words, uses, strict=True) if use is None
        ]
        return True

    def take_mts(self, match: re.Match[str]) -> bool:
        """`MTS fg x% bg y%`."""
        self.mts_percent = (float(match[1]), float(match[2]))
        return True

    def take_temperature(self, match: re.Match[str]) -> bool:
        """`name@nowC` or `name@nowC/maxC`."""
        name = match['name']
        if name in self.temperatures_c:
            return False
        self.temperatures_c[name] = _ungated(match['now'])
        if match['max']:
            self.max_temperatures_c[name] = _ungated(match['max'])
        return True

    def take_rail(self, match: re.Match[str]) -> bool:
        """`NAME now/average`, with or without mW, and with a largest value since R39.2."""
        name, unit = match['name'], match['unit']
        if name == _UNCONNECTED_RAIL:
            return True
        if name in self.rails or not (unit or match['average']):
            return False
        scale = _TO_MW[unit]
        average, largest = (
            float(text) * scale if text else None for text in match.group('average', 'max')
        )
        self.rails[name] = RailPower(float(match['now']) * scale, average, largest)
        return True

    def take_unit(self, match: re.Match[str]) -> bool:
        """`NAME off`, `NAME l%`, `NAME l%@f`, `NAME @[f,f]`, `NAME f` (capitals only)."""
        name, value = match['name'].removesuffix('_FREQ'), match['value']
        use = _parse_use(value)
        if use is None and name.isupper() and _NUMBER_ONLY.fullmatch(value):
            use = UnitUse(clocks_mhz=(float(value),))
        if use is None or name in self.units:
            return False
        self.units[name] = use
        return True


def _take_token(draft: _Draft, text: str, start: int) -> int | None:
    """Take the first kind of token that matches at `start`; returns its end."""
    for pattern, take in _TOKENS:
        match = pattern.match(text, start)
        if match is not None and take(draft, match):
            return match.end()
    return None


def _parse_use(text: str) -> UnitUse | None:
    """Parse `off`, `l%`, `l%@f`, `l%@[f,f]`, `@f` or `@[f,f]`; None for anything else."""
    if text == 'off':
        return UnitUse(on=False)
    match = _USE.fullmatch(text)
    if match is None or not text:
        return None
    load, clocks = match['load'], match['clocks'] or match['clock'] or ''
    return UnitUse(
        load_percent=float(load) if load else None,
        clocks_mhz=tuple(float(clock) for clock in _CLOCK.findall(clocks)),
    )


def _mib(size: str | None, unit: str | None) -> float | None:
    """Convert a size with its k, M or G to MiB."""
    return float(size) * _TO_MIB[unit.upper()] if size and unit else None


def _ungated(text: str) -> float | None:
    """Return the temperature, None for that of a block without power."""
    celsius = float(text)
    return celsius if celsius > GATED_BELOW_C else None


# Limited, so that no number of a damaged line is too long for int and float.
_N = r'\d{1,15}(?:\.\d{1,9})?'
_END = r'(?=\s|$)'
_WORD = re.compile(r'\S+')
_CLOCK = re.compile(_N, re.ASCII)
_NUMBER_ONLY = re.compile(_N, re.ASCII)
_USE = re.compile(
    rf'(?:(?P<load>{_N})%)?'
    rf'(?:@(?:(?P<clock>{_N})|\[(?P<clocks>(?:{_N}|off)(?:,\s*(?:{_N}|off))*)\]))?',
    re.ASCII,
)

_TOKENS: tuple[tuple[re.Pattern[str], Callable[[_Draft, re.Match[str]], bool]], ...] = tuple(
    (re.compile(pattern + _END, re.ASCII), take) for pattern, take in (
        (r'(\d\d)-(\d\d)-(\d{4})\s+(\d\d):(\d\d):(\d\d)', _Draft.take_time),
        (
            rf'(?P<name>RAM|SWAP|IRAM)\s+(?P<used>{_N})/(?P<total>{_N})(?P<unit>[kKMG])[Bb]'
            rf'(?:\s*\((?:lfb\s+(?:(?P<count>\d{{1,15}})x)?(?P<free>{_N})(?P<free_unit>[kKMG])[Bb]'
            rf'|cached\s+(?P<cached>{_N})(?P<cached_unit>[kKMG])[Bb])\))?',
            _Draft.take_memory,
        ),
        (rf'(?:CPU|cpu)\s+\[(?P<cores>[^\[\]]*)\](?:@(?P<mhz>{_N}))?', _Draft.take_cpus),
        (rf'MTS\s+fg\s+({_N})%\s+bg\s+({_N})%', _Draft.take_mts),
        (
            rf'(?P<name>[A-Za-z][\w.+-]*)@(?P<now>-?{_N})C(?:/(?P<max>-?{_N})C)?',
            _Draft.take_temperature,
        ),
        (
            rf'(?P<name>[A-Za-z][\w.+-]*)\s+(?P<now>-?{_N})(?P<unit>mW|W|)'
            rf'(?:/(?P<average>-?{_N})(?P=unit)(?:/(?P<max>-?{_N})(?P=unit))?)?',
            _Draft.take_rail,
        ),
        (r'(?P<name>[A-Za-z]\w*)\s+(?P<value>[^\s\[]*\[[^\[\]]*\]|\S+)', _Draft.take_unit),
    )
)
