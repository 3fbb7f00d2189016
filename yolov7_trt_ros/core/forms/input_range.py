"""Detect models that expect pixels of 0..255 rather than 0..1, which they get here."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.grid_values import count_rows
from yolov7_trt_ros.core.forms.map_forms import cells_of
from yolov7_trt_ros.core.forms.model_forms import Values
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout
from yolov7_trt_ros.errors import ModelLayoutError

_BRIGHTER = 4.0
_MOST_GROWTH = 3.0
"""
Of the change of the boxes' sizes under light that is `_BRIGHTER` times as strong. Models of 0..1
had 0.8 to 1.7, also with mean and deviation of 0..1 taken out inside (1.9). The same models had
3.8 to 14 after a division by 255, where they are almost linear, and 3.8 to 8.3 with mean and
deviation of 0..255 (YOLOX-Nano, YOLOv5n, yolov7-nano, yolov7-tiny, at 320; without mean and
deviation also at 640).
"""
_LEAST_CHANGE = 1e-5
"""In logarithms of sizes; with less a model does not look at the picture at all."""

_LEAST_SIZE_PX = 1e-3
_FINISHED = (OutputLayout.END2END_TRT, OutputLayout.END2END_ORT)
_CURE = (
    'pictures are given as RGB within 0..1 here: export it with its division by 255 taken out'
)


def check_input_range(
    spec: ModelSpec, network_wh: tuple[int, int], run: Callable[[float], Values]
) -> ModelSpec:
    """
    Return the spec, with a doubt if the model seems to expect pictures of 0..255.

    A grid of one anchor a cell is the form of YOLOX, whose own exports expect those: it is
    refused. Models with suppression inside cannot be checked, for they return no box for noise.

    Parameters
    ----------
    spec, network_wh
        The model, and the size of its input in `run`.
    run
        Returns the outputs, by name, for the probe's noise times a number.

    Raises
    ------
    ModelLayoutError
        A model of one anchor a cell expects pictures within 0..255.

    """
    if spec.layout in _FINISHED:
        return spec
    noise = run(1.0)
    blank = _sizes(spec, run(0.0))
    change = _change(_sizes(spec, noise), blank)
    growth = _change(_sizes(spec, run(_BRIGHTER)), blank) / max(change, _LEAST_CHANGE)
    if change < _LEAST_CHANGE or not growth > _MOST_GROWTH:
        return spec
    found = (
        f'the model reacts {growth:.1f} times as much to a picture of {_BRIGHTER:g} times the '
        'light, as models do for which 0..1 is nearly black, so it '
    )
    if spec.layout is OutputLayout.GRID:
        rows = noise[spec.outputs[0]].shape[2 if spec.transposed else 1]
        if rows == count_rows(network_wh, spec.strides, 1):
            raise ModelLayoutError(
                f"{found}expects pictures within 0..255, as YOLOX's own exports do; {_CURE}"
            )
    return dataclasses.replace(spec, doubts=(
        *spec.doubts, f'{found}may expect pictures within 0..255, and then finds nothing; {_CURE}'
    ))


def _sizes(spec: ModelSpec, values: Values) -> NDArray[np.float64]:
    """Return the logarithms of the boxes' sizes, (n, 2)."""
    outputs = [values[name] for name in spec.outputs]
    if spec.layout is OutputLayout.RAW_HEADS:
        assert spec.anchors is not None  # recognise_model guarantees it
        return np.concatenate([
            _log(_raw_sizes(head[0], np.array(sizes, np.float64)))
            for head, sizes in zip(outputs, spec.anchors, strict=True)
        ])
    rows = outputs[0][0]
    rows = rows.T if spec.transposed else rows
    begin = 0 if spec.columns is None else spec.columns.box
    boxes = np.asarray(rows[:, begin:begin + 4], np.float64)
    are_centres = spec.layout is OutputLayout.GRID or spec.boxes_are_centres
    sizes = boxes[:, 2:] if are_centres else boxes[:, 2:] - boxes[:, :2]
    return _log(sizes)


def _raw_sizes(
    head: NDArray[Any], anchors_wh: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sizes (n, 2) of a head, in either form that `cells_of` takes."""
    cells = cells_of(head, len(anchors_wh))
    shares = np.exp(-np.logaddexp(0, -np.asarray(cells[..., 2:4], np.float64)))  # the sigmoid
    return np.asarray(((2 * shares) ** 2 * anchors_wh[:, None, None]).reshape(-1, 2))


def _log(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(sizes, _LEAST_SIZE_PX))


def _change(sizes: NDArray[np.float64], blank: NDArray[np.float64]) -> float:
    finite = np.isfinite(sizes) & np.isfinite(blank)
    return float(np.abs(sizes - blank)[finite].mean()) if finite.any() else 0.0
