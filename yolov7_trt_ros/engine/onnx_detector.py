"""OnnxDetector: YOLOv7 on the CPU with ONNX Runtime, the embedded default."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
import time
from typing import Any

from numpy.typing import NDArray

from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.forms.model_spec import Anchors, ModelSpec, OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.engine.onnx_probe import ProbedModel
from yolov7_trt_ros.errors import InferenceError, ModelLayoutError, SettingError
from yolov7_trt_ros.onnx_tools.runtime import run_session, VERSION


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
        model = ProbedModel(
            path, class_names=class_names, anchors=anchors, network_size=network_size,
            rectangular=rectangular, threads=threads,
        )
        _check_batch(model.spec)
        self._runs = model.spec if keep_grid else model.strip_decoding()
        self._session: Any = model.session
        self.spec: ModelSpec = model.spec
        self._input_name = self.spec.image.name
        self._network_size, self._rectangular = network_size, rectangular
        if self.spec.fixed_wh is None:
            square = (network_size, network_size)
            fit_rectangle(square, network_size, self.spec.stride)  # refuses sizes off the stride
        self._preprocessor = Preprocessor(self.spec.image.dtype)
        self.backend = f'ONNX Runtime {VERSION} (CPU)'

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

    def status(self) -> dict[str, str]:
        """Return where a model of rows of boxes is decoded."""
        if self.spec.layout not in (OutputLayout.GRID, OutputLayout.LABELLED):
            return {}
        if self._runs.layout is OutputLayout.RAW_HEADS:
            return {'decoding': 'ours'}
        missing = '' if find_spec('onnx') else ' (pip install onnx: ours is faster)'
        return {'decoding': f'in the model{missing}'}

    def close(self) -> None:
        """Free the session; calling it twice is harmless."""
        self._session = None

    def _run(self, outputs: Sequence[str] | None, blob: NDArray[Any]) -> list[NDArray[Any]]:
        if self._session is None:
            raise InferenceError('the detector is closed')
        return run_session(self._session, outputs, {self._input_name: blob})


def _check_batch(spec: ModelSpec) -> None:
    batch = spec.image.shape[0]
    if batch not in (1, None):
        raise ModelLayoutError(
            f'the model has a fixed batch of {batch}, and on the CPU one image runs at a time; '
            'export it with batch 1 or a free batch, or build a TensorRT plan of it, which takes '
            f'up to {batch} images'
        )
