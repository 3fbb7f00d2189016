"""
Check whether the files of the board match a power mode.

It compares the cores and the limits of CPU and GPU, which any user may read, and the caps of other
clocks if they can be read. A mode without a cap means the top of the clock's table. Masks are not
compared: one board was seen whose mask differs from that of its mode.

"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
import dataclasses
import os
from typing import Literal

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.clocks.clock_files import ClockFiles, ClockLimits
from yolov7_trt_ros.power.nvpmodel.values import NvpmodelConf, PowerMode
from yolov7_trt_ros.power.sysfs import SysfsTree, whole_number

DeviationKind = Literal['core', 'above', 'below', 'minimum', 'unread']

_LOWEST_CAP = 1  # 0 and -1 mean no cap
_ROUNDED = 1.01  # tolerance for a cap of the memory or another unit, whose table cannot be read
_COOLING = '/sys/class/thermal/cooling_device[0-9]*'


@dataclasses.dataclass(frozen=True)
class Deviation:
    """
    A file that does not match the mode.

    Attributes
    ----------
    path, text
        The file, and a text with its actual and expected value.
    kind
        `core`: a core wrongly on or off. `above`: a maximum above the mode's. `below`: a maximum
        lowered by a cap or heat. `minimum`: a clock held up. `unread`: a file that any user may
        read, and that cannot be read.

    """

    path: str
    text: str
    kind: DeviationKind

    @property
    def is_definite(self) -> bool:
        """Whether heat cannot explain it."""
        return self.kind in ('core', 'above', 'unread')


class ModeCheck:
    """
    Compares the board with its power modes.

    Parameters
    ----------
    tree
        Files of the board.
    conf
        Returns the modes.

    """

    def __init__(self, tree: SysfsTree, conf: Callable[[], NvpmodelConf]) -> None:
        self._tree = tree
        self._conf = conf

    def deviations(self, mode: PowerMode, own: Collection[str] = ()) -> tuple[Deviation, ...]:
        """
        Return each file that does not match the mode; files for root only may be left out.

        Parameters
        ----------
        mode
            The mode.
        own
            Files of limits set by this program, which do not show the mode.

        """
        left_out = {self._real(path) for path in own}
        return tuple(
            found for found in self._compare(mode) if self._real(found.path) not in left_out
        )

    def can_show(self, mode: PowerMode) -> bool:
        """Whether the board has a CPU or GPU file of the mode, or the mode needs none."""
        names = [key for key in mode.settings if key[0].startswith(('CPU', 'GPU'))]
        return not names or any(self.path_of(*key) is not None for key in names)

    def limits(self, mode: PowerMode, clock: ClockFiles) -> ClockLimits | None:
        """
        Return the limits of a clock in the mode; None if it sets none.

        If the kernel may have rounded up or down, the current value counts, else the lower one.
        """
        maximum = self._expected_value(mode, clock.maximum, 'MAX_FREQ')
        if maximum is None:
            return None
        minimum = self._expected_value(mode, clock.minimum, 'MIN_FREQ')
        if minimum is None:
            minimum = min(self._read_table(clock.maximum), default=0)
        return ClockLimits(min(minimum, maximum) * clock.unit_hz, maximum * clock.unit_hz)

    def _compare(self, mode: PowerMode) -> Iterator[Deviation]:
        for (name, argument), wanted in mode.settings.items():
            if not isinstance(wanted, int):
                continue
            path = self.path_of(name, argument)
            if path is None:
                continue
            real = self._read_int(path)
            if real is None:
                if name.startswith(('CPU', 'GPU')):
                    yield Deviation(path, f'{path} cannot be read, expected {wanted}', 'unread')
                continue
            kind = self._judge(name, argument, path, wanted, real)
            if kind is not None:
                text = 'no cap' if wanted < _LOWEST_CAP and argument == 'MAX_FREQ' else wanted
                yield Deviation(path, f'{path} is {real}, expected {text}', kind)

    def _judge(
        self, name: str, argument: str, path: str, wanted: int, real: int
    ) -> DeviationKind | None:
        if name == 'CPU_ONLINE':
            return None if real == wanted else 'core'
        if not name.startswith(('CPU', 'GPU')):
            is_cap = argument == 'MAX_FREQ' and wanted >= _LOWEST_CAP
            return 'above' if is_cap and real > wanted * _ROUNDED else None
        if argument == 'MIN_FREQ':
            return 'minimum' if real > self._around(path, max(wanted, 0))[1] else None
        around = self._cap_range(path, wanted) if argument == 'MAX_FREQ' else None
        if around is None or around[0] <= real <= around[1]:
            return None
        return 'above' if real > around[1] else 'below'

    def path_of(self, name: str, argument: str) -> str | None:
        """Return the file of a setting; None if the conf or the board has none."""
        parameter = self._conf().find_parameter(name)
        paths = () if parameter is None else parameter.candidates(argument)
        return next((path for path in paths if self._tree.exists(path)), None)

    def _expected_value(self, mode: PowerMode, path: str, argument: str) -> int | None:
        """Return the value of this limit in the mode, as the kernel rounds it."""
        for (name, found), wanted in mode.settings.items():
            if found != argument or not isinstance(wanted, int):
                continue
            own = self.path_of(name, found)
            if own is None or self._real(own) != self._real(path):
                continue
            around = (
                self._cap_range(own, wanted) if argument == 'MAX_FREQ'
                else self._around(own, max(wanted, 0))
            )
            now = self._read_int(own)
            if around is None or now is None:
                return None
            return now if around[0] <= now <= around[1] else around[0]
        return None

    def _cap_range(self, path: str, cap: int) -> tuple[int, int] | None:
        """Return the range of a maximum; None if no table gives its top."""
        if cap >= _LOWEST_CAP:
            return self._around(path, cap)
        folder = path.rpartition('/')[0]
        top = max(self._read_table(path), default=None)
        if top is None and path.endswith('scaling_max_freq'):
            top = self._read_int(f'{folder}/cpuinfo_max_freq')
        return None if top is None else (top, top)

    def _around(self, path: str, cap: int) -> tuple[int, int]:
        """Return the two entries of the clock's table between which a value lies."""
        table = self._read_table(path)
        below = [entry for entry in table if entry <= cap]
        above = [entry for entry in table if entry >= cap]
        # A value above the table is the table's highest; one below it the lowest.
        return (
            max(below, default=min(above, default=cap)),
            min(above, default=max(below, default=cap)),
        )

    def _read_table(self, path: str) -> tuple[int, ...]:
        folder, _, name = path.rpartition('/')
        table = name.replace('max_freq', 'available_frequencies')
        table = table.replace('min_freq', 'available_frequencies')
        words = self._tree.read_or_empty(f'{folder}/{table}').split()
        return tuple(entry for word in words if (entry := whole_number(word)) is not None)

    def _read_int(self, path: str) -> int | None:
        try:
            return self._tree.read_int(path)
        except PowerError:
            return None

    def _real(self, path: str) -> str:
        return os.path.realpath(self._tree.real_path(path))


def find_heat(tree: SysfsTree) -> str:
    """Return the cooling device (other than fans) that slows the board now; '' for none."""
    for folder in tree.find(_COOLING):
        kind = tree.read_or_empty(f'{folder}/type')
        state = tree.read_or_empty(f'{folder}/cur_state')
        if kind and 'fan' not in kind.lower() and whole_number(state):
            return f'{kind} is at {state}'
    return ''
