"""Read the layer table and the weights out of a pickled `models.yolo.Model`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from yolov7_trt_ros.core.model_spec import Anchors
from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.blocks import BATCH_NORM_EPS, DOWN_CONVS, PYRAMID_CONVS, PYRAMID_POOLS
from yolov7_trt_ros.model.fold import SourceModel
from yolov7_trt_ros.model.layer_table import absolute, LEAKY_SLOPE, Row
from yolov7_trt_ros.model.restricted_pickle import BoundMethod, StandIn

_HEADS = ('Detect', 'IDetect', 'IAuxDetect')
_REFUSED_HEADS = {
    'IBin': 'its boxes are decoded from bins, which no exporter of YOLOv7 supports',
    'IKeypoint': 'it is a pose model, not a detector',
    'MT': 'it is a multi-task model, not a detector',
}
_ACTIVATIONS = {'SiLU': 'silu', 'LeakyReLU': 'leaky_relu', 'ReLU': 'relu', 'Identity': 'identity'}


def read_official_model(model: StandIn) -> SourceModel:
    """
    Return the table and weights of a pickled model, from its own list of modules.

    Raises
    ------
    CheckpointError
        It is no YOLOv7 detector, or has a layer of a kind that is not known.

    """
    layers = children(child(model, 'model'))
    if not layers:
        raise CheckpointError(f'a {model.path} without layers, expected a models.yolo.Model')
    rows: list[Row] = []
    state: dict[str, Tensor] = {}
    for index, (name, layer) in enumerate(layers.items()):
        if name != str(index):
            raise CheckpointError(f'layer {index} of the checkpoint is called {name}')
        rows.append(_read_row(index, layer))
        state.update(_tensors(layer, f'model.{index}.'))
    head = layers[str(len(rows) - 1)]
    if _is_fused(head):  # its implicit vectors are in the convolutions already, and left behind
        state = {name: value for name, value in state.items() if not name.endswith('.implicit')}
    return SourceModel(tuple(rows), state, _read_anchors(head), _read_names(model))


def children(owner: StandIn) -> dict[str, StandIn]:
    """Return the sub-modules of a stand-in, in their order."""
    found = owner.state.get('_modules')
    if not isinstance(found, dict):
        return {}
    return {
        str(name): value for name, value in found.items() if isinstance(value, StandIn)
    }


def child(owner: StandIn, name: str) -> StandIn:
    """Return one sub-module; raises CheckpointError where it is not there."""
    found = children(owner).get(name)
    if found is None:
        raise CheckpointError(
            f'a {owner.path} in the checkpoint has no {name}: expected the layers of YOLOv7'
        )
    return found


def _kind(layer: StandIn) -> str:
    return layer.path.rpartition('.')[2]


# ---- rows


def _read_row(index: int, layer: StandIn) -> Row:
    kind = _kind(layer)
    if kind in _REFUSED_HEADS:
        raise CheckpointError(f'the head of the model is {kind}: {_REFUSED_HEADS[kind]}')
    if kind not in _READERS:
        raise CheckpointError(
            f'layer {index} of the checkpoint is a {layer.path}, which is not known; known are '
            + ', '.join(_READERS)
        )
    if 'f' not in layer.state or layer.state.get('i') != index:
        raise CheckpointError(
            f'layer {index} ({kind}) of the checkpoint does not say what it reads'
        )
    sources = layer.state['f']
    listed = sources if isinstance(sources, list) else [sources]
    if not all(isinstance(source, int) for source in listed):
        raise CheckpointError(f'layer {index} ({kind}) of the checkpoint reads {sources!r}')
    return _READERS[kind](index, layer, absolute(index, listed))


def _read_conv(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    return _conv_row(index, child(layer, 'conv'), _activation(index, layer), sources)


def _conv_row(
    index: int, conv: StandIn, activation: str, sources: tuple[int, ...], kind: str = 'conv'
) -> Row:
    facts = {
        name: _square(index, conv.state.get(name), name)
        for name in ('kernel_size', 'stride', 'padding', 'dilation')
    }
    row = Row(
        kind, sources, kernel=facts['kernel_size'], stride=facts['stride'],
        groups=_number(index, conv.state.get('groups'), 'groups'), activation=activation,
    )
    if facts['padding'] != row.padding or facts['dilation'] != 1:
        raise CheckpointError(
            f'layer {index} is a convolution with padding {facts["padding"]} and dilation '
            f'{facts["dilation"]}, expected {row.padding} and 1'
        )
    return row


def _read_rep_conv(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    merged = children(layer).get('rbr_reparam')
    dense = merged or child(child(layer, 'rbr_dense'), '0')
    return _conv_row(index, dense, _activation(index, layer), sources, 'rep_conv')


def _read_pool(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    pool = child(layer, 'm')
    facts = {
        name: _square(index, pool.state.get(name), name)
        for name in ('kernel_size', 'stride', 'padding')
    }
    row = Row('max_pool', sources, kernel=facts['kernel_size'], stride=facts['stride'])
    if facts['padding'] != row.padding:
        raise CheckpointError(
            f'layer {index} is a pooling with padding {facts["padding"]}, expected {row.padding}'
        )
    return row


def _read_upsample(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    scale, mode = layer.state.get('scale_factor'), layer.state.get('mode')
    if _square(index, scale, 'scale_factor') != 2 or mode != 'nearest':
        raise CheckpointError(
            f'layer {index} enlarges {scale} times by {mode!r}, expected 2 times by nearest'
        )
    return Row('upsample', sources)


def _read_concat(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    if layer.state.get('d') != 1:
        raise CheckpointError(f'layer {index} joins maps along another axis than the channels')
    return Row('concat', sources)


def _read_add(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    return Row('add', sources)


def _read_reorg(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    return Row('reorg', sources, stride=2)


def _read_down(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    _check_pool(index, child(layer, 'mp'), 2, 2)
    activation = _check_parts(index, layer, DOWN_CONVS, stepping='cv2')
    return Row('down', sources, stride=2, activation=activation)


def _read_pyramid(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    pools = children(child(layer, 'm'))
    if len(pools) != len(PYRAMID_POOLS):
        raise CheckpointError(f'layer {index} (SPPCSPC) has {len(pools)} poolings, expected 3')
    for pool, size in zip(pools.values(), PYRAMID_POOLS, strict=True):
        _check_pool(index, pool, size, 1)
    activation = _check_parts(index, layer, PYRAMID_CONVS)
    return Row('pyramid', sources, activation=activation)


def _read_head(index: int, layer: StandIn, sources: tuple[int, ...]) -> Row:
    return Row('detect', sources)


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


def _check_pool(index: int, pool: StandIn, kernel: int, stride: int) -> None:
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


_READERS: Mapping[str, Callable[[int, StandIn, tuple[int, ...]], Row]] = {
    'Conv': _read_conv, 'RepConv': _read_rep_conv, 'MP': _read_pool, 'SP': _read_pool,
    'Upsample': _read_upsample, 'Concat': _read_concat, 'Shortcut': _read_add,
    'ReOrg': _read_reorg, 'DownC': _read_down, 'SPPCSPC': _read_pyramid,
    **dict.fromkeys(_HEADS, _read_head),
}


# ---- weights, anchors, names


def _tensors(owner: StandIn, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and buffer below a module, with batch norms brought to one epsilon."""
    held = {**(owner.state.get('_parameters') or {}), **(owner.state.get('_buffers') or {})}
    for key, value in held.items():
        if not isinstance(value, Tensor) or key in ('total_ops', 'total_params'):
            continue
        if key == 'running_var':
            value = value.double() + (owner.state.get('eps', BATCH_NORM_EPS) - BATCH_NORM_EPS)
        yield f'{name}{key}', value
    for key, module in children(owner).items():
        yield from _tensors(module, f'{name}{key}.')


def _is_fused(head: StandIn) -> bool:
    forward = head.state.get('forward')
    return isinstance(forward, BoundMethod) and forward.name == 'fuseforward'


def _read_anchors(head: StandIn) -> Anchors:
    """Return the anchors in network pixels, from the buffer (maps, 1, anchors, 1, 1, 2)."""
    grid: Any = (head.state.get('_buffers') or {}).get('anchor_grid')
    if not isinstance(grid, Tensor) or grid.ndim != 6 or grid.shape[-1] != 2:
        raise CheckpointError('the head of the checkpoint has no anchors (anchor_grid)')
    maps = grid.float().flatten(1, 4).tolist()
    return tuple(tuple((width, height) for width, height in anchors) for anchors in maps)


def _read_names(model: StandIn) -> tuple[str, ...] | None:
    names = model.state.get('names')
    if isinstance(names, dict):
        numbered = all(isinstance(key, int) for key in names)
        names = [names[key] for key in (sorted(names) if numbered else names)]
    if not isinstance(names, (list, tuple)) or not names:
        return None
    # what UTF-8 cannot say, half a surrogate pair, neither ONNX nor a message can
    return tuple(str(name).encode('utf-8', 'replace').decode() for name in names)
