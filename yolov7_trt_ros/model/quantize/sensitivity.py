"""Rank convolutions by the error that each causes when quantised alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.model.quantize.calibration import Calibration
from yolov7_trt_ros.model.quantize.qdq import quantise
from yolov7_trt_ros.onnx_tools.graph import FloatModel
from yolov7_trt_ros.onnx_tools.tensor_session import TensorSession


def rank_convs(
    model: FloatModel,
    calibration: Calibration,
    blobs: Sequence[NDArray[np.float32]],
    *,
    method: str,
    kept: Collection[str],
    weight_range: str = 'max',
    threads: int = 0,
    advance: Callable[[], Any] = lambda: None,
) -> list[tuple[str, float]]:
    """
    Quantise one convolution at a time and return their names and errors, worst first.

    The error is that of the heads' raw maps: its mean square over that of the maps themselves,
    the mean of all maps and pictures. A few pictures are enough to find the worst.

    Parameters
    ----------
    model, calibration, method, weight_range
        As `quantise` takes them.
    blobs
        Network inputs (1, 3, H, W).
    kept
        Convolutions that stay float anyway; they are not ranked.
    threads
        CPU threads; 0 takes one per core that this process may use.
    advance
        Called after each convolution.

    """
    maps = [model.nodes[name].output[0] for name in model.heads]
    session = TensorSession(model.model, maps, threads=threads)
    wanted = [session.run(blob) for blob in blobs]
    errors: dict[str, float] = {}
    for conv in model.convs:
        if conv in kept:
            continue
        others = [name for name in model.convs if name != conv]
        changed = quantise(
            model, calibration, method=method, kept=others, weight_range=weight_range
        )
        session = TensorSession(changed, maps, threads=threads)
        found = [session.run(blob) for blob in blobs]
        errors[conv] = _relative_error(wanted, found)
        advance()
    return sorted(errors.items(), key=lambda item: -item[1])


def _relative_error(
    wanted: Sequence[dict[str, NDArray[np.float32]]],
    found: Sequence[dict[str, NDArray[np.float32]]],
) -> float:
    errors = []
    for left, right in zip(wanted, found, strict=True):
        for name, values in left.items():
            power = float(np.mean(np.square(values, dtype=np.float64)))
            error = float(np.mean(np.square(values - right[name], dtype=np.float64)))
            errors.append(error / power if power else error)
    return float(np.mean(errors))
