"""Record the activations of a model on calibration images, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.errors import CalibrationError
from yolov7_trt_ros.model.quantize.calibration_histogram import find_range, Histogram
from yolov7_trt_ros.model.quantize.placement import place, Placement
from yolov7_trt_ros.onnx_tools.graph import FloatModel
from yolov7_trt_ros.onnx_tools.tensor_session import TensorSession


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """
    What the activations of a model were on some pictures.

    Attributes
    ----------
    histograms
        Of every tensor that may be quantised, by its name.
    pictures
        How many pictures were seen.

    """

    histograms: dict[str, Histogram]
    pictures: int
    _ranges: dict[tuple[str, tuple[str, ...]], float] = dataclasses.field(default_factory=dict)

    def ranges(self, placement: Placement, method: str) -> dict[str, float]:
        """Return the magnitude that becomes 127 for each tensor of a placement; one a group."""
        found: dict[str, float] = {}
        for group, sources in zip(placement.groups, placement.sources, strict=True):
            found |= dict.fromkeys(group, self._range(sources or group, method))
        return found

    def _range(self, tensors: tuple[str, ...], method: str) -> float:
        """Return the range of all values of some tensors; each is found once."""
        key = (method, tensors)
        if key not in self._ranges:
            histogram = Histogram.merged([self.histograms[tensor] for tensor in tensors])
            self._ranges[key] = find_range(histogram, method)
        return self._ranges[key]


def calibrate(
    model: FloatModel,
    blobs: Iterable[NDArray[np.float32]],
    *,
    threads: int = 0,
    advance: Callable[[], Any] = lambda: None,
) -> Calibration:
    """
    Run pictures through a model and count the magnitudes of its activations.

    Parameters
    ----------
    model
        What to run.
    blobs
        Network inputs (1, 3, H, W), RGB, 0..1, one after the other; sizes may differ.
    threads
        CPU threads; 0 takes one per core that this process may use.
    advance
        Called after each picture.

    Raises
    ------
    CalibrationError
        There is no picture, or one gives NaN or infinity.

    """
    tensors = list(place(model, ()).reads)
    session = TensorSession(model.model, tensors, threads=threads)
    histograms = {name: Histogram() for name in tensors}
    pictures = 0
    for blob in blobs:
        for name, values in session.run(blob).items():
            if not np.isfinite(values).all():
                raise CalibrationError(
                    f'picture {pictures + 1} gives NaN or infinity in {name}: the model, or the '
                    'picture, has no usable numbers'
                )
            histograms[name].add(values)
        pictures += 1
        advance()
    if not pictures:
        raise CalibrationError(
            'no calibration pictures: give pictures like those that the robot sees, 100 or more'
        )
    return Calibration(histograms, pictures)
