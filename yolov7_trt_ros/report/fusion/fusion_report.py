"""Which chains of a model were fused in a built engine, and the precision of its layers."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.onnx_tools.chains import Chain
from yolov7_trt_ros.report.fusion.chain_fate import (
    ABSENT,
    ChainFate,
    feeds_concat,
    find_fate,
    FUSED,
)
from yolov7_trt_ros.report.fusion.engine_layers import (
    CONVOLUTION,
    EngineLayer,
    NO_OP,
    OTHER,
    QUANTISE,
    REFORMAT,
    REGION,
    SYNC,
)
from yolov7_trt_ros.report.fusion.timed_layers import TimedLayers

_COMPUTE = (CONVOLUTION, OTHER, REGION)
_SHOWN_NAMES = 4
_MOST_UNKNOWN = 0.1


@dataclasses.dataclass(frozen=True)
class FusionReport:
    """
    Layers of an engine, and which chains of its model are fused.

    Attributes
    ----------
    fates
        One for each chain; empty if the model is unknown.
    source
        Origin of the layers, as saved with them.
    times
        Time of each layer, if measured.

    """

    layers: tuple[EngineLayer, ...]
    fates: tuple[ChainFate, ...]
    source: Mapping[str, str]
    times: TimedLayers | None = None

    @property
    def fused(self) -> int:
        """Return the number of chains that are one layer each."""
        return sum(fate.state == FUSED for fate in self.fates)

    @property
    def fused_share(self) -> float | None:
        """Fused chains of all chains, 0..1; None where there are none, or none are known."""
        return self.fused / len(self.fates) if self.fates else None

    @property
    def precisions(self) -> dict[str, int]:
        """How many layers compute in which precision, without reformats and the like."""
        return dict(collections.Counter(
            layer.precision or 'not told' for layer in self.layers
            if layer.kind in _COMPUTE
        ).most_common())

    @property
    def kinds(self) -> dict[str, int]:
        """How many layers of which kind."""
        return dict(collections.Counter(layer.kind for layer in self.layers).most_common())

    @property
    def reformats(self) -> tuple[EngineLayer, ...]:
        """Return the layers that only change order, type or place of a tensor."""
        return tuple(layer for layer in self.layers if layer.kind == REFORMAT)

    def traffic(self) -> dict[str, int]:
        """
        Return the bytes that layers read and write, by kind, the most first.

        Weights are not counted. Tensors inside a fused layer are neither written nor read; a
        tensor counts once for each layer that has it. Empty if the size of a tenth of the
        tensors or more is unknown.

        """
        moved: dict[str, int] = collections.defaultdict(int)
        sizes = []
        for layer in self.layers:
            if layer.kind not in (SYNC, NO_OP):
                for tensor in (*layer.inputs, *layer.outputs):
                    sizes.append(tensor.size_bytes)
                    moved[layer.kind] += tensor.size_bytes or 0
        if sizes.count(None) >= _MOST_UNKNOWN * len(sizes):
            return {}
        return dict(sorted(moved.items(), key=lambda item: -item[1]))

    def by_reader(self) -> dict[str, tuple[int, int]]:
        """Return fused and all chains: those that feed a Concat, and the others."""
        found = {}
        for label, wanted in (('feeding a Concat', True), ('others', False)):
            fates = [fate for fate in self.fates if feeds_concat(fate.chain) is wanted]
            found[label] = (sum(fate.state == FUSED for fate in fates), len(fates))
        return found

    def unfused(self) -> dict[str, list[ChainFate]]:
        """Return the chains that are not fused, by reason, the most frequent first."""
        groups: dict[str, list[ChainFate]] = collections.defaultdict(list)
        for fate in self.fates:
            if fate.state != FUSED:
                groups[fate.reason].append(fate)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))

    def to_record(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            'source': dict(self.source),
            'chains': len(self.fates), 'fused': self.fused, 'fused_share': self.fused_share,
            'by_reader': {key: list(value) for key, value in self.by_reader().items()},
            'reasons': {reason: len(fates) for reason, fates in self.unfused().items()},
            'precisions': self.precisions, 'kinds': self.kinds,
            'traffic_bytes': self.traffic(),
            'reformats': [_reformat_record(layer) for layer in self.reformats],
            'times': None if self.times is None else self.times.to_record(),
            'fates': [fate.to_record() for fate in self.fates],
            'layers': [self._layer_record(layer) for layer in self.layers],
        }

    def _layer_record(self, layer: EngineLayer) -> dict[str, Any]:
        record = {'number': layer.number, 'name': layer.name, 'type': layer.layer_type,
                  'kind': layer.kind, 'precision': layer.precision, 'tactic': layer.tactic}
        return record if self.times is None else record | {'ms': self.times.of(layer)}


def _reformat_record(layer: EngineLayer) -> dict[str, Any]:
    return {'number': layer.number, 'name': layer.name, 'change': describe_change(layer)}


def describe_change(layer: EngineLayer) -> str:
    """Return what a reformat does, `Float to Half`, a change of layout, `copy`; '' if unknown."""
    if not layer.inputs or not layer.outputs:
        return ''
    before, after = layer.inputs[0], layer.outputs[0]
    if before.dtype and after.dtype and before.dtype != after.dtype:
        return f'{before.dtype} to {after.dtype}'
    if not before.layout or not after.layout:
        return ''
    return 'copy' if before.layout == after.layout else f'{before.layout} to {after.layout}'


def describe_source(source: Mapping[str, str]) -> str:
    """Return the origin of the layers in one line, `TensorRT 8.6.0, NVIDIA H100, fp16, ...`."""
    gpu = source.get('gpu', '')
    reporter = source.get('told_by', '')
    parts = (
        source.get('tensorrt', ''), 'built without a GPU' if gpu == 'none' else gpu,
        source.get('precision', ''), f'layers reported by {reporter}' if reporter else '',
    )
    return ', '.join(part for part in parts if part)


def make_report(
    layers: Sequence[EngineLayer],
    chains: Sequence[Chain],
    source: Mapping[str, str],
    times: TimedLayers | None = None,
) -> FusionReport:
    """
    Find the state of each chain.

    Raises
    ------
    ModelLayoutError
        The layers name no node of any chain: another model's.

    """
    running = [layer for layer in layers if layer.kind not in (REFORMAT, SYNC, NO_OP, QUANTISE)]
    fates = tuple(find_fate(chain, running) for chain in chains)
    if fates and all(fate.state == ABSENT for fate in fates):
        raise ModelLayoutError(
            f'the {len(layers)} layers name none of the {len(chains)} convolutions of the ONNX '
            f'model (the first is {chains[0].name}, the first layer is '
            f'{layers[0].name if layers else "missing"}); give the ONNX model that the engine was '
            'built from with --onnx'
        )
    return FusionReport(tuple(layers), fates, source, times)


def named_chains(fates: Sequence[ChainFate]) -> str:
    """Return the first few names of chains."""
    names = [fate.chain.name for fate in fates]
    return ', '.join(names[:_SHOWN_NAMES]) + (
        f', ... ({len(names)})' if len(names) > _SHOWN_NAMES else '')
