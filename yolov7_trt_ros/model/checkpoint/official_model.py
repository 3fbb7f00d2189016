"""Read the layer table and the weights out of a pickled `models.yolo.Model`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.checkpoint.facts import anchors_fact, Fact, FoundModel, read_anchors
from yolov7_trt_ros.model.checkpoint.foreign_checkpoint import describe_layers
from yolov7_trt_ros.model.checkpoint.pickle_names import BoundMethod, StandIn
from yolov7_trt_ros.model.checkpoint.pickled_modules import (
    child,
    children,
    collect_tensors,
    whole_number,
)
from yolov7_trt_ros.model.checkpoint.state_table import (
    describe_activations,
    describe_rows,
    fusing_facts,
)
from yolov7_trt_ros.model.checkpoint.stored_tensor import load_tensors, StoredTensor
from yolov7_trt_ros.model.network.blocks import DOWN_CONVS, PYRAMID_CONVS, PYRAMID_POOLS
from yolov7_trt_ros.model.network.fold import SourceModel
from yolov7_trt_ros.model.network.foreign_heads import describe_head
from yolov7_trt_ros.model.network.layer_table import (
    absolute,
    check_rows,
    head_strides,
    LayerRow,
    LEAKY_SLOPE,
)

_HEADS = ('Detect', 'IDetect', 'IAuxDetect')
_MOST_MAPS = 8
_NORMS = {'BatchNorm2d', 'SyncBatchNorm'}
_ACTIVATIONS = {'SiLU': 'silu', 'LeakyReLU': 'leaky_relu', 'ReLU': 'relu', 'Identity': 'identity'}


def read_official_model(model: StandIn) -> FoundModel:
    """
    Return the table and weights of a pickled model, from its own list of modules.

    Raises
    ------
    CheckpointError
        It is no YOLOv7 detector, or has a layer of a kind that is not known.

    """
    layers = _layers(model)
    rows = tuple(_read_row(index, layer) for index, layer in enumerate(layers))
    check_rows(rows)
    head, name = layers[-1], f'model.{len(rows) - 1}.'
    stored, shifts = collect_tensors(layers)
    state = load_tensors(stored)
    for variance, shift in shifts.items():
        state[variance] = state[variance].double() + shift
    levels = _count_maps(head, stored, name)
    buffers = {
        key: state[name + key] for key in ('anchors', 'anchor_grid') if name + key in state
    }
    anchors, anchors_from = read_anchors(buffers, head_strides(rows)[:levels])
    if not anchors:
        raise CheckpointError('the head of the checkpoint has no anchors (anchor_grid)')
    is_fused = _runs_fused(head)
    source = SourceModel(rows, state, anchors, is_fused=is_fused)
    facts = (
        Fact('table', describe_rows(rows), 'its own list of layers'),
        Fact('activation', describe_activations(rows), 'its modules'),
        *fusing_facts(state, is_fused, 'the head says so' if is_fused else 'its modules'),
        anchors_fact(anchors, anchors_from),
    )
    return FoundModel(source, facts, model.state.get('names'), whole_number(head.state.get('nc')))


def _layers(model: StandIn) -> list[StandIn]:
    """Return the layers, the last of which is a head that can be decoded."""
    if _kind(model) == 'Darknet':
        raise CheckpointError(
            'the model is of YOLOR or Scaled-YOLOv4 (Darknet): only heads of YOLOv7 are decoded '
            'here; use the program that it is from'
        )
    layers = children(child(model, 'model'))
    if not layers:
        raise CheckpointError(f'a {model.path} without layers, expected a models.yolo.Model')
    for index, name in enumerate(layers):
        if name != str(index):
            raise CheckpointError(f'layer {index} of the checkpoint is called {name[:40]}')
    listed = list(layers.values())
    kinds = [_kind(layer) for layer in listed]
    if kinds[-1] not in _HEADS or not set(kinds) <= set(_READERS):
        _refuse(listed)
    return listed


def _refuse(layers: Sequence[StandIn]) -> NoReturn:
    """Say what a model is that has another head, or layers of other kinds."""
    kinds = [_kind(layer) for layer in layers]
    reason = describe_head(kinds[-1]) or describe_layers(kinds)
    if reason is None and kinds[-1] not in _READERS:
        reason = f'the head of the model is {kinds[-1]}, expected one of {", ".join(_HEADS)}'
    unknown = next((index for index, kind in enumerate(kinds) if kind not in _READERS), 0)
    raise CheckpointError(
        reason or f'layer {unknown} of the checkpoint is a {layers[unknown].path[:100]}, which is '
        f'not known; known are {", ".join(_READERS)}'
    )


def _kind(layer: StandIn) -> str:
    return layer.path.rpartition('.')[2]


# ---- rows


def _read_row(index: int, layer: StandIn) -> LayerRow:
    kind = _kind(layer)
    if 'f' not in layer.state or layer.state.get('i') != index:
        raise CheckpointError(
            f'layer {index} ({kind}) of the checkpoint does not name its inputs'
        )
    sources = layer.state['f']
    listed = sources if isinstance(sources, list) else [sources]
    if not all(isinstance(source, int) for source in listed):
        raise CheckpointError(f'layer {index} ({kind}) of the checkpoint reads {sources!r}')
    return _READERS[kind](index, layer, absolute(index, listed))


def _read_conv(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    norm = children(layer).get('bn')
    if norm is not None:
        _check_kind(index, norm, _NORMS)
        if _runs_fused(layer):
            raise CheckpointError(
                f'layer {index} runs as fused, but has its batch norm still: one of both is wrong'
            )
    return _conv_row(index, child(layer, 'conv'), _activation(index, layer), sources)


def _conv_row(
    index: int, conv: StandIn, activation: str, sources: tuple[int, ...], kind: str = 'conv'
) -> LayerRow:
    _check_kind(index, conv, {'Conv2d'})
    if conv.state.get('padding_mode', 'zeros') != 'zeros':
        raise CheckpointError(f'layer {index} is a convolution that does not pad with zeros')
    facts = {
        name: _square(index, conv.state.get(name), name)
        for name in ('kernel_size', 'stride', 'padding', 'dilation')
    }
    row = LayerRow(
        kind, sources, kernel=facts['kernel_size'], stride=facts['stride'],
        groups=_number(index, conv.state.get('groups'), 'groups'), activation=activation,
    )
    if facts['padding'] != row.padding or facts['dilation'] != 1:
        raise CheckpointError(
            f'layer {index} is a convolution with padding {facts["padding"]} and dilation '
            f'{facts["dilation"]}, expected {row.padding} and 1'
        )
    return row


def _read_rep_conv(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    merged = children(layer).get('rbr_reparam')
    dense = merged or child(child(layer, 'rbr_dense'), '0')
    if merged is None:
        for branch in (child(layer, 'rbr_dense'), child(layer, 'rbr_1x1')):
            _check_kind(index, child(branch, '1'), _NORMS)
    return _conv_row(index, dense, _activation(index, layer), sources, 'rep_conv')


def _read_pool(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    pool = child(layer, 'm')
    facts = {
        name: _square(index, pool.state.get(name), name)
        for name in ('kernel_size', 'stride', 'padding')
    }
    _check_plain_pool(index, pool)
    row = LayerRow('max_pool', sources, kernel=facts['kernel_size'], stride=facts['stride'])
    if facts['padding'] != row.padding:
        raise CheckpointError(
            f'layer {index} is a pooling with padding {facts["padding"]}, expected {row.padding}'
        )
    return row


def _read_upsample(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    scale, mode = layer.state.get('scale_factor'), layer.state.get('mode')
    if _square(index, scale, 'scale_factor') != 2 or mode != 'nearest':
        raise CheckpointError(
            f'layer {index} enlarges {scale} times by {mode!r}, expected 2 times by nearest'
        )
    return LayerRow('upsample', sources)


def _read_concat(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    if layer.state.get('d') != 1:
        raise CheckpointError(f'layer {index} joins maps along another axis than the channels')
    return LayerRow('concat', sources)


def _read_add(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    return LayerRow('add', sources)


def _read_reorg(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    return LayerRow('reorg', sources, stride=2)


def _read_down(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    _check_pool(index, child(layer, 'mp'), 2, 2)
    activation = _check_parts(index, layer, DOWN_CONVS, stepping='cv2')
    return LayerRow('down', sources, stride=2, activation=activation)


def _read_pyramid(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    pools = children(child(layer, 'm'))
    if len(pools) != len(PYRAMID_POOLS):
        raise CheckpointError(f'layer {index} (SPPCSPC) has {len(pools)} poolings, expected 3')
    for pool, size in zip(pools.values(), PYRAMID_POOLS, strict=True):
        _check_pool(index, pool, size, 1)
    activation = _check_parts(index, layer, PYRAMID_CONVS)
    return LayerRow('pyramid', sources, activation=activation)


def _read_head(index: int, layer: StandIn, sources: tuple[int, ...]) -> LayerRow:
    return LayerRow('detect', sources)


def _check_parts(
    index: int, layer: StandIn, kernels: tuple[int, ...], stepping: str = ''
) -> str:
    """Check the convolutions cv1, cv2, ... of a block and return their common activation."""
    activations = set()
    for number, kernel in enumerate(kernels, 1):
        name = f'cv{number}'
        row = _read_conv(index, child(layer, name), (0,))
        wanted = (kernel, 2 if name == stepping else 1, 1)
        if (row.kernel, row.stride, row.groups) != wanted:
            raise CheckpointError(
                f'layer {index}: {name} has kernel, stride and groups '
                f'{row.kernel, row.stride, row.groups}, expected {wanted}'
            )
        activations.add(row.activation)
    if len(activations) > 1:
        raise CheckpointError(f'layer {index} mixes the activations {sorted(activations)}')
    return activations.pop()


def _check_kind(index: int, layer: StandIn, kinds: Collection[str]) -> None:
    if _kind(layer) not in kinds:
        raise CheckpointError(
            f'layer {index} has a {layer.path[:100]}, expected {" or ".join(sorted(kinds))}'
        )


def _check_plain_pool(index: int, pool: StandIn) -> None:
    _check_kind(index, pool, {'MaxPool2d'})
    if pool.state.get('ceil_mode') or pool.state.get('dilation', 1) not in (1, (1, 1)):
        raise CheckpointError(f'layer {index} is a pooling that rounds up or is dilated')


def _check_pool(index: int, pool: StandIn, kernel: int, stride: int) -> None:
    _check_plain_pool(index, pool)
    found = tuple(
        _square(index, pool.state.get(name), name) for name in ('kernel_size', 'stride')
    )
    if found != (kernel, stride):
        raise CheckpointError(
            f'layer {index} has a pooling of kernel and stride {found}, expected '
            f'{(kernel, stride)}'
        )


def _activation(index: int, layer: StandIn) -> str:
    act = child(layer, 'act')
    kind = _kind(act)
    slope = act.state.get('negative_slope', LEAKY_SLOPE)
    if kind not in _ACTIVATIONS or slope != LEAKY_SLOPE:
        raise CheckpointError(
            f'layer {index} has the activation {kind} (slope {slope}), expected one of '
            f'{", ".join(_ACTIVATIONS)}; LeakyReLU with slope {LEAKY_SLOPE}'
        )
    return _ACTIVATIONS[kind]


def _square(index: int, value: object, name: str) -> int:
    """Return a size that is the same on both axes: 3, (3, 3) or 2.0."""
    values = set(value) if isinstance(value, (tuple, list)) else {value}
    if len(values) != 1:
        raise CheckpointError(f'layer {index} has a {name} of {value!r}, expected a square one')
    return _number(index, values.pop(), name)


def _number(index: int, value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise CheckpointError(f'layer {index} has {name} {value!r}, expected a whole number')
    return int(value)


_READERS: Mapping[str, Callable[[int, StandIn, tuple[int, ...]], LayerRow]] = {
    'Conv': _read_conv, 'RepConv': _read_rep_conv, 'MP': _read_pool, 'SP': _read_pool,
    'Upsample': _read_upsample, 'Concat': _read_concat, 'Shortcut': _read_add,
    'ReOrg': _read_reorg, 'DownC': _read_down, 'SPPCSPC': _read_pyramid,
    **dict.fromkeys(_HEADS, _read_head),
}


def _count_maps(head: StandIn, stored: Mapping[str, StoredTensor], name: str) -> int:
    """Return how many maps the head has; refuse one whose values are other than a detector's."""
    levels = sum(f'{name}m.{level}.weight' in stored for level in range(_MOST_MAPS))
    classes, values = head.state.get('nc'), head.state.get('no')
    if isinstance(classes, int) and isinstance(values, int) and values != 5 + classes:
        raise CheckpointError(
            f'the head gives {values} values an anchor for {classes} classes, a detector gives '
            f'{5 + classes}: it finds more than boxes (key points, masks), or decodes them '
            'otherwise'
        )
    if not levels:
        raise CheckpointError(f'the weights {name}m.0.weight of the head are missing')
    return levels


def _runs_fused(layer: StandIn) -> bool:
    forward = layer.state.get('forward')
    return isinstance(forward, BoundMethod) and forward.name == 'fuseforward'
