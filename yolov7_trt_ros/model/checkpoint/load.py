"""Load a network from any PyTorch checkpoint of YOLOv7, and save one in our own format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import io
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.errors import CheckpointError, SettingError
from yolov7_trt_ros.model.checkpoint.contents import find_model, FORMAT
from yolov7_trt_ros.model.checkpoint.facts import (
    anchors_fact,
    Fact,
    FoundModel,
    names_fact,
    Overrides,
    read_class_names,
)
from yolov7_trt_ros.model.checkpoint.torch_file import open_torch_file
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.fold import deploy_form


@dataclasses.dataclass(frozen=True)
class LoadedCheckpoint:
    """A network, and the facts about its checkpoint with their sources."""

    network: Network
    facts: tuple[Fact, ...]


def load_checkpoint(
    path: Path,
    *,
    batch_norm: Literal['fold', 'keep'] = 'fold',
    overrides: Overrides | None = None,
) -> LoadedCheckpoint:
    """
    Load a network in deploy form (float32, on the CPU), with the facts about its checkpoint.

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
        Values that override the file or fill its gaps.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    SettingError
        An override does not fit the file.
    CheckpointError
        It is damaged, holds code, or is no YOLOv7 detector.

    """
    overrides = overrides or Overrides()
    with open_torch_file(path) as value:
        found = find_model(value, overrides)
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
    """Return the facts about a checkpoint, completed from its network."""
    by_name = {fact.name: fact for fact in facts}
    if 'weights' not in by_name:
        by_name = {'weights': Fact('weights', 'the only ones', 'the only set')} | by_name
    if overrides.anchors is not None:
        by_name['anchors'] = anchors_fact(network.anchors, 'given')
    by_name['strides'] = Fact('strides', ', '.join(map(str, network.strides)), 'its layers')
    by_name['class names'] = names_fact(
        overrides.class_names is not None, names, network.class_names
    )
    return tuple(by_name.values())


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
    """Refuse to override what the file states."""
    rows, anchors = found.source.rows, overrides.anchors
    facts = {fact.name: fact for fact in found.facts}
    for name, asked in (('table', overrides.table), ('activation', overrides.activation)):
        fact = facts[name]
        if asked is not None and fact.value != asked:
            raise SettingError(
                f'--{name} {asked}: {path} states that it is {fact.value} ({fact.source}); '
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


def _check_classes(network: Network, recorded: int | None) -> None:
    if recorded is not None and recorded != network.num_classes:
        raise CheckpointError(
            f'says that it has {recorded} classes, but its head has as many values as a detector '
            f'of {network.num_classes}: it finds more than boxes (key points, masks), or it is '
            'damaged'
        )


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
    atomic_write(path, buffer.getvalue())
