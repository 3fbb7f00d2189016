"""
Total power of a board from its rails, by a table of which rail feeds which.

A rail that another one feeds is measured twice and must not be added; a missing rail must not
reduce the total. So the board is identified by the names of its rails, which are remembered, and
the total is that of its inputs, or unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
import math

from yolov7_trt_ros.power.rails import RailPower


@dataclasses.dataclass(frozen=True)
class RailTree:
    """
    The rails of a board.

    Attributes
    ----------
    inputs
        Rails that together carry all the power.
    fed
        Rails that an input feeds.

    """

    inputs: tuple[str, ...]
    fed: tuple[str, ...] = ()

    def count(self, names: Iterable[str]) -> int:
        """Return the number of names that are rails of this board."""
        return len({*self.inputs, *self.fed}.intersection(names))


RAIL_TREES: Mapping[str, RailTree] = {
    'Nano': RailTree(('POM_5V_IN',), ('POM_5V_GPU', 'POM_5V_CPU')),
    'TX1': RailTree(('VDD_IN',), ('VDD_CPU', 'VDD_GPU')),
    'TX2': RailTree(
        ('VDD_IN',),
        ('VDD_SYS_GPU', 'VDD_SYS_SOC', 'VDD_SYS_CPU', 'VDD_SYS_DDR', 'VDD_4V0_WIFI')),
    'Xavier NX, Orin NX, Orin Nano': RailTree(('VDD_IN',), ('VDD_CPU_GPU_CV', 'VDD_SOC')),
    'AGX Xavier': RailTree(('GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V')),
    'AGX Orin': RailTree(
        ('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'), ('VDDQ_VDD2_1V8AO',)),
    'AGX Thor': RailTree(('VIN',), ('VDD_GPU', 'VDD_CPU_SOC_MSS', 'VIN_SYS_5V0')),
}
"""Rails of the recorded boards, by NVIDIA's names."""

_NAMES = {name for tree in RAIL_TREES.values() for name in (*tree.inputs, *tree.fed)}


@dataclasses.dataclass(frozen=True)
class Total:
    """Power of the whole board in mW, or why it is unknown; without rails there is no reason."""

    milliwatt: float | None
    reason: str = ''


class RailTotals:
    """
    Adds up the rails of one board, and remembers their names.

    Parameters
    ----------
    names
        Rails known to exist.

    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(names) & _NAMES

    def total(self, rails: Mapping[str, RailPower]) -> Total:
        """Return the power of the whole board from the rails of one reading."""
        self._names |= rails.keys() & _NAMES
        if not self._names and not rails:
            return Total(None)
        inputs = find_inputs(self._names)
        if inputs is None:
            return Total(None, (
                f'no total power: which of the rails {", ".join(rails)} feeds the others '
                'is not known'
            ))
        missing = [name for name in inputs if name not in rails]
        if missing:
            return Total(None, f'no total power: the rail {", ".join(missing)} is missing')
        milliwatt = sum(rails[name].current_mw for name in inputs)
        if not 0.0 < milliwatt < math.inf:  # no board that runs takes none: a dead sensor
            return Total(None, f'no total power: {" + ".join(inputs)} is {milliwatt:g} mW')
        return Total(milliwatt)


def find_inputs(names: Iterable[str]) -> tuple[str, ...] | None:
    """Return the inputs of the board with these rails; None if none or several match best."""
    known = set(names)
    most = max(tree.count(known) for tree in RAIL_TREES.values())
    found = {tree.inputs for tree in RAIL_TREES.values() if tree.count(known) == most > 0}
    return found.pop() if len(found) == 1 else None
