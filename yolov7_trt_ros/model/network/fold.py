"""Convert training form to deploy form: merge branches, fold vectors and norms, drop layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import re

import torch
from torch import Tensor
from torch.nn import functional

from yolov7_trt_ros.core.forms.model_spec import Anchors
from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.network.blocks import BATCH_NORM_EPS
from yolov7_trt_ros.model.network.foreign_heads import describe_head_weight
from yolov7_trt_ros.model.network.layer_table import check_rows, IMAGE, LayerRow, live_rows

_COUNTER = 'num_batches_tracked'
_HEAD_WEIGHTS = re.compile(
    r'm\.\d+\.(weight|bias)|m2\.\d+\.[\w.]+|i[am]\.\d+\.implicit|anchors|anchor_grid'
)


@dataclasses.dataclass(frozen=True)
class SourceModel:
    """
    What a checkpoint holds: its table, weights under the published names, anchors and classes.

    Attributes
    ----------
    rows
        The layer table; training form allowed.
    state
        Weights under the published names; every batch norm has an epsilon of 0.001.
    anchors
        Width and height in network pixels, per map.
    class_names
        None if the checkpoint has none.
    is_fused
        The implicit vectors of the head are in its convolutions already, and only left behind.

    """

    rows: tuple[LayerRow, ...]
    state: Mapping[str, Tensor]
    anchors: Anchors
    class_names: tuple[str, ...] | None = None
    is_fused: bool = False


def deploy_form(model: SourceModel, *, fold_batch_norm: bool = True) -> SourceModel:
    """
    Return the same function as a table without auxiliary maps, branches or implicit vectors.

    Arithmetic is done in float64, one layer at a time, and the result is float32.

    Raises
    ------
    CheckpointError
        A weight that the table names is missing or no floating-point number, or there is one more
        that nothing is known of.

    """
    rows = check_rows(model.rows)
    state = {
        name: _checked(name, value) for name, value in model.state.items()
        if not name.endswith(_COUNTER)
    }
    rows = _fold_head(rows, state, len(model.anchors), is_fused=model.is_fused)
    for index, row in enumerate(rows):
        if row.kind == 'rep_conv':
            _merge_branches(state, f'model.{index}.')
    rows = tuple(
        dataclasses.replace(row, kind='conv') if row.kind == 'rep_conv' else row for row in rows
    )
    rows, state = _drop_dead(rows, state)
    if fold_batch_norm:
        _fold_norms(state)
    for name in state:
        state[name] = state[name].float()
    return dataclasses.replace(model, rows=rows, state=state, is_fused=False)


def _checked(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point() and not name.endswith(('anchors', 'anchor_grid')):
        raise CheckpointError(
            f'the weights {name} are of {value.dtype}, expected floating-point numbers; give the '
            'checkpoint from before it was quantised'
        )
    return value


def _fold_head(
    rows: tuple[LayerRow, ...], state: dict[str, Tensor], maps: int, *, is_fused: bool
) -> tuple[LayerRow, ...]:
    """
    Drop the auxiliary maps; fold the vectors added before and multiplied after the head.

    out = im * (W (x + ia) + b), so W' = im * W and b' = im * (b + W ia).

    """
    name = f'model.{len(rows) - 1}.'
    check_head_weights(key.removeprefix(name) for key in state if key.startswith(name))
    for level in range(maps):
        weight, bias = (state.get(f'{name}m.{level}.{part}') for part in ('weight', 'bias'))
        if weight is None or bias is None:
            raise CheckpointError(f'the weights {name}m.{level}.weight and .bias are missing')
        if not is_fused:
            weight, bias = _fold_vectors(state, name, level, weight.double(), bias.double())
        state[f'{name}m.{level}.weight'], state[f'{name}m.{level}.bias'] = weight, bias
    kept = {f'{name}m.{level}.{part}' for level in range(maps) for part in ('weight', 'bias')}
    for other in [key for key in state if key.startswith(name) and key not in kept]:
        del state[other]
    return (*rows[:-1], dataclasses.replace(rows[-1], sources=rows[-1].sources[:maps]))


def _fold_vectors(
    state: Mapping[str, Tensor], name: str, level: int, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a map with its implicit vectors in them."""
    has_vectors = any(key.startswith((f'{name}ia.', f'{name}im.')) for key in state)
    if not has_vectors:
        return weight, bias
    shift = state.get(f'{name}ia.{level}.implicit')
    gain = state.get(f'{name}im.{level}.implicit')
    outputs, inputs = weight.shape[:2]
    for vector, side, what in ((shift, inputs, 'ia'), (gain, outputs, 'im')):
        if vector is None or vector.numel() != side:
            raise CheckpointError(
                f'the implicit vector {name}{what}.{level}.implicit does not fit: expected one of '
                f'{side} values for each map of the head'
            )
    assert shift is not None and gain is not None
    bias = bias + (weight * shift.double().reshape(1, -1, 1, 1)).sum((1, 2, 3))
    gain = gain.double().reshape(-1)
    return weight * gain[:, None, None, None], bias * gain


def check_head_weights(names: Iterable[str]) -> None:
    """
    Check the names of the weights below the head: only what a plain detector has.

    Raises
    ------
    CheckpointError
        There are others: it is another head, whose name the message has.

    """
    for name in names:
        if not _HEAD_WEIGHTS.fullmatch(name):
            raise CheckpointError(
                describe_head_weight(name) or f'the head of the model has the weights {name!r}, '
                'which no detection head of YOLOv7 has (m, m2, ia, im, anchors, anchor_grid): it '
                'is another head, and is not decoded here'
            )


def _merge_branches(state: dict[str, Tensor], name: str) -> None:
    """Merge the three branches of a `rep_conv` into one 3x3 convolution."""
    merged = state.pop(f'{name}rbr_reparam.weight', None)
    if merged is not None:
        state[f'{name}conv.weight'] = merged
        state[f'{name}conv.bias'] = _popped(state, f'{name}rbr_reparam.bias')
        return
    weight, bias = _folded(state, f'{name}rbr_dense.')
    small, small_bias = _folded(state, f'{name}rbr_1x1.')
    weight = weight + functional.pad(small, [1, 1, 1, 1])
    bias = bias + small_bias
    if f'{name}rbr_identity.weight' in state:
        gain, shift = _popped_norm(state, f'{name}rbr_identity.')
        outputs = torch.arange(len(gain))
        weight[outputs, outputs % weight.shape[1], 1, 1] += gain
        bias = bias + shift
    state[f'{name}conv.weight'], state[f'{name}conv.bias'] = weight.float(), bias.float()


def _folded(state: dict[str, Tensor], branch: str) -> tuple[Tensor, Tensor]:
    """Take a convolution and its batch norm out of the state; return them as one."""
    weight = _popped(state, f'{branch}0.weight')
    gain, shift = _popped_norm(state, f'{branch}1.')
    return weight.double() * gain[:, None, None, None], shift


def _popped(state: dict[str, Tensor], name: str) -> Tensor:
    try:
        return state.pop(name)
    except KeyError as exc:
        raise CheckpointError(f'the weight {name} is missing') from exc


def _popped_norm(state: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Take a batch norm out of the state; return what it multiplies by and adds."""
    try:
        factors = norm_factors(state, name)
    except KeyError as exc:
        raise CheckpointError(f'the weight {exc.args[0]} is missing') from exc
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
        del state[f'{name}{part}']
    return factors


def norm_factors(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Return what a batch norm multiplies by and adds; KeyError names what is missing."""
    weight, bias, mean, variance = (
        state[f'{name}{part}'].double() for part in ('weight', 'bias', 'running_mean',
                                                     'running_var')
    )
    gain = weight / torch.sqrt(variance + BATCH_NORM_EPS)
    return gain, bias - mean * gain


def _drop_dead(
    rows: Sequence[LayerRow], state: Mapping[str, Tensor]
) -> tuple[tuple[LayerRow, ...], dict[str, Tensor]]:
    """Drop the rows that the head does not need, and number the others anew."""
    kept = live_rows(rows)
    number = {IMAGE: IMAGE} | {old: new for new, old in enumerate(kept)}
    moved = tuple(
        dataclasses.replace(rows[old], sources=tuple(number[s] for s in rows[old].sources))
        for old in kept
    )
    renamed = {}
    for name, value in state.items():
        _, old, rest = name.split('.', 2)
        if int(old) in number:
            renamed[f'model.{number[int(old)]}.{rest}'] = value
    return moved, renamed


def _fold_norms(state: dict[str, Tensor]) -> None:
    """Fold each batch norm into the convolution before it."""
    for weight in [name for name in state if name.endswith('.conv.weight')]:
        block = weight.removesuffix('conv.weight')
        if f'{block}bn.weight' not in state:
            continue
        gain, shift = _popped_norm(state, f'{block}bn.')
        state[weight] = (state[weight].double() * gain[:, None, None, None]).float()
        before = state.get(f'{block}conv.bias')
        added = shift if before is None else shift + before.double() * gain
        state[f'{block}conv.bias'] = added.float()
