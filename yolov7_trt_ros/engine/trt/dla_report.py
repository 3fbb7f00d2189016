"""DlaReport: which layers of a network a DLA would run, before anything is built."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
import dataclasses
from typing import Any

from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.dla_rules import DYNAMIC, is_work, LOADABLES, reason_against
from yolov7_trt_ros.errors import BuildError

_SHOWN = 3
_UNTOLD = 'TensorRT gives no reason'


@dataclasses.dataclass(frozen=True)
class PlacedLayer:
    """A layer, and why it is left to the GPU; '' if the DLA runs it."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class DlaReport:
    """
    What a DLA would run.

    Attributes
    ----------
    asked
        Whether TensorRT was asked for each layer; else it is an estimate by documented rules.
    layers
        Those that compute, in the order of the network.
    transitions
        Tensors that one of both devices makes and the other reads.
    loadables
        Parts of the network that the DLA runs on its own.

    """

    asked: bool
    layers: tuple[PlacedLayer, ...]
    transitions: int
    loadables: int

    @property
    def fallbacks(self) -> tuple[PlacedLayer, ...]:
        """Return the layers that are left to the GPU."""
        return tuple(layer for layer in self.layers if layer.reason)

    def causes(self) -> list[str]:
        """Return what in the model has layers left to the GPU, the most frequent first."""
        names: dict[str, list[str]] = collections.defaultdict(list)
        for layer in self.fallbacks:
            names[layer.reason].append(layer.name)
        most_first = sorted(names.items(), key=lambda each: -len(each[1]))
        return [
            f'{reason}: {len(found)} layer(s), {", ".join(found[:_SHOWN])}'
            + (', ...' if len(found) > _SHOWN else '')
            for reason, found in most_first
        ]

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values of the rows to show."""
        source = 'TensorRT on this machine' if self.asked else (
            'ESTIMATE by documented rules of NVIDIA; never compared with a DLA'
        )
        count = len(self.layers)
        rows = [
            ('source', source),
            ('on the DLA', f'{count - len(self.fallbacks)} of {count} layers'),
            ('transitions', f'{self.transitions} tensors go from one device to the other'),
            ('loadables', f'{self.loadables}, a core holds {LOADABLES} at a time'),
        ]
        return rows + [('on the GPU', cause) for cause in self.causes()]

    def check(self, most: int | None) -> None:
        """
        Refuse more transitions than `most`; None is no limit.

        Raises
        ------
        BuildError
            There are more; the message has their number and the layers that cause them.

        """
        if most is None or (self.transitions <= most and not self._is_all_gpu):
            return
        how = 'asked of TensorRT' if self.asked else 'an estimate by documented rules'
        if self._is_all_gpu:
            what = f'the DLA would run no layer ({how})'
        else:
            what = f'{self.transitions} transitions ({how}) exceed --max-transitions {most}'
        raise BuildError(f'{what}. On the GPU: {"; ".join(self.causes()[:_SHOWN])}')

    @property
    def _is_all_gpu(self) -> bool:
        return len(self.fallbacks) == len(self.layers)

    def to_record(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {**dataclasses.asdict(self), 'causes': self.causes()}


def place_layers(
    module: Any, network: Any, config: Any, profiles: Iterable[ShapeRange], *, asks: bool,
    logged: list[str],
) -> DlaReport:
    """
    Return where the layers of a parsed network would run.

    Parameters
    ----------
    module, network, config
        TensorRT, and its network and builder configuration, which is set up for the DLA if `asks`.
    profiles
        Shapes of the input.
    asks
        Whether to ask TensorRT, which only answers if there is a DLA.
    logged
        List that TensorRT's log messages are appended to; cleared before each layer.

    """
    all_layers = [network.get_layer(number) for number in range(network.num_layers)]
    working = [layer for layer in all_layers if is_work(layer)]
    dynamic = any(not (each.minimum == each.optimum == each.maximum) for each in profiles)
    placed = []
    for layer in working:
        name, reason = str(layer.name), ''
        logged.clear()
        if not asks or not config.can_run_on_DLA(layer):
            unexplained = (logged[-1] if logged else _UNTOLD) if asks else ''
            reason = reason_against(module, layer) or unexplained
        placed.append(PlacedLayer(name, DYNAMIC if dynamic else reason))
    crossing, loadables = _count_crossings(working, [not each.reason for each in placed])
    return DlaReport(asks, tuple(placed), crossing, loadables)


def _count_crossings(layers: Sequence[Any], on_dla: Sequence[bool]) -> tuple[int, int]:
    """Return how many tensors go between devices, and how many parts the DLA runs."""
    made_by = {
        layer.get_output(number).name: index for index, layer in enumerate(layers)
        for number in range(layer.num_outputs) if layer.get_output(number) is not None
    }
    part = list(range(len(layers)))

    def root(index: int) -> int:
        while part[index] != index:
            part[index] = part[part[index]]
            index = part[index]
        return index

    crossing = set()
    for index, layer in enumerate(layers):
        for number in range(layer.num_inputs):
            tensor = layer.get_input(number)
            maker = None if tensor is None else made_by.get(tensor.name)
            if maker is None:
                continue
            if on_dla[maker] != on_dla[index]:
                crossing.add(tensor.name)
            elif on_dla[index]:
                part[root(index)] = root(maker)
    parts = {root(index) for index, is_on in enumerate(on_dla) if is_on}
    return len(crossing), len(parts)
