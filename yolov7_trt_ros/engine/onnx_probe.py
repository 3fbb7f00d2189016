"""Open an ONNX model, run it once and recognise it, for the CPU detector and for builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.input_range import check_input_range
from yolov7_trt_ros.core.forms.map_forms import told_strides
from yolov7_trt_ros.core.forms.model_spec import (
    Anchors,
    check_input,
    ModelSpec,
    OutputLayout,
    STRIDE_SETS,
    TensorInfo,
)
from yolov7_trt_ros.core.forms.recognise import probe_images, recognise_model
from yolov7_trt_ros.core.letterbox import fit_rectangle
from yolov7_trt_ros.errors import (
    InferenceError,
    ModelFormatError,
    ModelLayoutError,
    SettingError,
)
from yolov7_trt_ros.onnx_tools.nms_plugin import PLUGIN, RunnableModel, strip_nms_plugin
from yolov7_trt_ros.onnx_tools.runtime import (
    metadata_of,
    open_session,
    probed_outputs,
    run_session,
    session_inputs,
)
from yolov7_trt_ros.onnx_tools.strip_decoding import load_without_decoding

_LARGEST_NETWORK = 8192
_FINISHED = (OutputLayout.END2END_TRT, OutputLayout.END2END_ORT)


class ProbedModel:
    """
    A model in ONNX Runtime, recognised by running it.

    TensorRT's EfficientNMS plugin at its end is cut off.

    Parameters
    ----------
    path, class_names, anchors, network_size, rectangular, threads
        As `OnnxDetector` takes them.
    source
        What to run of the file if it was read before; None opens the file.

    Raises
    ------
    ModelError, SettingError
        As `OnnxDetector` raises them, but any fixed batch is taken.

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
        source: RunnableModel | None = None,
    ) -> None:
        self._path, self._threads = path, threads
        self._network_size, self._rectangular = network_size, rectangular
        self.session, source = _open(path, threads, source)
        image = self._declared = check_input(session_inputs(self.session))
        metadata = metadata_of(self.session)
        self._probe_wh = _probe_size(image, network_size, told_strides(metadata)[0][-1])
        self._input_name = image.name
        values = self._probe(image)
        outputs = probed_outputs(self.session, values)
        by_name = {output.name: value for output, value in zip(outputs, values, strict=True)}
        try:
            spec = recognise_model(
                [image],
                outputs,
                metadata,
                probe_wh=self._probe_wh,
                values=by_name,
                class_names=class_names,
                anchors=anchors,
                boxes_name=source.boxes_name,
                boxes_are_centres=source.boxes_are_centres,
            )
            spec = check_input_range(
                spec, self._probe_wh,
                lambda light: by_name if light == 1 else dict(
                    zip(by_name, self._probe(image, light), strict=True)
                ),
            )
        except ModelLayoutError as exc:
            raise ModelLayoutError(f'{path}: {exc}') from exc
        self.spec: ModelSpec = self._with_true_size(spec)

    def strip_decoding(self) -> ModelSpec:
        """
        Run the model without its decoding from now on, where that is possible.

        Returns
        -------
        ModelSpec
            The model that `session` then runs. `spec` still describes the file, but sizes fixed by
            the decoding alone are free, and the number of classes comes from the convolutions.

        """
        found = load_without_decoding(self._path, self.spec)
        if found is None:
            return self.spec
        data, cut = found
        return self.without_decoding(cut, lambda: data)

    def without_decoding(
        self, cut: ModelSpec, serialised: Callable[[], bytes], *, runs_on: bool = True
    ) -> ModelSpec:
        """
        Take in what is left of the model without its decoding; returns as `strip_decoding`.

        Parameters
        ----------
        cut
            What it is, but for its sizes.
        serialised
            Gives it, serialised.
        runs_on
            Keep a session of it. If not, `session` is None from now on, and the model runs only
            if the decoding may have bound a size that is declared free.

        """
        self.session = None  # two at once take twice the memory
        declared, found = self._declared.shape[2:], self.spec.image.shape[2:]
        baked = declared == (None, None) and found != declared
        if runs_on or baked:
            self.session = open_session(serialised(), self._path, self._threads)
        runs = dataclasses.replace(cut, image=self._declared if baked else self.spec.image)
        if baked:
            runs = self._with_true_size(runs)
        if not runs_on:
            self.session = None
        self.spec = dataclasses.replace(
            self.spec, image=runs.image, num_classes=cut.num_classes,
            class_names=cut.class_names, doubts=cut.doubts, evidence=cut.evidence,
        )
        return runs

    def _probe(self, image: TensorInfo, light: float = 1) -> list[NDArray[Any]]:
        """Run once: declared output shapes of real exports are often unknown or wrong."""
        width, height = self._probe_wh
        blob = probe_images((image.shape[0] or 1, 3, height, width), image.dtype, light)
        try:
            return self._run(blob)
        except InferenceError as exc:
            raise ModelLayoutError(
                f'the model does not run with an input of {width}x{height} pixels; '
                f'if it was exported for another size, set network_size to that. {exc}'
            ) from exc

    def _run(self, blob: NDArray[Any]) -> list[NDArray[Any]]:
        return run_session(self.session, None, {self._input_name: blob})

    def _with_true_size(self, spec: ModelSpec) -> ModelSpec:
        """
        Bind a model to its probed size when it only claims to take others.

        YOLOv7's `--dynamic` export declares free width and height, but its grid is baked in.
        A model with one free side is bound too. One with NMS inside that does not give its stride
        may take multiples of 64 alone.

        """
        free_sides = spec.image.shape[2:].count(None)
        if free_sides == 0:
            return spec
        if free_sides == 2:
            if not self._rectangular or self._takes_shorter(spec, spec.stride):
                return spec
            coarser = STRIDE_SETS[-1]
            if spec.layout in _FINISHED and self._takes_shorter(spec, coarser[-1]):
                found = f'runs at multiples of {coarser[-1]}, not of {spec.stride}'
                return dataclasses.replace(
                    spec, strides=coarser, evidence=(*spec.evidence, found)
                )
        fixed = (spec.image.shape[0], 3, *self._probe_wh[::-1])
        return dataclasses.replace(spec, image=dataclasses.replace(spec.image, shape=fixed))

    def _takes_shorter(self, spec: ModelSpec, stride: int) -> bool:
        """Whether an input one stride less high than the probed square runs."""
        size = self._network_size
        if size <= stride:
            return True
        shape = (spec.image.shape[0] or 1, 3, size - stride, size)
        try:
            self._run(np.zeros(shape, spec.image.dtype))
        except InferenceError:
            return False
        return True


def _open(
    path: Path, threads: int, source: RunnableModel | None
) -> tuple[Any, RunnableModel]:
    if threads < 0:
        raise SettingError(f'threads must be 0 (one per core) or more, got {threads}')
    try:
        source = source or RunnableModel(str(path))
        return open_session(source.model, path, threads), source
    except ModelFormatError as exc:
        cut = strip_nms_plugin(path) if PLUGIN in str(exc.__cause__) else None
        if cut is None:
            raise
    return open_session(cut.model, path, threads), cut


def _probe_size(image: TensorInfo, network_size: int, stride: int) -> tuple[int, int]:
    """Width and height to try a model with."""
    height, width = image.shape[2:]
    if width is None or height is None:
        fit_rectangle((1, 1), network_size, stride)  # refuses sizes off the stride
        if network_size > _LARGEST_NETWORK:
            raise SettingError(
                f'the network size must be at most {_LARGEST_NETWORK}, got {network_size}'
            )
    return width or network_size, height or network_size
