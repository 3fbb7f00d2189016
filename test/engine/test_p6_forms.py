"""Models of four strides: heads of training, and NMS inside that runs at multiples of 64 alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper, TensorProto
from onnx_models import save
import pytest

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.errors import ModelLayoutError, SettingError

STRIDES = (8, 16, 32, 64)
CLASSES = 2
CHANNELS = 3 * (5 + CLASSES)
SETTINGS = DetectSettings(score_threshold=0.5)


def training_heads(path: Path, *, heads: int = 8) -> Path:
    """Build raw maps of the lead heads, then of the auxiliary ones, which are others."""
    random = np.random.default_rng(3)
    nodes, stored, outputs = [], [], []
    for index in range(heads):
        stride = STRIDES[index % 4]
        weights = random.normal(0, 3, (CHANNELS, 3, 1, 1)).astype(np.float32)
        stored.append(numpy_helper.from_array(weights, f'w{index}'))
        nodes += [
            helper.make_node('AveragePool', ['images'], [f'pool{index}'],
                             kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node('Conv', [f'pool{index}', f'w{index}'], [f'head{index}']),
        ]
        outputs.append(helper.make_tensor_value_info(f'head{index}', TensorProto.FLOAT, None))
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, (1, 3, 128, 128))
    return save(path, nodes, [images], outputs, stored)


def with_nms(path: Path, metadata: dict[str, str]) -> Path:
    """Build a model of free size that gives one row (n, 7), and needs multiples of 64."""
    nodes = [
        helper.make_node('AveragePool', ['images'], ['p32'], kernel_shape=[32] * 2,
                         strides=[32] * 2),
        helper.make_node('AveragePool', ['images'], ['p64'], kernel_shape=[64] * 2,
                         strides=[64] * 2),
        helper.make_node('Resize', ['p64', '', 'twice'], ['up']),
        helper.make_node('Add', ['p32', 'up'], ['both']),
        helper.make_node('ReduceMean', ['both'], ['mean'], keepdims=0),
        helper.make_node('Mul', ['mean', 'none'], ['zero']),
        helper.make_node('Add', ['row', 'zero'], ['output']),
    ]
    stored = [
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), 'twice'),
        numpy_helper.from_array(np.zeros((), np.float32), 'none'),
        numpy_helper.from_array(np.array([[0, 10, 20, 30, 40, 1, 0.75]], np.float32), 'row'),
    ]
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, (1, 3, 'h', 'w'))
    output = helper.make_tensor_value_info('output', TensorProto.FLOAT, ('n', 7))
    return save(path, nodes, [images], [output], stored, metadata)


def noise(seed: int = 0) -> ImageView:
    rng = np.random.default_rng(seed)
    return ImageView.from_array(rng.integers(0, 256, (128, 128, 3), np.uint8))


def test_the_lead_heads_of_a_training_export_are_taken(tmp_path: Path) -> None:
    both = OnnxDetector(training_heads(tmp_path / 'both.onnx'))
    lead = OnnxDetector(training_heads(tmp_path / 'lead.onnx', heads=4))
    assert both.spec.outputs == ('head0', 'head1', 'head2', 'head3')
    assert both.spec.anchors == ANCHOR_SETS['yolov7-p6']
    assert any('first is the lead head' in text for text in both.spec.evidence)
    assert any('those of yolov7-p6 are assumed' in text for text in both.spec.doubts)
    for seed in range(3):
        found, wanted = (each.detect(noise(seed), SETTINGS)[0] for each in (both, lead))
        assert len(found) > 3
        assert np.array_equal(found.boxes_xyxy, wanted.boxes_xyxy)


def test_other_numbers_of_heads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLayoutError, match='not those of a YOLOv7 export'):
        OnnxDetector(training_heads(tmp_path / 'six.onnx', heads=6))


@pytest.mark.parametrize(('metadata', 'told'), [
    ({'stride': '64'}, 'stride 64 from the metadata'),
    ({'stride': '[8, 16, 32, 64]'}, 'stride 64 from the metadata'),
    ({}, 'runs at multiples of 64, not of 32'),
    ({'stride': 'nonsense'}, 'runs at multiples of 64, not of 32'),
])
def test_nms_inside_at_stride_64(tmp_path: Path, metadata: dict[str, str], told: str) -> None:
    detector = OnnxDetector(with_nms(tmp_path / 'p6.onnx', metadata), network_size=320)
    assert detector.spec.layout is OutputLayout.END2END_ORT
    assert (detector.spec.stride, detector.spec.fixed_wh) == (64, None)
    assert told in detector.spec.evidence
    assert detector.letterbox((320, 100)).network_wh == (320, 128)
    found, _ = detector.detect(noise(), DetectSettings())
    assert found.scores.tolist() == [0.75]


def test_a_size_off_the_coarse_stride_is_refused(tmp_path: Path) -> None:
    path = with_nms(tmp_path / 'p6.onnx', {'stride': '64'})
    with pytest.raises(SettingError, match='multiple.* 64'):
        OnnxDetector(path, network_size=352)
