"""Load a detector from any PyTorch checkpoint of YOLOv7, and save one in a form of our own."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import io
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from yolov7_trt_ros.errors import CheckpointError, SettingError
from yolov7_trt_ros.model.architecture import Network
from yolov7_trt_ros.model.fold import deploy_form, SourceModel
from yolov7_trt_ros.model.layer_table import Row
from yolov7_trt_ros.model.official_model import read_official_model
from yolov7_trt_ros.model.restricted_pickle import StandIn
from yolov7_trt_ros.model.state_table import recognise_state
from yolov7_trt_ros.model.torch_file import read_torch_file
from yolov7_trt_ros.whole_file import write_whole

FORMAT = 'yolov7_trt_ros network 1'
_MISFITS = (
    TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError,
)  # what Python and torch raise at values of another type or shape; recursion without end as well
_ROW_FIELDS = {field.name for field in dataclasses.fields(Row)}


def load_network(
    path: Path,
    *,
    batch_norm: Literal['fold', 'keep'] = 'fold',
    class_names: Sequence[str] | None = None,
) -> Network:
    """
    Load a detector in deploy form: float32, on the CPU, ready to run.

    Branches are merged, implicit vectors folded and auxiliary maps dropped. Nothing that the file
    holds is run, and the code it was made with is not needed.

    Parameters
    ----------
    path
        An official checkpoint, a plain state_dict under the published names, or a file of
        `save_network`.
    batch_norm
        `keep` leaves batch norms beside their convolutions, for pruning and training.
    class_names
        Take the place of what the file says.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    SettingError
        There are not as many class names as classes.
    CheckpointError
        It is damaged, holds code, or is no YOLOv7 detector.

    """
    value = read_torch_file(path)
    try:
        source = deploy_form(_find_model(value), fold_batch_norm=batch_norm == 'fold')
        network = Network(source.rows, source.state, source.anchors, source.class_names)
    except CheckpointError as exc:
        raise CheckpointError(f'{path}: {exc}') from exc.__cause__
    except _MISFITS as exc:
        reason = str(exc).strip().split('\n')[0][:200] or type(exc).__name__
        raise CheckpointError(
            f'{path}: is damaged, or no YOLOv7 detector: its parts do not fit together ({reason})'
        ) from exc
    if class_names is not None:
        if len(class_names) != network.num_classes:
            raise SettingError(
                f'{path} has {network.num_classes} classes, but there are {len(class_names)} '
                'class names: give one for each'
            )
        network.class_names = tuple(class_names)
    return network


def save_network(network: Network, path: Path) -> None:
    """
    Save a network so that `load_network` gives the same again; channels follow from the weights.

    Raises
    ------
    OSError
        The disk is full or the folder cannot be written; no part of the file is left.

    """
    state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    record = {
        'format': FORMAT,
        'rows': [dataclasses.asdict(row) for row in network.rows],
        'state': state,
        'anchors': network.anchors,
        'class_names': list(network.class_names),
    }
    buffer = io.BytesIO()
    torch.save(record, buffer)
    write_whole(path, buffer.getvalue())


def _find_model(value: Any) -> SourceModel:
    """Find the model among what a file holds; the averaged weights (EMA) are preferred."""
    if isinstance(value, StandIn):
        return read_official_model(value)
    if not isinstance(value, dict):
        raise CheckpointError(f'holds a {type(value).__name__}, expected a checkpoint of YOLOv7')
    if 'format' in value:
        return _read_own(value)
    for key in ('ema', 'model', 'state_dict'):
        if value.get(key) is not None:
            return _find_model(value[key])
    if value and all(isinstance(key, str) and isinstance(item, Tensor)
                     for key, item in value.items()):
        return recognise_state(value)
    names = ', '.join(sorted(map(str, value))[:8]) or 'nothing'
    raise CheckpointError(
        f'holds {names}; expected a checkpoint of YOLOv7 with ema or model, or a state_dict'
    )


def _read_own(record: dict[Any, Any]) -> SourceModel:
    if record['format'] != FORMAT:
        raise CheckpointError(f'has the format {record["format"]!r}, expected {FORMAT!r}')
    try:
        rows = tuple(_read_row(row) for row in record['rows'])
        anchors = tuple(
            tuple((float(width), float(height)) for width, height in sizes)
            for sizes in record['anchors']
        )
        names = tuple(str(name) for name in record['class_names'])
        state = {str(name): value for name, value in record['state'].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise CheckpointError(f'is a damaged network file: {exc!r}') from exc
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError('is a damaged network file: a weight is no tensor')
    return SourceModel(rows, state, anchors, names)


def _read_row(record: Any) -> Row:
    if set(record) != _ROW_FIELDS:
        raise CheckpointError(f'has a layer with the fields {sorted(record)}')
    numbers = [record[name] for name in ('kernel', 'stride', 'groups')]
    if not all(isinstance(number, int) for number in (*numbers, *record['sources'])):
        raise CheckpointError('has a layer whose sizes are no numbers')
    return Row(**{**record, 'sources': tuple(record['sources'])})
