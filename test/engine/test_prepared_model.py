"""The way of a file to TensorRT goes forwards only: read once, parsed once, cut once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import os
from pathlib import Path
import sys
from typing import Any

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest

from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.prepared_model import prepare_model, PreparedModel
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.engine.trt.network import TrtNetwork
from yolov7_trt_ros.errors import BuildError
from yolov7_trt_ros.onnx_tools.runtime import run_session

_watching: list[Callable[[str], None]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == 'open' and isinstance(arguments[0], str):
        _watching[-1](arguments[0])


sys.addaudithook(_hook)  # for good, but it costs next to nothing


@dataclasses.dataclass
class Counts:
    """What was done with a model file: by Python and by ONNX Runtime."""

    reads: int = 0
    loads: int = 0
    sessions: int = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    """Count what happens to files that end in `.onnx`."""
    found = Counts()

    def opened(path: str) -> None:
        found.reads += os.fsdecode(path).endswith('.onnx')

    class Session(onnxruntime.InferenceSession):  # the real one

        def __init__(self, model: str | bytes, *args: Any, **options: Any) -> None:
            found.sessions += 1
            found.reads += isinstance(model, str)
            super().__init__(model, *args, **options)

    def counted(load: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            found.loads += 1
            return load(*args, **options)
        return call

    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
    for name in ('load', 'load_model_from_string'):
        monkeypatch.setattr(onnx, name, counted(getattr(onnx, name)))
    _watching.append(opened)
    yield found
    _watching.pop()


def prepare(
    path: Path, api: TrtApi, options: BuildOptions | None = None, **more: bool
) -> PreparedModel:
    progress = BuildProgress(lambda *_: None, lambda: False)
    return prepare_model(path, options or BuildOptions(), api, progress, **more)


def parse(model: PreparedModel, api: TrtApi) -> int:
    """Have the real parser take it; returns the outputs that it found."""
    network = TrtNetwork(api)
    network.parse(model.edit.to_bytes(), model.edit.node_label)
    return int(network._network.num_outputs)


@pytest.mark.parametrize('form', ['grid', 'grid_dynbatch'])
def test_a_grid_model(rtx: TrtApi, shared_data: Path, counts: Counts, form: str) -> None:
    """One session tells what it is, one runs its decoding, which is found and verified once."""
    model = prepare(shared_data / f'vision/models/yolov5n_640_{form}.onnx', rtx)
    assert counts == Counts(reads=1, loads=1, sessions=2)
    assert model.spec.layout is OutputLayout.RAW_HEADS
    assert model.session is None
    assert parse(model, rtx) == 3


@pytest.mark.parametrize('keep', [False, True])
def test_a_model_that_ends_in_the_plugin(
    shared_data: Path, rtx: TrtApi, counts: Counts, keep: bool
) -> None:
    path = shared_data / 'vision/models/yolov5n_640_end2end_trt.onnx'
    model = prepare(path, rtx, BuildOptions(keep_nms_plugin=keep))
    assert counts == Counts(reads=1, loads=1, sessions=1)
    layout = OutputLayout.END2END_TRT if keep else OutputLayout.BOXES_AND_SCORES
    assert model.spec.layout is layout
    assert model.edit.has_nms_plugin is keep


def test_a_model_with_nms_of_onnx(shared_data: Path, rtx: TrtApi, counts: Counts) -> None:
    with pytest.raises(BuildError, match='NonMaxSuppression'):
        prepare(shared_data / 'vision/models/yolov5n_640_end2end_ort.onnx', rtx)
    assert counts == Counts(reads=1, loads=1, sessions=1)


@pytest.mark.parametrize('keep_grid', [False, True])
def test_a_grid_made_here(
    tmp_path: Path, rtx: TrtApi, counts: Counts, keep_grid: bool
) -> None:
    path = onnx_models.conv_grid(tmp_path / 'model.onnx')
    before = dataclasses.replace(counts)
    model = prepare(path, rtx, BuildOptions(keep_grid=keep_grid))
    assert counts.reads - before.reads == counts.loads == 1
    assert counts.sessions == (1 if keep_grid else 2)
    assert parse(model, rtx) == (1 if keep_grid else 3)


def test_a_size_that_the_decoding_has_baked_in_is_found_to_be_free(
    tmp_path: Path, rtx: TrtApi, counts: Counts
) -> None:
    """For that alone it is run without its decoding."""
    path = onnx_models.conv_grid(
        tmp_path / 'model.onnx', sides=('height', 'width'), grid_hw=(64, 64)
    )
    square = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64))
    model = prepare(path, rtx, BuildOptions(profiles=(square,)))
    assert counts.sessions == 3
    assert model.spec.image.shape == (1, 3, None, None)
    assert model.session is None
    kept = prepare(path, rtx, BuildOptions(profiles=(square,), keep_grid=True))
    assert kept.spec.image.shape == (1, 3, 64, 64)
    assert OnnxDetector(path, network_size=64).spec.image == model.spec.image


def test_a_session_that_is_asked_for_gives_the_outputs(tmp_path: Path, rtx: TrtApi) -> None:
    path = onnx_models.conv_grid(tmp_path / 'model.onnx')
    model = prepare(path, rtx, with_session=True)
    image = np.zeros((1, 3, 64, 96), 'float32')
    shapes = [
        each.shape for each in run_session(model.session, model.spec.outputs, {'images': image})
    ]
    assert shapes == [(1, 21, 8, 12), (1, 21, 4, 6), (1, 21, 2, 3)]


def test_weights_in_another_file(tmp_path: Path, rtx: TrtApi, counts: Counts) -> None:
    path = onnx_models.conv_grid(tmp_path / 'model.onnx')
    whole = prepare(path, rtx).spec
    model = onnx.load(str(path))
    onnx.save_model(
        model, str(path), save_as_external_data=True, location='weights', size_threshold=100
    )
    assert (tmp_path / 'weights').stat().st_size > 0
    before = dataclasses.replace(counts)
    assert prepare(path, rtx).spec == whole
    assert (counts.reads - before.reads, counts.loads - before.loads) == (1, 1)
