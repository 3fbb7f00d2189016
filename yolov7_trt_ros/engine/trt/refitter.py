"""Refit a loaded engine with other weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.engine.trt.api import TrtApi, TrtEngine
from yolov7_trt_ros.errors import RefitError

_SHOWN = 3


def refit_engine(
    api: TrtApi, engine: TrtEngine, model: bytes, weights: Mapping[str, NDArray[Any]],
    changed: Mapping[str, NDArray[Any]],
) -> None:
    """
    Exchange the weights of an engine that is not running; after an error it is unusable.

    TensorRT 10 and later reads them from the model itself, and so knows those that it has made of
    several. Before, those that have changed are set by their names, which are those of the model's
    stored tensors, and then what TensorRT has combined with them.

    Parameters
    ----------
    api, engine
        The engine, and the TensorRT that has loaded it.
    model, weights
        The new model as TensorRT would parse it for a build, and its stored tensors by name.
    changed
        Those of them that are not what the engine has.

    Raises
    ------
    RefitError
        TensorRT does not take them all.

    """
    api.messages.clear()
    refitter = engine.new_refitter()
    known = {str(name) for name in refitter.get_all_weights()}
    if fixed := sorted(set(changed) - known):
        raise RefitError(f'TensorRT has built {listed(fixed, _SHOWN)} into the plan')
    kept: list[Any] = []  # TensorRT reads them at the end
    if api.refits_by_parser:
        kept.append(_parse(api, refitter, model))
    else:
        kept += _set_by_name(api, refitter, changed)
        beside = known & set(map(str, refitter.get_missing_weights())) & set(weights)
        kept += _set_by_name(api, refitter, {name: weights[name] for name in beside})
    if missing := sorted(map(str, refitter.get_missing_weights())):
        raise RefitError(f'TensorRT needs {listed(missing, _SHOWN)} too, which the model lacks')
    if not refitter.refit_cuda_engine():
        raise RefitError(f'TensorRT cannot refit the plan: {api.messages.last() or "no reason"}')


def _parse(api: TrtApi, refitter: Any, model: bytes) -> Any:
    parser = api.module.OnnxParserRefitter(refitter, api.logger)
    if not parser.refit_from_bytes(model):
        errors = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        raise RefitError(
            'TensorRT does not take the weights of the model: '
            + ('; '.join(errors[:_SHOWN]) or api.messages.last() or 'no reason given')
        )
    return parser


def _set_by_name(
    api: TrtApi, refitter: Any, weights: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    kept = []
    for name, values in weights.items():
        array = np.asarray(values, order='C')
        kept.append(array)
        if not refitter.set_named_weights(name, api.module.Weights(array)):
            raise RefitError(
                f'TensorRT does not take the weights {name}: '
                + (api.messages.last() or 'no reason given')
            )
    return kept
