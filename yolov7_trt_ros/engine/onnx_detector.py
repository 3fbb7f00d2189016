"""OnnxDetector: YOLOv7 on the CPU with ONNX Runtime, the embedded default."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from importlib.util import find_spec
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnxruntime

from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.core.model_spec import (
    Anchors,
    check_input,
    ModelSpec,
    OutputLayout,
    recognise_model,
    STRIDE_SETS,
    TensorInfo,
)
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.engine.decoding_cut import load_cut
from yolov7_trt_ros.engine.nms_plugin import cut_nms_plugin, CutModel, PLUGIN
from yolov7_trt_ros.engine.onnx_runtime import (
    first_line,
    open_session,
    ORT_ERRORS,
    tensor_info,
)
from yolov7_trt_ros.errors import (
    InferenceError,
    ModelFormatError,
    ModelLayoutError,
    SettingError,
)

_LARGEST_NETWORK = 8192
_LEAST_STRIDE = min(strides[-1] for strides in STRIDE_SETS)


class OnnxDetector:
    """
    A detector on the CPU.

    Parameters
    ----------
    path
        ONNX file of any YOLOv7 export form. A model that ends in TensorRT's EfficientNMS plugin
        runs too: the plugin is cut off and our own NMS takes its place.
    class_names, anchors
        Override the model's metadata.
    network_size
        Longer side of the network input in pixels, for models with a free input size.
    rectangular
        Letterbox to the smallest rectangle of stride multiples instead of a square.
    threads
        CPU threads; 0 takes one per core that this process may use.
    keep_grid
        Run the decoding of a grid model as it is, instead of ours.

    Raises
    ------
    ModelError
        The file is not a readable model or not a YOLOv7 export.
    SettingError
        The network size does not fit the model.

    """

    def __init__(
        self,
        path: Path,
        *,
        class_names: Sequence[str] | None = None,
        anchors: Anchors | None = None,
        network_size: int = 640,
        rectangular: bool = True,
        threads: int = 0,
        keep_grid: bool = False,
    ) -> None:
        self._session, cut = _open_session(path, threads)
        image = check_input([tensor_info(value) for value in self._session.get_inputs()])
        self._input_name = image.name
        self._network_size = network_size
        probe_wh = _probe_size(image, network_size)
        shapes = self._probe(image, probe_wh)
        spec = recognise_model(
            [image],
            shapes,
            self._session.get_modelmeta().custom_metadata_map,
            probe_wh=probe_wh,
            class_names=class_names,
            anchors=anchors,
            boxes_name=cut.boxes_name if cut else None,
            boxes_are_centres=cut.boxes_are_centres if cut else False,
        )
        self._rectangular = rectangular
        self.spec: ModelSpec = self._with_true_size(spec, probe_wh)
        self._runs = self.spec
        if not keep_grid:
            self._cut_decoding(path, threads, image, probe_wh)
        if self.spec.fixed_wh is None:
            fit_rectangle(probe_wh, network_size, spec.stride)  # refuses sizes off the stride
        self._preprocessor = Preprocessor(image.dtype)
        self.backend = f'ONNX Runtime {onnxruntime.__version__} (CPU)'

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        """
        Find objects in one image.

        Raises
        ------
        InferenceError
            ONNX Runtime failed, or the model gave NaN; the detector stays usable.

        """
        start = time.perf_counter_ns()
        letterbox = self.letterbox(image.size_wh)
        blob = self._preprocessor.prepare(image, letterbox)
        prepared = time.perf_counter_ns()
        outputs = self._run(self._runs.outputs, blob)
        inferred = time.perf_counter_ns()
        candidates = decode_outputs(self._runs, outputs, settings)
        detections = select_detections(candidates, letterbox, settings)
        done = time.perf_counter_ns()
        return detections, FrameTimings(prepared - start, inferred - prepared, done - inferred)

    @property
    def max_batch(self) -> int:
        """One: more images at once are not faster on a CPU."""
        return 1

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Find objects in the one image of a batch.

        Raises
        ------
        SettingError
            There are more images than one, or none.
        InferenceError
            As for `detect`.

        """
        if len(images) != 1:
            raise SettingError(f'ONNX Runtime takes one image at a time here, got {len(images)}')
        found, timings = self.detect(images[0], settings)
        return [found], timings

    def letterbox(self, source_wh: tuple[int, int]) -> Letterbox:
        """Return the placement of an image of `source_wh` pixels in the network input."""
        fixed_wh = self.spec.fixed_wh
        if fixed_wh is not None:
            return fit_letterbox(source_wh, fixed_wh)
        if self._rectangular:
            return fit_rectangle(source_wh, self._network_size, self.spec.stride)
        return fit_letterbox(source_wh, (self._network_size, self._network_size))

    def facts(self) -> dict[str, str]:
        """Return where a grid model is decoded."""
        if self.spec.layout is not OutputLayout.GRID:
            return {}
        if self._runs.layout is not OutputLayout.GRID:
            return {'decoding': 'ours'}
        missing = '' if find_spec('onnx') else ' (pip install onnx: ours is faster)'
        return {'decoding': f'in the model{missing}'}

    def close(self) -> None:
        """Free the session; calling it twice is harmless."""
        self._session = None

    def _run(self, outputs: Sequence[str] | None, blob: NDArray[Any]) -> list[NDArray[Any]]:
        if self._session is None:
            raise InferenceError('the detector is closed')
        try:
            results: list[NDArray[Any]] = self._session.run(outputs, {self._input_name: blob})
        except ORT_ERRORS as exc:
            raise InferenceError(f'ONNX Runtime failed: {first_line(exc)}') from exc
        return results

    def _probe(self, image: TensorInfo, probe_wh: tuple[int, int]) -> list[TensorInfo]:
        """Run once: declared output shapes of real exports are often unknown or wrong."""
        blob = np.zeros((1, 3, probe_wh[1], probe_wh[0]), image.dtype)
        try:
            results = self._run(None, blob)
        except InferenceError as exc:
            raise ModelLayoutError(
                f'the model does not run with an input of {probe_wh[0]}x{probe_wh[1]} pixels; '
                f'if it was exported for another size, set network_size to that. {exc}'
            ) from exc
        names = [value.name for value in self._session.get_outputs()]
        return [
            TensorInfo(name, tuple(result.shape), str(result.dtype))
            for name, result in zip(names, results, strict=True)
        ]

    def _cut_decoding(
        self, path: Path, threads: int, image: TensorInfo, probe_wh: tuple[int, int]
    ) -> None:
        """Run a grid model without its decoding; sizes that only this had baked in are free."""
        found = load_cut(path, self.spec)
        if found is None:
            return
        data, cut = found
        self._session = open_session(data, str(path), threads)
        self._runs = self._with_true_size(dataclasses.replace(cut, image=image), probe_wh)
        self.spec = dataclasses.replace(self.spec, image=self._runs.image)

    def _with_true_size(self, spec: ModelSpec, probe_wh: tuple[int, int]) -> ModelSpec:
        """
        Bind a model to its probed size when it only claims to take others.

        YOLOv7's `--dynamic` export declares free width and height, but its grid is baked in.
        A model with one free side is bound too.

        """
        free_sides = spec.image.shape[2:].count(None)
        if free_sides == 0 or (
            free_sides == 2 and (not self._rectangular or self._takes_shorter(spec))
        ):
            return spec
        fixed = (spec.image.shape[0], 3, probe_wh[1], probe_wh[0])
        return dataclasses.replace(spec, image=dataclasses.replace(spec.image, shape=fixed))

    def _takes_shorter(self, spec: ModelSpec) -> bool:
        """Whether an input one stride less high than the probed square runs."""
        size = self._network_size
        if size <= spec.stride:
            return True
        try:
            self._run(spec.outputs, np.zeros((1, 3, size - spec.stride, size), spec.image.dtype))
        except InferenceError:
            return False
        return True


def _open_session(path: Path, threads: int) -> tuple[Any, CutModel | None]:
    if threads < 0:
        raise SettingError(f'threads must be 0 (one per core) or more, got {threads}')
    try:
        return open_session(str(path), str(path), threads), None
    except ModelFormatError as exc:
        cut = cut_nms_plugin(path) if PLUGIN in str(exc.__cause__) else None
        if cut is None:
            raise
    return open_session(cut.model, str(path), threads), cut


def _probe_size(image: TensorInfo, network_size: int) -> tuple[int, int]:
    """Width and height to try a model with."""
    batch, _, height, width = image.shape
    if batch not in (1, None):
        raise ModelLayoutError(
            f'the model has a fixed batch of {batch}, this detector runs one image at a time; '
            'export it with batch 1 or a free batch'
        )
    if width is None or height is None:
        fit_rectangle((1, 1), network_size, _LEAST_STRIDE)  # refuses sizes off the stride
        if network_size > _LARGEST_NETWORK:
            raise SettingError(
                f'the network size must be at most {_LARGEST_NETWORK}, got {network_size}'
            )
    return width or network_size, height or network_size
