from __future__ import annotations

from pathlib import Path

from damaged_files import full_disk
import numpy as np
import onnx
from onnx import TensorProto
import onnx_models
import onnxruntime
import pytest

from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ExportError, ModelFormatError, ModelLayoutError
from yolov7_trt_ros.model.export.onnx_input import copy_onnx


def input_dims(path: Path) -> list[object]:
    image = onnx.load(path).graph.input[0]
    return [dim.dim_value or None for dim in image.type.tensor_type.shape.dim]


def test_the_embedded_model_is_copied_with_wide_weights(tmp_path: Path) -> None:
    copy = copy_onnx(find_model('yolov7-nano'), tmp_path / 'copy.onnx', shape=(1, 3, 64, 96))
    assert (copy.form, copy.opset, copy.baked_hw) == ('grid', 17, None)
    assert copy.spec.image.shape == (None, 3, None, None)
    assert input_dims(tmp_path / 'copy.onnx') == [None, 3, None, None]
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / 'copy.onnx').graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    images = np.random.default_rng(2).random((1, 3, 64, 64), np.float32)
    before, after = (
        onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider']).run(
            None, {'images': images}
        )[0]
        for path in (find_model('yolov7-nano'), tmp_path / 'copy.onnx')
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_sizes_that_are_to_be_fixed_are(tmp_path: Path) -> None:
    path = tmp_path / 'copy.onnx'
    copy = copy_onnx(find_model('yolov7-nano'), path, dynamic=frozenset(['batch']),
                     shape=(1, 3, 64, 96))
    assert copy.spec.image.shape == (None, 3, 64, 96)
    assert input_dims(path) == [None, 3, 64, 96]


def test_a_baked_grid_is_reported_and_fixed(tmp_path: Path) -> None:
    source = onnx_models.brightness_grid(tmp_path / 'baked.onnx', baked_wh=(96, 64))
    copy = copy_onnx(source, tmp_path / 'copy.onnx', shape=(1, 3, 64, 96))
    assert copy.baked_hw == (64, 96)
    assert copy.spec.image.shape[2:] == (64, 96)
    assert input_dims(tmp_path / 'copy.onnx')[2:] == [64, 96]
    with pytest.raises(ExportError, match='does not run with a free hw: its grid is made for'):
        copy_onnx(source, tmp_path / 'other.onnx', dynamic=frozenset(['batch', 'hw']),
                  shape=(1, 3, 64, 96))
    with pytest.raises(ModelLayoutError, match='does not run with an input of 1x3x640x640'):
        copy_onnx(source, tmp_path / 'other.onnx')
    assert not (tmp_path / 'other.onnx').exists()


def test_another_form_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='has the form grid'):
        copy_onnx(find_model('yolov7-nano'), tmp_path / 'copy.onnx', form='raw',
                  shape=(1, 3, 64, 64))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'text.onnx').write_text('hello')
    with pytest.raises(ModelFormatError, match='not a readable ONNX'):
        copy_onnx(tmp_path / 'text.onnx', tmp_path / 'copy.onnx')
    with pytest.raises(ModelFormatError):
        copy_onnx(tmp_path / 'missing.onnx', tmp_path / 'copy.onnx')
    with pytest.raises(ModelLayoutError):
        copy_onnx(onnx_models.classifier(tmp_path / 'classifier.onnx'), tmp_path / 'copy.onnx',
                  shape=(1, 3, 64, 64))
    assert not (tmp_path / 'copy.onnx').exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(OSError, match='File too large'):
        copy_onnx(find_model('yolov7-nano'), tmp_path / 'copy.onnx', shape=(1, 3, 64, 64))
    assert list(tmp_path.iterdir()) == []


def test_real_exports_of_every_form(tmp_path: Path, shared_data: Path) -> None:
    models = shared_data / 'vision' / 'models'
    for name, form in (('grid', 'grid'), ('end2end_ort', 'end2end'), ('rawheads', 'raw')):
        copy = copy_onnx(models / f'yolov5n_640_{name}.onnx', tmp_path / 'copy.onnx',
                         anchors=ANCHOR_SETS['yolov7-tiny'] if form == 'raw' else None)
        assert (copy.form, copy.spec.image.shape) == (form, (1, 3, 640, 640))
    again = copy_onnx(tmp_path / 'copy.onnx', tmp_path / 'again.onnx')  # says its anchors now
    assert again.spec.anchors == ANCHOR_SETS['yolov7-tiny']
    with pytest.raises(ModelLayoutError, match='only TensorRT runs'):
        copy_onnx(models / 'yolov5n_640_end2end_trt.onnx', tmp_path / 'copy.onnx')
