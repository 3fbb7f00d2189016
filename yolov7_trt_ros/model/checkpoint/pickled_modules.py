"""Walk through pickled torch modules: sub-modules, parameters and buffers of stand-ins."""

from __future__ import annotations

from collections.abc import Sequence

from yolov7_trt_ros.errors import CheckpointError
from yolov7_trt_ros.model.checkpoint.pickle_names import StandIn
from yolov7_trt_ros.model.checkpoint.stored_tensor import StoredTensor
from yolov7_trt_ros.model.network.blocks import BATCH_NORM_EPS

_MOST_MODULES, _MOST_NESTED = 20_000, 20


def children(owner: StandIn) -> dict[str, StandIn]:
    """Return the sub-modules of a stand-in, in their order."""
    found = owner.state.get('_modules')
    if not isinstance(found, dict):
        return {}
    return {
        str(name): value for name, value in found.items() if isinstance(value, StandIn)
    }


def child(owner: StandIn, name: str) -> StandIn:
    """Return one sub-module; raises CheckpointError if it is not there."""
    found = children(owner).get(name)
    if found is None:
        raise CheckpointError(
            f'a {owner.path} in the checkpoint has no {name}: expected the layers of YOLOv7'
        )
    return found


def collect_tensors(layers: Sequence[StandIn]) -> tuple[dict[str, StoredTensor], dict[str, float]]:
    """
    Return every parameter and buffer, and what brings batch norms to one epsilon.

    The latter is by the name of a variance, to be added to it.

    """
    stored: dict[str, StoredTensor] = {}
    shifts: dict[str, float] = {}
    waiting = [(f'model.{index}.', layer) for index, layer in enumerate(layers)]
    for count, (name, owner) in enumerate(waiting):
        if count > _MOST_MODULES or name.count('.') > _MOST_NESTED:
            raise CheckpointError(
                f'the model has more than {_MOST_MODULES} modules, or modules nested more than '
                f'{_MOST_NESTED} deep'
            )
        held = {**(owner.state.get('_parameters') or {}), **(owner.state.get('_buffers') or {})}
        for key, value in held.items():
            if isinstance(value, StoredTensor) and key not in ('total_ops', 'total_params'):
                stored[f'{name}{key}'] = value
        if f'{name}running_var' in stored:
            shifts[f'{name}running_var'] = _epsilon(owner) - BATCH_NORM_EPS
        waiting += [(f'{name}{key}.', module) for key, module in children(owner).items()]
    return stored, shifts


def _epsilon(norm: StandIn) -> float:
    epsilon = norm.state.get('eps', BATCH_NORM_EPS)
    if not isinstance(epsilon, (int, float)) or not 0 <= epsilon < 1:
        raise CheckpointError(f'a batch norm has no epsilon: a {type(epsilon).__name__}')
    return epsilon


def whole_number(value: object) -> int | None:
    """Return a count stated in a file; None if it states none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
