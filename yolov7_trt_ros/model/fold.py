"""From training form to deploy form: merge branches, fold vectors and norms, drop what is dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from yolov7_trt_ros.core.model_spec import Anchors
from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.blocks import BATCH_NORM_EPS
from yolov7_trt_ros.model.layer_table import check_rows, IMAGE, live_rows, Row

_COUNTER = 'num_batches_tracked'


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
        None where the checkpoint does not tell.

    """

    rows: tuple[Row, ...]
    state: Mapping[str, Tensor]
    anchors: Anchors
    class_names: tuple[str, ...] | None = None


def deploy_form(model: SourceModel, *, fold_batch_norm: bool = True) -> SourceModel:
    """
    Return the same function as a table without auxiliary maps, branches or implicit vectors.

    Arithmetic is done in float64 and the result is float32.

    Raises
    ------
    CheckpointError
        A weight that the table names is missing.

    """
    rows = check_rows(model.rows)
    state = {
        name: value.double() for name, value in model.state.items() if not name.endswith(_COUNTER)
    }
    rows = _fold_head(rows, state, len(model.anchors))
    for index, row in enumerate(rows):
        if row.kind == 'rep_conv':
            _merge_branches(state, f'model.{index}.', row)
    rows = tuple(
        dataclasses.replace(row, kind='conv') if row.kind == 'rep_conv' else row for row in rows
    )
    rows, state = _drop_dead(rows, state)
    if fold_batch_norm:
        _fold_norms(state)
    finished = {name: value.float() for name, value in state.items()}
    return dataclasses.replace(model, rows=rows, state=finished)


def _fold_head(
    rows: tuple[Row, ...], state: dict[str, Tensor], maps: int
) -> tuple[Row, ...]:
    """
    Drop the auxiliary maps; fold the vectors added before and multiplied after the head.

    out = im * (W (x + ia) + b), so W' = im * W and b' = im * (b + W ia).

    """
    name = f'model.{len(rows) - 1}.'
    for level in range(maps):
        weight, bias = (state.get(f'{name}m.{level}.{part}') for part in ('weight', 'bias'))
        if weight is None or bias is None:
            raise CheckpointError(f'the weights {name}m.{level}.weight and .bias are missing')
        shift = state.get(f'{name}ia.{level}.implicit')
        gain = state.get(f'{name}im.{level}.implicit')
        if shift is not None:
            bias = bias + (weight * shift).sum((1, 2, 3))
        if gain is not None:
            weight, bias = weight * gain.reshape(-1, 1, 1, 1), bias * gain.reshape(-1)
        state[f'{name}m.{level}.weight'], state[f'{name}m.{level}.bias'] = weight, bias
    kept = {f'{name}m.{level}.{part}' for level in range(maps) for part in ('weight', 'bias')}
    for other in [key for key in state if key.startswith(name) and key not in kept]:
        del state[other]
    return (*rows[:-1], dataclasses.replace(rows[-1], sources=rows[-1].sources[:maps]))


def _merge_branches(state: dict[str, Tensor], name: str, row: Row) -> None:
    """Merge the three branches of a `rep_conv` into one 3x3 convolution."""
    merged = state.pop(f'{name}rbr_reparam.weight', None)
    if merged is not None:
        state[f'{name}conv.weight'] = merged
        state[f'{name}conv.bias'] = state.pop(f'{name}rbr_reparam.bias')
        return
    try:
        weight, bias = _folded(state, f'{name}rbr_dense.0.weight', f'{name}rbr_dense.1.')
        small, small_bias = _folded(state, f'{name}rbr_1x1.0.weight', f'{name}rbr_1x1.1.')
    except KeyError as exc:
        raise CheckpointError(f'the weight {exc.args[0]} is missing') from exc
    weight = weight + functional.pad(small, [1, 1, 1, 1])
    bias = bias + small_bias
    if f'{name}rbr_identity.weight' in state:
        gain, shift = norm_factors(state, f'{name}rbr_identity.')
        outputs = torch.arange(len(gain))
        weight[outputs, outputs % weight.shape[1], 1, 1] += gain
        bias = bias + shift
    for other in [key for key in state if key.startswith(f'{name}rbr_')]:
        del state[other]
    state[f'{name}conv.weight'], state[f'{name}conv.bias'] = weight, bias


def _folded(state: Mapping[str, Tensor], weight: str, norm: str) -> tuple[Tensor, Tensor]:
    gain, shift = norm_factors(state, norm)
    return state[weight] * gain[:, None, None, None], shift


def norm_factors(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Return what a batch norm multiplies by and adds; KeyError names what is missing."""
    gain = state[f'{name}weight'] / torch.sqrt(state[f'{name}running_var'] + BATCH_NORM_EPS)
    return gain, state[f'{name}bias'] - state[f'{name}running_mean'] * gain


def _drop_dead(
    rows: Sequence[Row], state: Mapping[str, Tensor]
) -> tuple[tuple[Row, ...], dict[str, Tensor]]:
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
        try:
            gain, shift = norm_factors(state, f'{block}bn.')
        except KeyError as exc:
            raise CheckpointError(f'the weight {exc.args[0]} is missing') from exc
        state[weight] = state[weight] * gain[:, None, None, None]
        before = state.get(f'{block}conv.bias')
        state[f'{block}conv.bias'] = shift if before is None else shift + before * gain
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            state.pop(f'{block}bn.{part}', None)
