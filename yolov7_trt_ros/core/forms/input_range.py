"""Detect models that expect pixels of 0..255 rather than 0..1, which they get here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.grid_values import count_rows
from yolov7_trt_ros.core.forms.model_forms import Values
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout
from yolov7_trt_ros.errors import ModelLayoutError

_LARGEST = 255.0
_LEAST_REACTION = 0.12
"""
Of the reaction to 255 times as much light. Models of 0..1 had 0.2 and more, the same models after
a division by 255 had 0.085 and less (YOLOX-Nano, YOLOv5n, yolov7-nano, yolov7-tiny).
"""


def check_input_range(
    spec: ModelSpec, network_wh: tuple[int, int], run: Callable[[float], Values]
) -> None:
    """
    Check a grid of one anchor a cell, the form of YOLOX, whose own exports expect 0..255.

    Parameters
    ----------
    spec, network_wh
        The model, and the size of its input in `run`.
    run
        Returns the outputs, by name, for the probe's noise times a number.

    Raises
    ------
    ModelLayoutError
        The model hardly reacts to pictures within 0..1.

    """
    if spec.layout is not OutputLayout.GRID:
        return
    noise = run(1.0)
    rows = noise[spec.outputs[0]].shape[2 if spec.transposed else 1]
    if rows != count_rows(network_wh, spec.strides, 1):
        return
    blank, bright = _sizes(spec, run(0.0)), _sizes(spec, run(_LARGEST))
    within, beyond = _change(_sizes(spec, noise), blank), _change(bright, blank)
    if within < _LEAST_REACTION * beyond:
        raise ModelLayoutError(
            f'the model reacts {within / beyond:.3f} times as much to a picture within 0..1 as to '
            "one within 0..255, so it expects the latter, as YOLOX's own exports do; pictures are "
            'given as RGB within 0..1 here: export it with its division by 255 taken out'
        )


def _sizes(spec: ModelSpec, values: Values) -> NDArray[np.float64]:
    rows = values[spec.outputs[0]][0]
    rows = rows.T if spec.transposed else rows
    return np.asarray(rows[:, 2:4], np.float64)


def _change(sizes: NDArray[np.float64], blank: NDArray[np.float64]) -> float:
    finite = np.isfinite(sizes) & np.isfinite(blank)
    return float(np.abs(sizes - blank)[finite].sum())
