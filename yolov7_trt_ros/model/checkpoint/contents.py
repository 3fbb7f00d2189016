"""Find the model in the contents of a checkpoint: key, wrapper and form."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from yolov7_trt_ros.core.class_names import first_names
from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.checkpoint.facts import anchors_fact, Fact, FoundModel, Overrides
from yolov7_trt_ros.model.checkpoint.official_model import read_official_model
from yolov7_trt_ros.model.checkpoint.pickle_names import StandIn
from yolov7_trt_ros.model.checkpoint.pickled_modules import children, whole_number
from yolov7_trt_ros.model.checkpoint.state_table import (
    describe_activations,
    describe_rows,
    fusing_facts,
    recognise_state,
)
from yolov7_trt_ros.model.checkpoint.stored_tensor import load_tensors, StoredTensor
from yolov7_trt_ros.model.network.fold import SourceModel
from yolov7_trt_ros.model.network.layer_table import check_rows, LayerRow

FORMAT = 'yolov7_trt_ros network 1'
_ROW_FIELDS = {field.name for field in dataclasses.fields(LayerRow)}
_AVERAGED = ('ema', 'model_ema', 'ema_model', 'ema_state_dict', 'state_dict_ema', 'shadow')
_LAST = ('model', 'state_dict', 'model_state_dict', 'model_state', 'module', 'net', 'network',
         'weights', 'params')
_NAMES = ('names', 'class_names', 'classes')
_WRAPPERS = {'DataParallel': 'module', 'DistributedDataParallel': 'module', 'ModelEMA': 'ema',
             'autoShape': 'model', 'AutoShape': 'model', 'DetectMultiBackend': 'model'}
_MOST_WRAPPERS = 8


def find_model(value: Any, overrides: Overrides, depth: int = 0) -> FoundModel:
    """
    Find the model among what a file holds; the averaged weights (EMA) are preferred.

    Raises
    ------
    CheckpointError
        There is none, or it is no YOLOv7 detector.
    SettingError
        A table is asked for that there is not.

    """
    if depth > _MOST_WRAPPERS:
        raise CheckpointError(f'the model is wrapped more than {_MOST_WRAPPERS} times')
    if isinstance(value, StandIn):
        inner = _unwrapped(value)
        if inner is value:
            return read_official_model(value)
        return find_model(inner, overrides, depth + 1)
    if not isinstance(value, dict):
        kind = 'tensor' if isinstance(value, StoredTensor) else type(value).__name__
        raise CheckpointError(
            f'holds a {kind}; expected a checkpoint of YOLOv7 with ema or model, or a state_dict'
        )
    if value.get('format') == FORMAT:
        return _read_own(value)
    for key in (*_AVERAGED, *_LAST):
        if _may_be_model(value.get(key)):
            found = find_model(value[key], overrides, depth + 1)
            return _with_names(_with_weights(found, key), value)
    if isinstance(value.get('format'), str):
        raise CheckpointError(f'has the format {value["format"][:60]!r}, expected {FORMAT!r}')
    return _find_state(value, overrides)


def _may_be_model(value: object) -> bool:
    return isinstance(value, StandIn) or isinstance(value, dict) and any(
        isinstance(item, (StandIn, StoredTensor)) or isinstance(item, dict) and item
        for item in value.values()
    )


def _unwrapped(model: StandIn) -> Any:
    """Return what a wrapper holds, such as DataParallel; the model itself if it is none."""
    kind = model.path.rpartition('.')[2]
    if kind == 'Ensemble':
        members = list(children(model).values())
        if len(members) != 1:
            raise CheckpointError(
                f'holds an ensemble of {len(members)} models; give one of their checkpoints'
            )
        return members[0]
    if kind == 'TracedModel':
        raise CheckpointError(
            'holds a traced model, whose layers are compiled code; give the checkpoint that it '
            'was traced from'
        )
    if kind not in _WRAPPERS:
        return model
    name = _WRAPPERS[kind]
    inner = children(model).get(name) or model.state.get(name)
    if not isinstance(inner, StandIn):
        raise CheckpointError(f'holds a {kind} without a model in it')
    return inner


def _with_weights(found: FoundModel, key: str) -> FoundModel:
    """Add a fact about the weights taken, unless there is one."""
    if any(fact.name == 'weights' for fact in found.facts):
        return found
    if key in _AVERAGED:
        fact = Fact('weights', 'averaged (EMA)', f'its entry {key}')
    else:
        fact = Fact('weights', f'its entry {key}', 'there is no ema: at the end of a training the '
                    'averaged ones are put here')
    return dataclasses.replace(found, facts=(fact, *found.facts))


def _with_names(found: FoundModel, record: Mapping[Any, Any]) -> FoundModel:
    """Add what stands beside the model and is not in it: names and number of its classes."""
    if found.num_classes is None:
        found = dataclasses.replace(found, num_classes=whole_number(record.get('nc')))
    beside = [record[name] for name in _NAMES if record.get(name) is not None]
    if found.names is not None or not beside:
        return found
    return dataclasses.replace(found, names=beside[0])


def _find_state(record: dict[Any, Any], overrides: Overrides) -> FoundModel:
    """Read a plain state_dict; class names may stand among the weights."""
    stored = {
        name: value for name, value in record.items()
        if isinstance(name, str) and isinstance(value, StoredTensor)
    }
    others = [str(name)[:40] for name in record if _is_plain(name) and name not in stored]
    if not stored or any(isinstance(record.get(name), StandIn) for name in others):
        raise CheckpointError(
            f'holds {first_names(sorted(others), 8) or "nothing"}; expected a checkpoint of '
            'YOLOv7 with ema or model, or a state_dict'
        )
    found = recognise_state(stored, overrides)
    facts = found.facts
    left = [name for name in others if name not in (*_NAMES, 'nc')]
    if left:
        facts = (*facts, Fact('left aside', first_names(left, 8), 'no weights of the model'))
    return _with_names(dataclasses.replace(found, facts=facts), record)


def _is_plain(name: object) -> bool:
    return isinstance(name, (str, int, float))


def _read_own(record: dict[Any, Any]) -> FoundModel:
    try:
        rows = tuple(_read_row(row) for row in record['rows'])
        anchors = tuple(
            tuple((float(width), float(height)) for width, height in sizes)
            for sizes in record['anchors']
        )
        names = record['class_names']
        stored = dict(record['state'].items())
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise CheckpointError(f'is a damaged network file: {exc!r}') from exc
    if not all(isinstance(each, StoredTensor) for each in stored.values()):
        raise CheckpointError('is a damaged network file: a weight is no tensor')
    check_rows(rows)
    facts = (
        Fact('weights', 'the only ones', 'a network file of this program'),
        Fact('table', describe_rows(rows), 'recorded'),
        Fact('activation', describe_activations(rows), 'recorded'),
        *fusing_facts(stored, False, 'its weights'), anchors_fact(anchors, 'recorded'),
    )
    return FoundModel(SourceModel(rows, load_tensors(stored), anchors), facts, names)


def _read_row(record: Any) -> LayerRow:
    if set(record) != _ROW_FIELDS:
        raise CheckpointError(f'has a layer with the fields {sorted(record)}')
    numbers = [record[name] for name in ('kernel', 'stride', 'groups')]
    if not all(isinstance(number, int) for number in (*numbers, *record['sources'])):
        raise CheckpointError('has a layer whose sizes are no numbers')
    return LayerRow(**{**record, 'sources': tuple(record['sources'])})
