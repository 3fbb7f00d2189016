from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import cv2
from damaged_files import full_disk
import numpy as np
import official_checkpoints
import onnx
import onnxruntime
import pytest
import slow_reference
from test_torch_checkpoint import blocks, model_and_images
import torch

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine import checkpoint_export
from yolov7_trt_ros.engine.checkpoint_export import find_or_export
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import ExportError, ModelFormatError, SettingError
from yolov7_trt_ros.model.checkpoint.load import load_network
from yolov7_trt_ros.model.export import verify, verify_layers
from yolov7_trt_ros.model.export.exporter import build_model, export_onnx
from yolov7_trt_ros.model.export.options import ExportOptions, NmsSettings
from yolov7_trt_ros.model.export.verify import relative_error, RELATIVE_LIMIT
from yolov7_trt_ros.model.network.architecture import (
    decode_maps,
    fold_batch_norms,
    Network,
    round_weights,
)
from yolov7_trt_ros.model.torch_detector import TorchDetector
from yolov7_trt_ros.replay.pictures import load_picture

torch.set_num_threads(1)

FORM_LAYOUTS = {
    ('grid', 'trt'): OutputLayout.GRID,
    ('raw', 'trt'): OutputLayout.RAW_HEADS,
    ('end2end', 'trt'): OutputLayout.BOXES_AND_SCORES,  # the plugin cut off, as on the CPU
    ('end2end', 'onnx'): OutputLayout.END2END_ORT,
}


def open_torch(path: Path, **options: Any) -> TorchDetector:
    return TorchDetector(load_network(path), **options)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny network, sure enough of what it sees in noise to detect plenty."""
    model, _ = model_and_images('yolov7-tiny', 'IDetect')
    for layer in model.model[-1].m:
        torch.nn.init.normal_(layer.weight, 0, 0.6)
        torch.nn.init.normal_(layer.bias, 0, 0.5)
        with torch.no_grad():  # small boxes, few objects
            layer.bias.view(3, -1)[:, 2:5] -= torch.tensor([1.5, 1.5, 1.0])
    folder = tmp_path_factory.mktemp('checkpoint')
    return official_checkpoints.save_official(model, folder / 'official.pt')


@pytest.fixture
def network(checkpoint: Path) -> Network:
    return load_network(checkpoint)


def picture(seed: int, size_wh: tuple[int, int] = (160, 90)) -> ImageView:
    """Random blocks of colour."""
    cells = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    return ImageView.from_array(cv2.resize(cells, size_wh, interpolation=cv2.INTER_NEAREST))


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'images': images})


@pytest.mark.parametrize(('name', 'head'), [
    *((name, 'IDetect') for name in ('yolov7-tiny', 'yolov7', 'yolov7x')),
    *((f'yolov7-{name}-training', None) for name in ('w6', 'e6', 'd6', 'e6e')),
])
def test_every_architecture_at_three_shapes(
    tmp_path: Path, name: str, head: str | None
) -> None:
    model, _ = model_and_images(name, head)
    network = load_network(official_checkpoints.save_official(model, tmp_path / 'official.pt'))
    results = export_onnx(network, tmp_path / 'model.onnx')
    shapes = {result.shape for result in results}
    assert len(shapes) == 3 and any(shape[0] == 2 for shape in shapes)
    assert any(shape[2] < shape[3] for shape in shapes)
    assert all(result.relative_error < 1e-4 for result in results)
    images = blocks(2, 64, 128).numpy()
    with torch.no_grad():
        maps = slow_reference.run_official(model, torch.from_numpy(images))
    wanted = slow_reference.decode(maps, network.anchors)
    found, = run(tmp_path / 'model.onnx', images)
    assert found.shape == wanted.shape
    assert relative_error(found, wanted) < 1e-3


@pytest.mark.parametrize(('form', 'nms', 'opset'), [
    *(('grid', 'trt', opset) for opset in range(11, 21)),
    *((form, nms, opset) for form, nms in FORM_LAYOUTS for opset in (11, 13, 20)
      if form != 'grid'),
])
def test_every_opset_and_form_passes_its_own_check(
    tmp_path: Path, network: Network, opset: int, form: str, nms: str
) -> None:
    path = tmp_path / 'model.onnx'
    export_onnx(network, path, form=form, nms=nms, opset=opset)
    model = onnx.load(path)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]


@pytest.mark.parametrize(('form', 'nms'), FORM_LAYOUTS)
def test_all_forms_are_recognised_and_find_the_same(
    tmp_path: Path, checkpoint: Path, network: Network, form: str, nms: str
) -> None:
    settings = DetectSettings(score_threshold=0.3)
    export_onnx(network, tmp_path / 'model.onnx', form=form, nms=nms,
                nms_settings=NmsSettings(0.3, settings.iou_threshold, 300))
    detector = OnnxDetector(tmp_path / 'model.onnx', network_size=128, threads=1)
    assert detector.spec.layout is FORM_LAYOUTS[form, nms]
    assert detector.spec.class_names == ('thing 0', 'thing 1', 'thing 2')
    image = picture(3)
    reference = open_torch(checkpoint, network_size=128)
    wanted, _ = reference.detect(image, settings)
    found, _ = detector.detect(image, settings)
    assert 10 < len(wanted) < 300
    assert len(found) == len(wanted)
    np.testing.assert_array_equal(found.class_ids, wanted.class_ids)
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


@pytest.mark.parametrize(('dynamic', 'shape', 'wanted'), [
    ((), (2, 3, 64, 96), (2, 3, 64, 96)),
    (('batch',), (1, 3, 64, 96), ('batch', 3, 64, 96)),
    (('hw',), (1, 3, 640, 640), (1, 3, 'height', 'width')),
    (('batch', 'hw'), (1, 3, 640, 640), ('batch', 3, 'height', 'width')),
])
@pytest.mark.parametrize('form', ['grid', 'raw'])
def test_what_is_free_and_what_is_fixed(
    tmp_path: Path, network: Network, form: str, dynamic: tuple[str, ...],
    shape: tuple[int, int, int, int], wanted: tuple[Any, ...],
) -> None:
    path = tmp_path / 'model.onnx'
    results = export_onnx(network, path, form=form, dynamic=dynamic, shape=shape)
    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert tuple(dim.dim_param or dim.dim_value for dim in dims) == wanted
    kinds = {node.op_type for node in model.graph.node}
    assert ('Range' in kinds) == ('hw' in dynamic and form == 'grid')
    for result in results:
        outputs = run(path, np.zeros(result.shape, np.float32))
        assert {len(output) for output in outputs} == {result.shape[0]}
        rows = sum(3 * result.shape[2] * result.shape[3] // s**2 for s in network.strides)
        if form == 'grid':
            assert outputs[0].shape[1] == rows


def test_no_size_is_computed_in_floats(network: Network) -> None:
    model = build_model(network, ExportOptions())
    casts = [node for node in model.graph.node if node.op_type == 'Cast']
    made = {name: node for node in model.graph.node for name in node.output}
    assert casts and all(made[node.input[0]].op_type == 'Range' for node in casts)
    resizes = [node for node in model.graph.node if node.op_type == 'Resize']
    assert len(resizes) == 2 and all(len(node.input) == 3 for node in resizes)


def test_the_plugin_has_what_was_asked_for(network: Network) -> None:
    options = ExportOptions('end2end', nms_settings=NmsSettings(0.31, 0.6, 77))
    model = build_model(network, options)
    plugin = model.graph.node[-1]
    values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in plugin.attribute}
    assert plugin.op_type == 'EfficientNMS_TRT'
    assert values['score_threshold'] == pytest.approx(0.31)
    assert values['iou_threshold'] == pytest.approx(0.6)
    assert (values['max_output_boxes'], values['box_coding']) == (77, 1)


def test_one_class_scores_by_objectness_alone(tmp_path: Path) -> None:
    model = official_checkpoints.official_model('yolov7-tiny', num_classes=1)
    path = official_checkpoints.save_official(model, tmp_path / 'one.pt')
    network = load_network(path)
    for nms in ('trt', 'onnx'):
        export_onnx(network, tmp_path / f'{nms}.onnx', form='end2end', nms=nms)
        kinds = {node.op_type for node in onnx.load(tmp_path / f'{nms}.onnx').graph.node}
        assert 'NonMaxSuppression' in kinds or nms == 'trt'
    detector = OnnxDetector(tmp_path / 'trt.onnx', network_size=64, threads=1)
    assert detector.spec.num_classes == 1


def test_a_model_that_differs_is_not_written(tmp_path: Path, network: Network) -> None:
    with torch.no_grad():
        network.model[0].conv.weight[0] = float('nan')
    with pytest.raises(ExportError, match=r'NaN in PyTorch itself.*model\.0\.conv\.weight'):
        export_onnx(network, tmp_path / 'model.onnx')
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_node_is_noticed(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('yolov7_trt_ros.model.export.onnx_layers.LEAKY_SLOPE', 0.101)
    with pytest.raises(ExportError, match='relative'):
        export_onnx(network, tmp_path / 'model.onnx')
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def amplifying(tmp_path: Path) -> Network:
    """Load a network in which each layer makes differences larger, roundings as well."""
    model = official_checkpoints.official_model('yolov7')
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data *= 1.3
    return load_network(
        official_checkpoints.save_official(model, tmp_path / 'large.pt', half=False)
    )


def test_a_network_that_makes_roundings_large_is_compared_layer_by_layer(
    tmp_path: Path, amplifying: Network
) -> None:
    results = export_onnx(amplifying, tmp_path / 'model.onnx')
    worst = max(results, key=lambda result: result.relative_error)
    assert worst.relative_error > RELATIVE_LIMIT
    assert worst.rounding is not None and worst.rounding > RELATIVE_LIMIT / 10
    assert worst.layers is not None and worst.layers < 1e-5
    assert 'PyTorch itself' in str(worst) and 'each layer alone' in str(worst)
    image = blocks(1, 64, 96)
    with torch.no_grad():
        exact = decode_maps(amplifying, amplifying.exact_maps(image)).numpy()
        rounded = decode_maps(amplifying, amplifying(image)).numpy()
    found, = run(tmp_path / 'model.onnx', image.numpy())
    assert relative_error(found, exact) < 30 * relative_error(rounded, exact)


@pytest.mark.parametrize('gain', [1.3, 3.0])  # roundings are large; all outputs at their ends
def test_a_wrong_node_is_noticed_where_outputs_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    model = official_checkpoints.official_model('yolov7-tiny')
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data *= gain
    network = load_network(
        official_checkpoints.save_official(model, tmp_path / 'large.pt', half=False)
    )
    monkeypatch.setattr('yolov7_trt_ros.model.export.onnx_layers.LEAKY_SLOPE', 0.101)
    with pytest.raises(ExportError, match=r'layer 0 \(conv\) of the ONNX model differs'):
        export_onnx(network, tmp_path / 'model.onnx')
    assert not (tmp_path / 'model.onnx').exists()


def test_a_wrong_decoding_is_noticed(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = network.anchors
    real = verify.decode_maps

    def other(given: Network, maps: Any) -> torch.Tensor:
        given.anchors = tuple(tuple((w * 1.01, h) for w, h in sizes) for sizes in own)
        try:
            return real(given, maps)
        finally:
            given.anchors = own

    for module in (verify, verify_layers):
        monkeypatch.setattr(module, 'decode_maps', other)
    with pytest.raises(ExportError, match='the decoding of the ONNX model differs'):
        export_onnx(network, tmp_path / 'model.onnx')


def test_a_network_that_overflows_is_not_put_down_to_its_weights(
    tmp_path: Path, network: Network
) -> None:
    with torch.no_grad():
        for index in (0, 1, 2, 3):
            network.model[index].conv.weight *= 1e15
    with pytest.raises(ExportError, match='weights are numbers, but too large for float32'):
        export_onnx(network, tmp_path / 'model.onnx')
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path: Path, network: Network) -> None:
    with full_disk(), pytest.raises(OSError, match='File too large'):
        export_onnx(network, tmp_path / 'model.onnx')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(('options', 'reason'), [
    ({'form': 'boxes'}, 'form must be one of'),
    ({'nms': 'cuda'}, 'nms must be one of'),
    ({'dynamic': ('channels',)}, 'dynamic takes'),
    ({'opset': 10}, 'within 11..20'),
    ({'opset': 21}, 'within 11..20'),
    ({'shape': (1, 4, 64, 64)}, 'batch x 3 x height x width'),
    ({'dynamic': (), 'shape': (1, 3, 100, 64)}, 'multiples of the stride 32'),
])
def test_wrong_options_are_refused(
    tmp_path: Path, network: Network, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingError, match=reason):
        export_onnx(network, tmp_path / 'model.onnx', **options)
    for wrong in ({'score_threshold': 1.5}, {'iou_threshold': -1}, {'max_detections': 0}):
        with pytest.raises(SettingError):
            NmsSettings(**wrong)


def test_relative_errors_are_of_the_kind_of_value() -> None:
    wanted = np.array([[[100, 200, 10, 20, 0.5, 1e-9], [50, 50, 5, 5, 0.25, 1e-9]]])
    found = wanted.copy()
    found[0, 0, 5] = 2e-9
    assert relative_error(found, wanted) == pytest.approx(2e-9)
    found[0, 1, 2] = 5.001
    assert relative_error(found, wanted) == pytest.approx(1e-4)


# ---- the detector in PyTorch


def test_a_batch_finds_what_single_images_do(checkpoint: Path) -> None:
    detector = open_torch(checkpoint, network_size=128)
    settings = DetectSettings(score_threshold=0.3)
    images = [picture(seed) for seed in range(3)]
    together, timings = detector.detect_batch(images, settings)
    assert timings.infer_ns > 0 and 'CPU' in detector.backend
    for image, found in zip(images, together, strict=True):
        alone, _ = detector.detect(image, settings)
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
        assert len(found) > 10
    mixed = [images[0], picture(9, (120, 60))]
    found, _ = detector.detect_batch(mixed, settings)
    assert found[1].source_wh == (120, 60) and found[1].boxes_xyxy.max() <= 120
    for wrong in ([], images * 30):
        with pytest.raises(SettingError, match='expected 1 to 64 images'):
            detector.detect_batch(wrong, settings)
    detector.close()
    detector.close()


def test_devices_and_sizes_that_are_not_there_are_refused(checkpoint: Path) -> None:
    for options in ({'device': 'cuda:99'}, {'device': 'tpu'}, {'device': 'meta'}, {'half': True},
                    {'network_size': 100}):
        with pytest.raises(SettingError):
            open_torch(checkpoint, **options)


def test_real_weights_find_the_same_in_pytorch_and_as_onnx(
    tmp_path: Path, shared_data: Path
) -> None:
    weights = shared_data.parent / 'model' / 'yolov7-nano.pt'
    first = min((shared_data / 'vision' / 'val2017' / 'images').iterdir())
    detector = open_torch(weights, network_size=320)
    settings = DetectSettings(score_threshold=0.05)
    wanted, _ = detector.detect(load_picture(first), settings)
    export_onnx(load_network(weights), tmp_path / 'nano.onnx')
    exported = OnnxDetector(tmp_path / 'nano.onnx', network_size=320, threads=1)
    found, _ = exported.detect(load_picture(first), settings)
    assert len(found) == len(wanted) > 5
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    np.testing.assert_array_equal(found.class_ids, wanted.class_ids)


def test_half_weights_halve_the_file_and_nothing_else(tmp_path: Path, network: Network) -> None:
    export_onnx(network, tmp_path / 'whole.onnx')
    export_onnx(network, tmp_path / 'half.onnx', half_weights=True)
    whole, half = ((tmp_path / f'{name}.onnx').stat().st_size for name in ('whole', 'half'))
    assert half < 0.6 * whole
    images = np.random.default_rng(1).random((2, 3, 64, 96), np.float32)
    rounded = round_weights(fold_batch_norms(network))
    export_onnx(rounded, tmp_path / 'rounded.onnx')
    np.testing.assert_allclose(
        run(tmp_path / 'half.onnx', images)[0], run(tmp_path / 'rounded.onnx', images)[0],
        rtol=1e-5, atol=1e-5,
    )


def test_weights_beyond_float16_are_refused(tmp_path: Path, network: Network) -> None:
    broken = fold_batch_norms(network)
    next(broken.parameters()).data.fill_(1e6)
    with pytest.raises(ExportError, match='beyond the range of float16'):
        export_onnx(broken, tmp_path / 'm.onnx', half_weights=True)
    assert not (tmp_path / 'm.onnx').exists()


def test_the_model_inside_is_an_export_of_its_weights(tmp_path: Path, shared_data: Path) -> None:
    weights = shared_data.parent / 'model' / 'yolov7-nano.pt'
    export_onnx(load_network(weights), tmp_path / 'nano.onnx', half_weights=True)
    again, inside = (
        {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
        for path in (tmp_path / 'nano.onnx', find_model('yolov7-nano'))
    )
    assert again.keys() == inside.keys()
    for name, values in inside.items():
        np.testing.assert_array_equal(values, again[name])


# ---- a checkpoint given as a model


def test_a_checkpoint_is_exported_once_and_used(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    options = DetectorOptions(str(checkpoint), 'onnx', network_size=64)
    with contextlib.closing(open_detector(options)) as detector:
        detector.detect(picture(1), DetectSettings())
    assert f'exporting {checkpoint}, once' in capfd.readouterr().err
    (exported,) = (tmp_path / 'yolov7_trt_ros' / 'exports').glob('*.onnx')
    assert find_or_export(str(checkpoint)) == exported
    assert capfd.readouterr().err == ''
    whole = exported.read_bytes()
    for damaged in (b'', whole[:1000], whole[:-9] + bytes(9)):
        exported.write_bytes(damaged)
        assert find_or_export(str(checkpoint)) == exported
        assert f'exporting {checkpoint}, once' in capfd.readouterr().err
        assert len(exported.read_bytes()) == len(whole)


def test_a_checkpoint_that_cannot_be_exported_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    torch.save({'a': torch.zeros(3)}, tmp_path / 'odd.pt')
    with pytest.raises(ModelFormatError, match='odd.pt cannot be exported: '):
        find_or_export(str(tmp_path / 'odd.pt'))


def test_without_pytorch_the_command_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_export, '_NEEDED', ('no_such_package_here',))
    with pytest.raises(ModelFormatError, match='yolov7_trt export'):
        find_or_export(str(checkpoint))
