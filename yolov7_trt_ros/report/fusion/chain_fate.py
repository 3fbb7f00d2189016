"""
Whether one chain of layers was fused in a built engine.

A chain is fused if one layer names all of its nodes. An activation that no layer names counts as
fused if the convolution's layer reports one (`Activation`, or a kernel whose name lists the
operations): every node of a model runs somewhere. TensorRT gives no reasons for unfused chains;
the reasons here describe what is visible in the layers.

"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any

from yolov7_trt_ros.onnx_tools.chains import Chain, ChainNode
from yolov7_trt_ros.report.fusion.engine_layers import (
    CONVOLUTION,
    EngineLayer,
    names_quantisation,
    REGION,
)

FUSED, APART, HIDDEN, ABSENT = 'fused', 'apart', 'hidden', 'absent'
"""
States of a chain: one layer; several layers; inside a region without details; not named. Only the
first counts as fused.
"""

_PLAIN_OPERATIONS = frozenset(
    ('Corr', 'Conv', 'Fc', 'Add', 'Cast', 'Cas', 'Resh', 'Res', 'Tran', 'Tra', 'Move', 'Mov',
     'Conc', 'Con', 'Slic', 'Sli')
)


@dataclasses.dataclass(frozen=True)
class ChainFate:
    """
    The state of one chain in an engine.

    Attributes
    ----------
    state
        One of the constants of this module.
    layers
        Numbers of the layers that run it, the convolution's first.
    precision
        What the convolution computes in; '' if unknown.
    reason
        Why it is not fused, in words that chains share; '' for those that are.
    detail
        The layers concerned; for fused chains without a full name, what shows the fusion.
    merged_with
        Of an unfused chain: readers of its result that run in one layer with its end,
        `('Add sum_1',)`; for example an activation and the residual sum after it.

    """

    chain: Chain
    state: str
    layers: tuple[int, ...] = ()
    precision: str = ''
    reason: str = ''
    detail: str = ''
    merged_with: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return it JSON-ready, without the chain's nodes."""
        return {
            'name': self.chain.name, 'kind': self.chain.kind, 'state': self.state,
            'layers': list(self.layers), 'precision': self.precision,
            'feeds': list(self.chain.feeds), 'reason': self.reason, 'detail': self.detail,
            'merged_with': list(self.merged_with),
        }


def feeds_concat(chain: Chain) -> bool:
    """Whether a Concat reads a chain's result."""
    return any(reader.startswith('Concat ') for reader in chain.feeds)


def find_fate(chain: Chain, layers: Sequence[EngineLayer]) -> ChainFate:
    """Return the state of a chain among the layers that compute."""
    named = [[layer for layer in layers if layer.mentions(node.names)] for node in chain.nodes]
    # a kernel behind a convolution may name it too, for its bias or its scale
    convolving = [each for each in named[0] if each.kind == CONVOLUTION] or named[0]
    if not convolving:
        return ChainFate(chain, ABSENT, reason=_absent_reason(layers))
    first = convolving[0]
    if first.kind == REGION:
        return ChainFate(chain, HIDDEN, (first.number,), first.precision,
                         'inside a region without details', _describe(first))
    for layer in convolving:
        if all(layer in found for found in named[1:]) and layer.kind != REGION:
            return ChainFate(chain, FUSED, (layer.number,), layer.precision)
    return _fused_unnamed(chain, first, named) or _apart(chain, first, named)


def _absent_reason(layers: Sequence[EngineLayer]) -> str:
    regions = [layer.name for layer in layers if layer.kind == REGION]
    if regions:
        return 'no layer names it; it may be inside a region without details'
    return 'no layer names it'


def _fused_unnamed(
    chain: Chain, first: EngineLayer, named: Sequence[Sequence[EngineLayer]]
) -> ChainFate | None:
    """Return a fused chain whose activation is shown only by the convolution's layer."""
    if any(found for found in named[1:] if first not in found):
        return None
    applied = [name for name in first.operations if name not in _PLAIN_OPERATIONS]
    if first.activation:
        detail = f'not named; shown by "Activation": {first.activation}'
    elif applied and first.kind == CONVOLUTION:
        detail = f'not named; shown by the kernel: {" ".join(first.operations)}'
    else:
        return None
    return ChainFate(chain, FUSED, (first.number,), first.precision, detail=detail)


def _apart(
    chain: Chain, first: EngineLayer, named: Sequence[Sequence[EngineLayer]]
) -> ChainFate:
    others = [layer for found in named[1:] for layer in found if layer is not first]
    numbers = tuple(dict.fromkeys((first.number, *(layer.number for layer in others))))
    missing = [node for node, found in zip(chain.nodes[1:], named[1:], strict=True)
               if first not in found]
    detail = '; '.join(_describe(layer) for layer in dict.fromkeys((first, *others)))
    merged = _merged_readers(chain, others)
    reason = _why_apart(chain, first, others, missing, merged)
    return ChainFate(chain, APART, numbers, first.precision, reason, detail, merged)


def _why_apart(
    chain: Chain, first: EngineLayer, others: Sequence[EngineLayer],
    missing: Sequence[ChainNode], merged: Sequence[str],
) -> str:
    """Return what is visible at a split; TensorRT itself gives no reasons."""
    part = '/'.join(dict.fromkeys(node.operator for node in missing))
    if not others:
        return f'no layer names its {part}'
    if chain.quantised_inside:
        return f'Q/DQ nodes stand between the convolution and its {part}'
    if chain.also_read_by:
        return f'others read the convolution too, so its {part} runs apart'
    if any(layer.kind == REGION for layer in others):
        return f'its {part} is in a region of its own'
    if '||' in first.name:
        return f'merged with neighbouring convolutions, its {part} runs apart'
    more = _others_in(chain, others)
    if more and all(map(names_quantisation, more)):
        return f'its {part} runs with the Q/DQ of the result rather than with the convolution'
    if more:
        follows = '/'.join(dict.fromkeys(reader.partition(' ')[0] for reader in merged))
        what = f'the {follows} that follows' if follows else 'what follows'
        return f'its {part} was merged with {what} rather than with the convolution'
    if feeds_concat(chain):
        return f'its {part} runs apart and feeds a Concat'
    return f'its {part} runs apart'


def _merged_readers(chain: Chain, layers: Sequence[EngineLayer]) -> tuple[str, ...]:
    """Return the readers of a chain's result that one of these layers runs with its end."""
    ends = [layer for layer in layers if layer.mentions(chain.nodes[-1].names)]
    return tuple(reader for reader in chain.feeds
                 if any(layer.mentions([reader.partition(' ')[2]]) for layer in ends))


def _others_in(chain: Chain, layers: Sequence[EngineLayer]) -> set[str]:
    """Return the nodes beside this chain's that some layers run."""
    own = {name for node in chain.nodes for name in node.names}
    return {name for layer in layers for name in _node_names(layer)} - own


def _node_names(layer: EngineLayer) -> set[str]:
    """Return the ONNX nodes that a layer names for sure: metadata, or the parts of a PWN."""
    from_metadata = layer.metadata.split('[ONNX Layer: ')[1:]
    if from_metadata:
        return {part.partition(']')[0] for part in from_metadata}
    if layer.name.startswith('__myl_') or 'Unnamed Layer' in layer.name:
        return set()
    return {word for word in layer.words
            if word not in ('PWN', '+', '||') and not word.startswith('PWN(')
            and ' ' not in word and word != layer.name}


def _describe(layer: EngineLayer) -> str:
    name = layer.name if len(layer.name) <= 60 else f'{layer.name[:57]}...'
    return f'layer {layer.number} {name} ({layer.layer_type or layer.kind})'
