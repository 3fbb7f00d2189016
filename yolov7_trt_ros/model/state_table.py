"""Tell the layer table of a plain state_dict from its names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import re

from torch import Tensor

from yolov7_trt_ros.core.model_spec import Anchors
from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.blocks import DOWN_CONVS, PYRAMID_CONVS
from yolov7_trt_ros.model.fold import SourceModel
from yolov7_trt_ros.model.layer_table import Row
from yolov7_trt_ros.model.published import PUBLISHED, published_table, PublishedTable

_NAME = re.compile(r'model\.(\d+)\.\w')
_FILLERS = ('total_ops', 'total_params')


def recognise_state(state: Mapping[str, Tensor]) -> SourceModel:
    """
    Find the published table that a state_dict belongs to.

    The weights of yolov7-tiny do not tell its activation: the published one, a leaky ReLU, is
    taken. Channels may differ from the published ones.

    Raises
    ------
    CheckpointError
        The names are not those of YOLOv7, or no table has these layers.

    """
    plain = {
        name.removeprefix('module.'): value
        for name, value in state.items() if not name.endswith(_FILLERS)
    }
    foreign = next((name for name in plain if not _NAME.match(name)), None)
    if foreign is not None or not plain:
        raise CheckpointError(
            f'the weights are called {foreign!r} and so on; expected the names of YOLOv7, '
            'model.<layer>.conv.weight'
        )
    numbers = {int(name.split('.')[1]) for name in plain}
    reasons = []
    for name in PUBLISHED:
        table = published_table(name)
        if len(table.rows) - 1 != max(numbers):
            continue
        fault = _find_misfit(table, plain)
        if fault is None:
            return SourceModel(table.rows, plain, _anchors(table, plain))
        reasons.append(f'{name}: {fault}')
    raise CheckpointError(
        f'weights of {max(numbers) + 1} layers fit no published table'
        + (f' ({"; ".join(reasons)})' if reasons else f' ({", ".join(PUBLISHED)})')
        + '. Give the whole checkpoint, which holds its own table'
    )


def _find_misfit(table: PublishedTable, state: Mapping[str, Tensor]) -> str | None:
    """Return the first layer whose weights are missing or of another kernel, None if all fit."""
    for index, row in enumerate(table.rows):
        for names, kernel in _wanted(row, len(table.anchors)):
            found = [state[full] for name in names if (full := f'model.{index}.{name}') in state]
            if not found:
                return f'layer {index} lacks {names[0]}'
            if found[0].ndim != 4 or tuple(found[0].shape[2:]) != (kernel, kernel):
                return f'layer {index} has a {names[0]} of {tuple(found[0].shape)}'
    return None


def _wanted(row: Row, maps: int) -> Iterator[tuple[tuple[str, ...], int]]:
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


def _anchors(table: PublishedTable, state: Mapping[str, Tensor]) -> Anchors:
    """Return the state's own anchors in network pixels, else the published ones."""
    grid = state.get(f'model.{len(table.rows) - 1}.anchor_grid')
    if grid is None or grid.ndim != 6 or len(grid) != len(table.anchors):
        return table.anchors
    maps = grid.float().flatten(1, 4).tolist()
    return tuple(tuple((width, height) for width, height in sizes) for sizes in maps)
