"""Load a detector from any PyTorch checkpoint of YOLOv7, and save one in a form of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import io
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from yolov7_trt_ros.core.class_names import first_names
from yolov7_trt_ros.errors import CheckpointError, SettingError
from yolov7_trt_ros.model.architecture import Network
from yolov7_trt_ros.model.checkpoint_facts import (
    Fact,
    FoundModel,
    Overrides,
    read_class_names,
    tell_anchors,
    tell_names,
)
from yolov7_trt_ros.model.fold import deploy_form, SourceModel
from yolov7_trt_ros.model.layer_table import check_rows, Row
from yolov7_trt_ros.model.official_model import children, read_official_model, whole_number
from yolov7_trt_ros.model.pickle_names import StandIn
from yolov7_trt_ros.model.state_table import (
    describe_activations,
    describe_rows,
    recognise_state,
    tell_fusing,
)
from yolov7_trt_ros.model.stored_tensor import load_tensors, StoredTensor
from yolov7_trt_ros.model.torch_file import open_torch_file
from yolov7_trt_ros.whole_file import write_whole

FORMAT = 'yolov7_trt_ros network 1'
_ROW_FIELDS = {field.name for field in dataclasses.fields(Row)}
_AVERAGED = ('ema', 'model_ema', 'ema_model', 'ema_state_dict', 'state_dict_ema', 'shadow')
_LAST = ('model', 'state_dict', 'model_state_dict', 'model_state', 'module', 'net', 'network',
         'weights', 'params')
_NAMES = ('names', 'class_names', 'classes')
_WRAPPERS = {'DataParallel': 'module', 'DistributedDataParallel': 'module', 'ModelEMA': 'ema',
             'autoShape': 'model', 'AutoShape': 'model', 'DetectMultiBackend': 'model'}
_MOST_WRAPPERS = 8


@dataclasses.dataclass(frozen=True)
class LoadedCheckpoint:
    """A detector, and what was told of its checkpoint and from what."""

    network: Network
    facts: tuple[Fact, ...]


def load_checkpoint(
    path: Path,
    *,
    batch_norm: Literal['fold', 'keep'] = 'fold',
    overrides: Overrides | None = None,
) -> LoadedCheckpoint:
    """
    Load a detector in deploy form: float32, on the CPU, ready to run; and say what it is.

    Branches are merged, implicit vectors folded and auxiliary maps dropped. Nothing that the file
    holds is run, and the code it was made with is not needed.

    Parameters
    ----------
    path
        An official checkpoint, a plain state_dict under the published names, or a file of
        `save_network`.
    batch_norm
        `keep` leaves batch norms beside their convolutions, for pruning and training.
    overrides
        What takes the place of what the file says or leaves open.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    SettingError
        What is to take the place of what the file says does not fit it.
    CheckpointError
        It is damaged, holds code, or is no YOLOv7 detector.

    """
    overrides = overrides or Overrides()
    with open_torch_file(path) as value:
        found = _find_model(value, overrides)
        _check_overrides(found, overrides, path)
        names = None if overrides.class_names is not None else read_class_names(found.names)
        source = deploy_form(found.source, fold_batch_norm=batch_norm == 'fold')
        _check_finite(source.state)
        facts, num_classes = found.facts, found.num_classes
        del found, value  # the weights as they are stored: they need not stay
        network = Network(source.rows, source.state, overrides.anchors or source.anchors, names)
        _check_classes(network, num_classes)
    if overrides.class_names is not None:
        _rename(network, overrides.class_names, path)
    return LoadedCheckpoint(network, _all_facts(facts, network, overrides, names))


def _all_facts(
    facts: Sequence[Fact], network: Network, overrides: Overrides, names: Sequence[str] | None
) -> tuple[Fact, ...]:
    """Return what was told of a checkpoint with what its network tells."""
    told = {fact.name: fact for fact in facts}
    if 'weights' not in told:
        told = {'weights': Fact('weights', 'the only ones', 'there is but one set')} | told
    if overrides.anchors is not None:
        told['anchors'] = tell_anchors(network.anchors, 'given')
    told['strides'] = Fact('strides', ', '.join(map(str, network.strides)), 'its layers')
    told['class names'] = tell_names(
        overrides.class_names is not None, names, network.class_names
    )
    return tuple(told.values())


def load_network(
    path: Path,
    *,
    batch_norm: Literal['fold', 'keep'] = 'fold',
    class_names: Sequence[str] | None = None,
) -> Network:
    """Return the network of `load_checkpoint` alone; errors as there."""
    return load_checkpoint(
        path, batch_norm=batch_norm, overrides=Overrides(class_names=class_names)
    ).network


def _check_overrides(found: FoundModel, overrides: Overrides, path: Path) -> None:
    """Refuse to overrule what the file says itself."""
    rows, anchors = found.source.rows, overrides.anchors
    facts = {fact.name: fact for fact in found.facts}
    for name, asked in (('table', overrides.table), ('activation', overrides.activation)):
        fact = facts[name]
        if asked is not None and fact.value != asked:
            raise SettingError(
                f'--{name} {asked}: {path} says itself that it is {fact.value} ({fact.source}); '
                f'--{name} is for plain state_dicts, which do not'
            )
    if anchors is not None and len(anchors) != len(found.source.anchors):
        raise SettingError(
            f'{path} has {len(found.source.anchors)} maps ({len(rows)} layers), but there are '
            f'anchors for {len(anchors)}: give three for each map'
        )


def _check_finite(state: Mapping[str, Tensor]) -> None:
    for name, value in state.items():
        if not value.isfinite().all():
            raise CheckpointError(
                f'the weights {name} hold infinite values or NaN: the training failed; take a '
                'checkpoint of an earlier epoch'
            )


def _rename(network: Network, names: Sequence[str], path: Path) -> None:
    if len(names) != network.num_classes:
        raise SettingError(
            f'{path} has {network.num_classes} classes, but there are {len(names)} '
            'class names: give one for each'
        )
    network.class_names = tuple(names)


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


def _find_model(value: Any, overrides: Overrides, depth: int = 0) -> FoundModel:
    """Find the model among what a file holds; the averaged weights (EMA) are preferred."""
    if depth > _MOST_WRAPPERS:
        raise CheckpointError(f'the model is wrapped more than {_MOST_WRAPPERS} times')
    if isinstance(value, StandIn):
        inner = _unwrapped(value)
        if inner is value:
            return read_official_model(value)
        return _find_model(inner, overrides, depth + 1)
    if not isinstance(value, dict):
        kind = 'tensor' if isinstance(value, StoredTensor) else type(value).__name__
        raise CheckpointError(
            f'holds a {kind}; expected a checkpoint of YOLOv7 with ema or model, or a state_dict'
        )
    if 'format' in value:
        return _read_own(value)
    for key in (*_AVERAGED, *_LAST):
        if _may_be_model(value.get(key)):
            found = _find_model(value[key], overrides, depth + 1)
            return _with_names(_with_weights(found, key), value)
    return _find_state(value, overrides)


def _may_be_model(value: object) -> bool:
    return isinstance(value, StandIn) or isinstance(value, dict) and any(
        isinstance(item, (StandIn, StoredTensor)) or isinstance(item, dict) and item
        for item in value.values()
    )


def _unwrapped(model: StandIn) -> Any:
    """Return what a wrapper holds, such as DataParallel; the model itself where it is none."""
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
    """Add which weights were taken, unless that was said."""
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


def _check_classes(network: Network, told: int | None) -> None:
    if told is not None and told != network.num_classes:
        raise CheckpointError(
            f'says that it has {told} classes, but its head has as many values as a detector of '
            f'{network.num_classes}: it finds more than boxes (key points, masks), or it is '
            'damaged'
        )


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
    told = record['format']
    if told != FORMAT:
        shown = repr(told[:60]) if isinstance(told, str) else f'a {type(told).__name__}'
        raise CheckpointError(f'has the format {shown}, expected {FORMAT!r}')
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
        *tell_fusing(stored, False, 'its weights'), tell_anchors(anchors, 'recorded'),
    )
    return FoundModel(SourceModel(rows, load_tensors(stored), anchors), facts, names)


def _read_row(record: Any) -> Row:
    if set(record) != _ROW_FIELDS:
        raise CheckpointError(f'has a layer with the fields {sorted(record)}')
    numbers = [record[name] for name in ('kernel', 'stride', 'groups')]
    if not all(isinstance(number, int) for number in (*numbers, *record['sources'])):
        raise CheckpointError('has a layer whose sizes are no numbers')
    return Row(**{**record, 'sources': tuple(record['sources'])})
