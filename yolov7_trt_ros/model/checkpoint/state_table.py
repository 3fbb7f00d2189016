"""Find the layer table of a plain state_dict by names and shapes; report what is assumed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
import re

from yolov7_trt_ros.errors import CheckpointError, SettingError
from yolov7_trt_ros.model.checkpoint.facts import (
    anchors_fact,
    Fact,
    FoundModel,
    Overrides,
    read_anchors,
)
from yolov7_trt_ros.model.checkpoint.foreign_checkpoint import describe_weights
from yolov7_trt_ros.model.checkpoint.stored_tensor import load_tensors, StoredTensor
from yolov7_trt_ros.model.network.blocks import BATCH_NORM_EPS, DOWN_CONVS, PYRAMID_CONVS
from yolov7_trt_ros.model.network.fold import check_head_weights, SourceModel
from yolov7_trt_ros.model.network.foreign_heads import describe_head_weight
from yolov7_trt_ros.model.network.layer_table import head_strides, LayerRow
from yolov7_trt_ros.model.network.published import PUBLISHED, published_table, PublishedTable

_NAME = re.compile(r'((?:[A-Za-z_]\w*\.)*?)(\d{1,4})\.(.+)')
"""Prefix, row and the rest of a weight's name; `model.` before the row is the published prefix."""
_FILLERS = ('total_ops', 'total_params')

Stored = Mapping[str, StoredTensor]


def recognise_state(stored: Stored, overrides: Overrides) -> FoundModel:
    """
    Find the published table that a state_dict belongs to.

    A state_dict has no activations: the published ones are taken, and marked as assumed.
    Channels may differ from the published ones. Implicit vectors beside not one batch norm are
    left behind by fusing, and in the convolutions of the head already.

    Raises
    ------
    CheckpointError
        The names are not those of YOLOv7, the head is another, no table has these layers, or only
        a part of the layers is fused.
    SettingError
        There is no such table.

    """
    prefix, plain = _published_names(stored)
    _check_head(plain)
    tables = _fitting_tables(plain, overrides.table)
    table = tables[0]
    rows = table.rows
    if overrides.activation is not None:
        rows = tuple(_with_activation(row, overrides.activation) for row in rows)
    is_fused = _judge_fusing(rows, plain)
    state = load_tensors(plain)
    head = f'model.{len(rows) - 1}.'
    buffers = {
        name: state[head + name] for name in ('anchors', 'anchor_grid') if head + name in state
    }
    anchors, anchors_from = read_anchors(buffers, head_strides(rows)[:len(table.anchors)])
    facts = [
        _tell_table(table, overrides, prefix), _tell_activation(rows, tables, overrides),
        *fusing_facts(
            plain, is_fused,
            'implicit vectors without one batch norm' if is_fused else 'its batch norms',
        ),
        anchors_fact(anchors, anchors_from) if anchors else anchors_fact(
            table.anchors, f'a state_dict without anchors; those of {table.name}. --anchors takes '
            'others', is_assumed=True),
    ]
    if _norms(plain):
        facts.append(Fact('epsilon', f'{BATCH_NORM_EPS:g}', "that of YOLOv7's batch norms", True))
    source = SourceModel(rows, state, anchors or table.anchors, is_fused=is_fused)
    return FoundModel(source, tuple(facts))


# ---- names


def _published_names(stored: Stored) -> tuple[str, dict[str, StoredTensor]]:
    """Return the prefix that all names have, and the weights under their published names."""
    plain, prefixes = {}, dict[str, str]()
    for name, value in stored.items():
        if name.endswith(_FILLERS):
            continue
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise CheckpointError(describe_weights(stored) or (
                f'the weights are called {name[:60]!r} and so on; expected the names of YOLOv7, '
                'model.<layer>.conv.weight'
            ))
        prefixes.setdefault(parts[1], name)
        plain[f'model.{int(parts[2])}.{parts[3]}'] = value
    if len(prefixes) != 1:
        raise CheckpointError(describe_weights(stored) or (
            'the weights have several prefixes, so that they are those of several models or of '
            f'another one: {", ".join(name[:60] for name in list(prefixes.values())[:3])}; '
            'expected model.<layer>.conv.weight throughout'
            if prefixes else 'a state_dict without weights'
        ))
    return next(iter(prefixes)), plain


def _last_row(names: Collection[str]) -> int:
    return max(int(name.split('.')[1]) for name in names)


def _check_head(state: Stored) -> None:
    """Refuse heads recognised by their weights, before layers are compared."""
    head = f'model.{_last_row(state)}.'
    below = [name.removeprefix(head) for name in state if name.startswith(head)]
    for name in below:
        reason = describe_head_weight(name) or describe_weights([head + name])
        if reason:
            raise CheckpointError(reason)
    if 'm.0.weight' in below:
        check_head_weights(below)


# ---- the table


def _fitting_tables(state: Stored, asked: str | None) -> list[PublishedTable]:
    """Return the tables whose layers a state has, or the one that was asked for."""
    if asked is not None and asked not in PUBLISHED:
        raise SettingError(f'--table must be one of {", ".join(PUBLISHED)}, got {asked!r}')
    last = _last_row(state)
    reasons, found = [], []
    for name in PUBLISHED if asked is None else (asked,):
        table = published_table(name)
        if len(table.rows) - 1 != last:
            reasons += [f'{name} has {len(table.rows)}'] if asked else []
            continue
        fault = _find_misfit(table, state)
        if fault is None:
            found.append(table)
        else:
            reasons.append(f'{name}: {fault}')
    if found:
        return found
    raise CheckpointError(describe_weights(state) or (
        f'weights of {last + 1} layers fit no published table'
        + (f' ({"; ".join(reasons)})' if reasons else f' ({", ".join(PUBLISHED)})')
        + '. Give the whole checkpoint, which holds its own table'
    ))


def _find_misfit(table: PublishedTable, state: Stored) -> str | None:
    """Return the first layer whose weights are missing or of another kernel, None if all fit."""
    for index, row in enumerate(table.rows):
        for names, kernel in _wanted(row, len(table.anchors)):
            found = [state[full] for name in names if (full := f'model.{index}.{name}') in state]
            if not found:
                return f'layer {index} lacks {names[0]}'
            if len(found[0].shape) != 4 or found[0].shape[2:] != (kernel, kernel):
                return f'layer {index} has a {names[0]} of {found[0].shape}'
    return None


def _wanted(row: LayerRow, maps: int) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the weights of a row, each by the names it may have, and its kernel."""
    if row.kind == 'conv':
        yield ('conv.weight',), row.kernel
    elif row.kind == 'rep_conv':
        yield ('rbr_dense.0.weight', 'rbr_reparam.weight'), row.kernel
    elif row.kind in ('pyramid', 'down'):
        kernels = PYRAMID_CONVS if row.kind == 'pyramid' else DOWN_CONVS
        for number, kernel in enumerate(kernels, 1):
            yield (f'cv{number}.conv.weight',), kernel
    elif row.kind == 'detect':
        for level in range(maps):
            yield (f'm.{level}.weight',), 1


def _with_activation(row: LayerRow, activation: str) -> LayerRow:
    if row.activation == 'identity':
        return row
    return dataclasses.replace(row, activation=activation)


# ---- what is fused


def _blocks(state: Collection[str]) -> list[str]:
    """Return the names of all convolutions that a batch norm follows until they are fused."""
    ends = ('.conv.weight', '.rbr_dense.0.weight', '.rbr_1x1.0.weight', '.rbr_reparam.weight')
    return [name for name in state if name.endswith(ends)]


def _norms(state: Collection[str]) -> list[str]:
    return [name for name in state if name.endswith('.running_mean')]


def _vectors(state: Collection[str]) -> list[str]:
    return [name for name in state if re.search(r'\.i[am]\.\d+\.implicit$', name)]


def _judge_fusing(rows: Sequence[LayerRow], state: Collection[str]) -> bool:
    """Tell whether the implicit vectors are in the head already; refuse what could be both."""
    bare = [name for name in _blocks(state) if not _norm_of(name) & set(state)]
    wanted = {
        f'model.{index}.{name}' for index, row in enumerate(rows) if row.kind != 'detect'
        for names, _ in _wanted(row, 0) for name in names
    }
    lost = [
        name for name in bare
        if name in wanted and f'{name.removesuffix("weight")}bias' not in state
    ]
    if lost:
        raise CheckpointError(
            f'{len(lost)} convolutions have neither a batch norm nor a bias, the first is '
            f'{lost[0]}: a part of the weights is missing'
        )
    if not _vectors(state) or not bare:
        return False
    if _norms(state):
        raise CheckpointError(
            f'{len(bare)} convolutions are fused with their batch norms and {len(_norms(state))} '
            'are not, so that it is unknown whether the implicit vectors of the head (ia, im) '
            'are in its weights already; give the whole checkpoint, or the state_dict from before '
            'it was fused'
        )
    return True


def _norm_of(weight: str) -> set[str]:
    """Return how the mean of the batch norm behind a convolution would be called."""
    if weight.endswith('.0.weight'):
        return {f'{weight.removesuffix("0.weight")}1.running_mean'}
    return {f'{weight.removesuffix("conv.weight")}bn.running_mean'}


def fusing_facts(state: Collection[str], is_fused: bool, source: str) -> list[Fact]:
    """Return what is fused already, what is folded now, and what is left aside."""
    norms, vectors = len(_norms(state)), len(_vectors(state))
    bare = len(_blocks(state)) - norms
    if norms:
        value = f'{"partly" if bare > 0 else "no"}, {norms} batch norms'
    else:
        value = 'yes, no batch norms'
    if vectors and is_fused:
        value += f'; {vectors} implicit vectors are in the head already'
    elif vectors:
        value += f' and {vectors} implicit vectors to fold'
    facts = [Fact('fused', value, source)]
    maps = sum(bool(re.search(r'\.m2\.\d+\.weight$', name)) for name in state)
    if maps:
        facts.append(Fact('auxiliary maps', f'{maps}, dropped', 'its head'))
    return facts


# ---- facts about it


def describe_rows(rows: Sequence[LayerRow]) -> str:
    """Return the name of the published table that a network has, or that it has its own."""
    for with_activations in (True, False):
        wanted = [_signature(row, with_activations) for row in rows]
        for name in PUBLISHED:
            table = published_table(name).rows
            if wanted == [_signature(row, with_activations) for row in table]:
                return name + (', with other activations' if not with_activations else '')
    return f'its own, of {len(rows)} layers'


def _signature(row: LayerRow, with_activation: bool) -> tuple[object, ...]:
    kind = 'conv' if row.kind == 'rep_conv' else row.kind
    activation = row.activation if with_activation else ''
    return kind, row.sources, row.kernel, row.stride, row.groups, activation


def describe_activations(rows: Sequence[LayerRow]) -> str:
    """Return the activations of the layers, the most frequent first."""
    used = [row.activation for row in rows if row.activation != 'identity']
    return ', '.join(sorted(set(used), key=used.count, reverse=True)) or 'none'


def _tell_table(table: PublishedTable, overrides: Overrides, prefix: str) -> Fact:
    source = 'given; its weights fit' if overrides.table else (
        'names and shapes of its weights; its connections are taken as published')
    if prefix != 'model.':
        source += f', which begin with {prefix[:40]!r}'
    return Fact('table', table.name, source)


def _tell_activation(
    rows: Sequence[LayerRow], tables: Sequence[PublishedTable], overrides: Overrides
) -> Fact:
    value = describe_activations(rows)
    if overrides.activation is not None:
        return Fact('activation', value, 'given')
    if overrides.table is not None:
        return Fact('activation', value, f'that of the table given, {tables[0].name}')
    source = f'not stored in a state_dict; that of {tables[0].name}'
    for other in tables[1:]:
        source += (f'. The weights fit {other.name} as well: --activation '
                   f'{describe_activations(other.rows)} takes that')
    return Fact('activation', value, source, is_assumed=True)
