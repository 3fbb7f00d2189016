"""Plans from ONNX models, built by the real builder of TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import hashlib
from pathlib import Path
import threading
import time
from typing import Any

from export_forms import CLASSES, FORMS
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
from onnx_models import brightness_grid, grid_centres, save
import pytest
from tensorrt_surfaces import surface

from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.engine.building import builder
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan, choose_profiles
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import (
    manifest_path,
    PlanManifest,
    read_manifest,
    read_plan,
)
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.engine.trt.network import BuildSettings, TrtNetwork
from yolov7_trt_ros.errors import (
    BuildError,
    ModelFormatError,
    ModelLayoutError,
    ModelNotFoundError,
    SettingError,
)
from yolov7_trt_ros.onnx_tools.tensorrt_form import TensorRtOnnx

BuildModel = Callable[..., Path]
NANO = find_model('yolov7-nano')
SMALL = ShapeRange((1, 3, 64, 64), (1, 3, 96, 128), (2, 3, 128, 128))


def machine_of(api: TrtApi) -> BuildTarget:
    return BuildTarget(api.flavour, api.version, '', '', '')


def run_build(
    api: TrtApi, onnx: Path, plan: Path, options: BuildOptions | None = None,
    report: Callable[[str, float | None], None] = lambda phase, fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PlanManifest:
    return build_plan(
        onnx, plan, options or BuildOptions(profiles=(SMALL,)), api=api, machine=machine_of(api),
        report=report, cancelled=cancelled,
    )


@pytest.fixture(scope='module')
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the embedded model int8, as onnxruntime.quantization makes it."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static, QuantType

    class OneImage(CalibrationDataReader):

        def __init__(self) -> None:
            image = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
            self._images = iter([{'images': image}])

        def get_next(self) -> Any:
            return next(self._images, None)

    folder = tmp_path_factory.mktemp('quantised')
    edit = TensorRtOnnx(NANO)
    edit.widen_casts()
    (folder / 'wide.onnx').write_bytes(edit.to_bytes())
    quantize_static(
        folder / 'wide.onnx', folder / 'q.onnx', OneImage(), op_types_to_quantize=['Conv'],
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True,
        extra_options={'ActivationSymmetric': True, 'WeightSymmetric': True},
    )
    return folder / 'q.onnx'


# ---- the real builder


def test_the_embedded_model_with_two_profiles(rtx: TrtApi, tmp_path: Path) -> None:
    plan = tmp_path / 'nano.plan'
    reports: list[tuple[str, float | None]] = []
    threads = set()

    def report(phase: str, fraction: float | None) -> None:
        reports.append((phase, fraction))
        threads.add(threading.current_thread())

    profiles = (SMALL, ShapeRange((4, 3, 64, 64), (4, 3, 64, 64), (4, 3, 64, 64)))
    options = BuildOptions(profiles=profiles, opt_level=0, workspace_mib=512)
    manifest = run_build(rtx, NANO, plan, options, report)
    assert read_manifest(plan) == manifest
    assert len(read_plan(plan, manifest)) == manifest.plan_size_bytes > 1_000_000
    assert manifest.profiles == profiles
    assert manifest.machine == machine_of(rtx)
    assert manifest.onnx_sha256 == hashlib.sha256(NANO.read_bytes()).hexdigest()
    assert manifest.spec.layout is OutputLayout.RAW_HEADS
    assert manifest.spec.outputs == ('model.77.m.0', 'model.77.m.1', 'model.77.m.2')
    assert manifest.spec.anchors == ANCHOR_SETS['yolov7-tiny']
    assert manifest.spec.class_names[0] == 'person'
    assert manifest.options['opt_level'] == 0
    assert manifest.build_seconds > 0
    assert BuildOptions.from_manifest(manifest) == options
    assert reports[-1] == ('write', 1.0)
    assert all(fraction is None or 0 <= fraction <= 1 for _, fraction in reports)
    assert len(threads) == 1 and threading.main_thread() not in threads


def test_precisions_change_the_plan(rtx: TrtApi, tmp_path: Path) -> None:
    sizes = {
        precision: run_build(
            rtx, NANO, tmp_path / 'nano.plan', BuildOptions(precision, (SMALL,))
        ).plan_size_bytes
        for precision in ('fp32', 'fp16')
    }
    assert sizes['fp16'] < 0.8 * sizes['fp32']
    kept = run_build(
        rtx, NANO, tmp_path / 'nano.plan', BuildOptions('fp16', (SMALL,), keep_fp32='.')
    )
    assert kept.plan_size_bytes > 0.9 * sizes['fp32']


@pytest.mark.parametrize('precision', ['int8', 'mixed'])
def test_quantised_models(
    rtx: TrtApi, tmp_path: Path, quantised: Path, precision: str
) -> None:
    manifest = run_build(
        rtx, quantised, tmp_path / 'q.plan', BuildOptions(precision, (SMALL,))
    )
    assert manifest.precision == precision
    assert manifest.plan_size_bytes > 1_000_000


@pytest.mark.parametrize('version', ['8.5', '8.6', '10', '11'])
def test_a_refittable_plan_tells_what_it_was_built_from(tmp_path: Path, version: str) -> None:
    """The model is real, TensorRT is not: RTX builds such plans only if there is a GPU."""
    api = TrtApi(surface(version))
    plan, options = tmp_path / 'n.plan', BuildOptions('fp16', (SMALL,), refittable=True)
    machine = BuildTarget(api.flavour, api.version, '12.2', 'Orin', '8.7')
    manifest = build_plan(
        NANO, plan, options, api=api, machine=machine, report=lambda *_: None,
        cancelled=lambda: False,
    )
    assert 'REFIT' in api.module.record['flags'] and read_manifest(plan) == manifest
    weights = manifest.weights.weights
    half = version == '11'  # where types are the model's, its weights are float16
    name = f'model.77.m.0.weight{".half" if half else ""}'
    kind = 'float16' if half else 'float32'
    assert weights[name].rpartition(' ')[0] == f'{kind} 255x{weights[name].split("x")[1]}x1x1'
    assert not [each for each in weights if 'decode' in each]  # it is cut off
    assert set(weights) == {
        each.name for each in onnx.load_from_string(api.module.record['model']).graph.initializer
    }


def test_tensorrt_rtx_needs_a_gpu_for_refittable_plans(rtx: TrtApi, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match='--refittable: TensorRT-RTX builds such plans only if'):
        run_build(rtx, NANO, tmp_path / 'n.plan', BuildOptions('fp16', (SMALL,), refittable=True))
    # and that is so: a driver is asked for
    network = TrtNetwork(rtx)
    edit = TensorRtOnnx(NANO)
    edit.widen_casts()
    network.parse(edit.to_bytes(), edit.node_label)
    with pytest.raises(BuildError, match='CUDA'):
        network.build(
            BuildSettings((SMALL,), refittable=True),
            BuildProgress(lambda *_: None, lambda: False),
        )


def test_the_decoding_can_be_kept(rtx: TrtApi, tmp_path: Path, build: BuildModel) -> None:
    kept = run_build(rtx, NANO, tmp_path / 'n.plan', BuildOptions('fp16', (SMALL,),
                                                                  keep_grid=True))
    assert (kept.spec.layout, kept.spec.outputs) == (OutputLayout.GRID, ('output',))
    # a decoding that is not YOLOv7's stays without being asked
    other = run_build(rtx, build('brightness_grid', shape=(1, 3, 64, 64)), tmp_path / 'o.plan',
                      BuildOptions())
    assert other.spec.layout is OutputLayout.GRID


def test_a_model_of_one_size(rtx: TrtApi, tmp_path: Path, build: BuildModel) -> None:
    onnx = build('brightness_grid', shape=(1, 3, 96, 64))
    manifest = run_build(rtx, onnx, tmp_path / 'one.plan', BuildOptions())
    assert manifest.profiles == (ShapeRange(*[(1, 3, 96, 64)] * 3),)
    with pytest.raises(SettingError, match=r'profile .* does not fit the model.*1, 3, 96, 64'):
        run_build(rtx, onnx, tmp_path / 'one.plan')


def test_a_plugin_is_cut_off(rtx: TrtApi, tmp_path: Path, build: BuildModel) -> None:
    onnx = build('ends_in_plugin')
    manifest = run_build(rtx, onnx, tmp_path / 'cut.plan', BuildOptions())
    assert manifest.spec.layout is OutputLayout.BOXES_AND_SCORES
    with pytest.raises(SettingError, match='--keep-nms-plugin needs TensorRT 8.5'):
        run_build(rtx, onnx, tmp_path / 'cut.plan', BuildOptions(keep_nms_plugin=True))


def test_outputs_that_nobody_reads_are_dropped(rtx: TrtApi, tmp_path: Path) -> None:
    """A plain export of torch has the raw heads beside the grid."""
    network = TrtNetwork(rtx)
    edit = TensorRtOnnx(NANO)
    edit.model.graph.output.append(
        helper.make_tensor_value_info('model.77.m.0', TensorProto.FLOAT, tuple('nchw'))
    )
    edit.widen_casts()
    network.parse(edit.to_bytes(), edit.node_label)
    assert network._network.num_outputs == 2
    network.keep_outputs(('output',))
    assert [network._network.num_outputs, network._network.get_output(0).name] == [1, 'output']


def test_nms_inside_onnx_is_refused_with_the_remedy(
    rtx: TrtApi, tmp_path: Path, shared_data: Path
) -> None:
    onnx = shared_data / 'vision/models/yolov5n_640_end2end_ort.onnx'
    with pytest.raises(BuildError, match='NonMaxSuppression.*--grid alone'):
        run_build(rtx, onnx, tmp_path / 'n.plan', BuildOptions())


@pytest.mark.parametrize(('form', 'layout'), [
    ('DeepStream-Yolo, x1 y1 x2 y2 score label', OutputLayout.LABELLED),
    ('DeepStream-Yolo of 2023 and 2024, three outputs', OutputLayout.LABELLED),
    ('the same, transposed', OutputLayout.GRID),
    ('one anchor a cell, as YOLOX', OutputLayout.GRID),
    ('boxes as corners, and scores', OutputLayout.BOXES_AND_SCORES),
])
def test_other_forms_are_built_as_what_they_were_told_to_be(
    rtx: TrtApi, tmp_path: Path, form: str, layout: OutputLayout
) -> None:
    """By default without their decoding, where it is YOLOv7's; that has a number of classes."""
    onnx = next(each for each in FORMS if each.name == form).make(tmp_path)
    kept = run_build(rtx, onnx, tmp_path / 'kept.plan', BuildOptions(keep_grid=True)).spec
    cut = run_build(rtx, onnx, tmp_path / 'cut.plan', BuildOptions()).spec
    assert kept.layout is layout
    can_be_cut = layout is OutputLayout.LABELLED or 'transposed' in form
    assert cut.layout is (OutputLayout.RAW_HEADS if can_be_cut else layout)
    assert cut.num_classes == CLASSES
    assert read_manifest(tmp_path / 'kept.plan').spec.evidence == kept.evidence != ()
    assert read_manifest(tmp_path / 'kept.plan').spec == kept


def test_a_fixed_batch_is_built(rtx: TrtApi, tmp_path: Path) -> None:
    onnx = brightness_grid(tmp_path / 'b8.onnx', shape=(8, 3, 64, 64), num_classes=3)
    manifest = run_build(rtx, onnx, tmp_path / 'b8.plan', BuildOptions())
    eight = (8, 3, 64, 64)
    assert manifest.profiles == (ShapeRange(eight, eight, eight),)
    assert (manifest.spec.layout, manifest.spec.image.shape) == (OutputLayout.GRID, eight)


def unsupported(folder: Path) -> Path:
    """Build a grid model of one class that ONNX Runtime runs and TensorRT does not."""
    nodes = [
        helper.make_node('Unique', ['images'], ['values'], name='head.unique'),
        helper.make_node('ReduceMin', ['values'], ['least'], keepdims=0),
        helper.make_node('Mul', ['zero', 'least'], ['nothing']),
        helper.make_node('Add', ['rows', 'nothing'], ['output']),
    ]
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, (1, 3, 64, 64))
    output = helper.make_tensor_value_info('output', TensorProto.FLOAT, (1, 252, 6))
    rows = np.full((1, 252, 6), 0.25, np.float32)
    rows[0, :, :4] = grid_centres()
    stored = [numpy_helper.from_array(rows, 'rows'),
              numpy_helper.from_array(np.zeros((), np.float32), 'zero')]
    return save(folder / 'odd.onnx', nodes, [images], [output], stored)


def test_an_unsupported_operator_is_named(rtx: TrtApi, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r'does not take this ONNX model: node head\.unique \(U'):
        run_build(rtx, unsupported(tmp_path), tmp_path / 'odd.plan')


def test_a_failed_build_leaves_the_old_plan(rtx: TrtApi, tmp_path: Path) -> None:
    plan = tmp_path / 'model.plan'
    plan.write_bytes(b'old')
    manifest_path(plan).write_text('old')
    with pytest.raises(BuildError, match='does not take this ONNX model'):
        run_build(rtx, unsupported(tmp_path), plan)
    with pytest.raises(BuildError, match='has no QuantizeLinear.*: yolov7_trt quantize '):
        run_build(rtx, NANO, plan, BuildOptions('int8'))
    assert (plan.read_bytes(), manifest_path(plan).read_text()) == (b'old', 'old')
    assert not list(tmp_path.glob('.*'))


def test_cancelling_stops_the_real_builder(rtx: TrtApi, tmp_path: Path) -> None:
    building = threading.Event()

    def report(phase: str, fraction: float | None) -> None:
        if fraction is not None:
            building.set()

    with pytest.raises(BuildError, match='the build was cancelled'):
        run_build(rtx, NANO, tmp_path / 'n.plan', report=report, cancelled=building.is_set)
    assert not list(tmp_path.iterdir())


def test_a_plan_that_cannot_be_written(rtx: TrtApi, tmp_path: Path, build: BuildModel) -> None:
    (tmp_path / 'file').touch()
    onnx = build('brightness_grid', shape=(1, 3, 64, 64))
    with pytest.raises(BuildError, match='cannot be written'):
        run_build(rtx, onnx, tmp_path / 'file' / 'n.plan', BuildOptions())


def test_what_is_no_yolov7(rtx: TrtApi, tmp_path: Path, build: BuildModel) -> None:
    plan = tmp_path / 'n.plan'
    with pytest.raises(ModelLayoutError, match='not those of a YOLOv7 export'):
        run_build(rtx, build('classifier'), plan, BuildOptions())
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    with pytest.raises(ModelFormatError, match=r'bad\.onnx'):
        run_build(rtx, tmp_path / 'bad.onnx', plan)
    with pytest.raises(ModelNotFoundError, match='missing'):
        run_build(rtx, tmp_path / 'missing.onnx', plan)


def test_the_plan_needs_a_driver_to_be_loaded(rtx: TrtApi, tmp_path: Path) -> None:
    """Where there is no driver, the refusal is ours and has TensorRT's reason."""
    from yolov7_trt_ros.errors import PlanError

    plan = tmp_path / 'n.plan'
    manifest = run_build(rtx, NANO, plan)
    if Path('/dev/nvidia0').exists():
        pytest.skip('there is a GPU here')
    with pytest.raises(PlanError, match=r'cannot load the plan: .*CUDA driver'):
        rtx.deserialize(read_plan(plan, manifest))


# ---- TensorRT 8 and what this TensorRT lacks, on stand-ins


def test_the_timing_cache_is_kept(tmp_path: Path, build: BuildModel) -> None:
    onnx = build('brightness_grid', shape=(1, 3, 64, 64))
    api = TrtApi(surface('8.6'))
    cache = tmp_path / 'cache' / 'timings'
    options = BuildOptions(timing_cache=cache)
    run_build(api, onnx, tmp_path / 'n.plan', options)
    assert (api.module.record['timings'], cache.read_bytes()) == (b'', b'timings')
    run_build(api, onnx, tmp_path / 'n.plan', options)
    assert api.module.record['timings'] == b'timings'


def test_a_timing_cache_that_cannot_be_written_does_not_cost_the_plan(
    tmp_path: Path, build: BuildModel
) -> None:
    onnx = build('brightness_grid', shape=(1, 3, 64, 64))
    options = BuildOptions(timing_cache=onnx / 'timings')  # in a file
    manifest = run_build(TrtApi(surface('8.6')), onnx, tmp_path / 'n.plan', options)
    assert read_plan(tmp_path / 'n.plan', manifest)


@pytest.mark.parametrize(('precision', 'flags'), [
    ('fp32', ['no TF32']), ('fp16', ['FP16']), ('mixed', ['FP16']),
])
def test_weakly_typed_precisions_are_flags(
    tmp_path: Path, build: BuildModel, precision: str, flags: list[str]
) -> None:
    api = TrtApi(surface('8.6'))
    onnx = build('brightness_grid', shape=(1, 3, 64, 64))
    run_build(api, onnx, tmp_path / 'n.plan', BuildOptions(precision))
    assert api.module.record['flags'] == [*flags, 'PROFILE_SHARING_0806']
    run_build(api, onnx, tmp_path / 'n.plan', BuildOptions(precision, keep_fp32='head'))
    assert api.module.record['layers'] == [('head.0', 'FLOAT'), ('head.1', 'FLOAT')]
    assert 'OBEY_PRECISION_CONSTRAINTS' in api.module.record['flags']


def test_a_quantised_model_needs_the_int8_flag(tmp_path: Path, quantised: Path) -> None:
    for precision, flags in (('int8', ['INT8']), ('mixed', ['FP16', 'INT8'])):
        api = TrtApi(surface('8.6'))
        run_build(api, quantised, tmp_path / 'n.plan', BuildOptions(precision, (SMALL,)))
        assert api.module.record['flags'][:-1] == flags


def test_the_plugin_can_be_kept(tmp_path: Path, build: BuildModel) -> None:
    manifest = run_build(
        TrtApi(surface('8.6')), build('ends_in_plugin'), tmp_path / 'n.plan',
        BuildOptions(keep_nms_plugin=True),
    )
    assert manifest.spec.layout is OutputLayout.END2END_TRT
    assert manifest.spec.outputs == ('num', 'box', 'score', 'class')


@pytest.mark.parametrize(('version', 'options', 'flag'), [
    ('8.5', BuildOptions(opt_level=1), '--opt-level needs TensorRT 8.6'),
    ('8.5', BuildOptions(version_compatible=True), '--version-compatible needs'),
    ('8.5', BuildOptions(hardware_compatible=True), '--hardware-compatible needs'),
    ('RTX', BuildOptions(version_compatible=True), 'here is TensorRT-RTX'),
])
def test_what_this_tensorrt_lacks_is_refused(
    tmp_path: Path, version: str, options: BuildOptions, flag: str
) -> None:
    with pytest.raises(SettingError, match=flag):
        run_build(TrtApi(surface(version)), NANO, tmp_path / 'n.plan', options)


@pytest.mark.parametrize(('options', 'message'), [
    ({'precision': 'fp8'}, 'precision must be one of fp32, fp16, int8, mixed'),
    ({'opt_level': 6}, 'opt_level must be within 0..5'),
    ({'workspace_mib': 0}, 'workspace_mib'),
    ({'dla_core': -1}, 'dla_core'),
    ({'dla_core': 0, 'precision': 'fp32'}, 'DLA'),
    ({'keep_fp32': '('}, 'regular expression'),
])
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        BuildOptions(**options)


def test_options_of_a_later_version(tmp_path: Path, build: BuildModel) -> None:
    onnx = build('brightness_grid', shape=(1, 3, 64, 64))
    manifest = run_build(TrtApi(surface('8.6')), onnx, tmp_path / 'n.plan', BuildOptions())
    later = dataclasses.replace(manifest, options=manifest.options | {'sparsity': True})
    with pytest.raises(SettingError, match='unknown build options: sparsity'):
        BuildOptions.from_manifest(later)


def test_the_machine_to_build_for() -> None:
    def no_gpu(api: TrtApi) -> BuildTarget:
        raise builder.InferenceError('no CUDA device 0')

    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(builder, 'find_target', no_gpu)
        assert builder.find_build_target(TrtApi(surface('RTX'))).gpu_name == ''
        with pytest.raises(builder.InferenceError, match='no CUDA device'):
            builder.find_build_target(TrtApi(surface('8.6')))


# ---- profiles


def spec_of(*shape: int | None, stride: int = 32) -> ModelSpec:
    return ModelSpec(
        TensorInfo('images', shape, 'float32'), OutputLayout.GRID, ('output',), ('cat',), 1,
        (8, 16, stride),
    )


@pytest.mark.parametrize(('shape', 'expected'), [
    ((None, 3, None, None), '1x3x320x320 .. 1x3x640x640 .. 4x3x1280x1280'),
    ((None, 3, 640, 640), '1x3x640x640 .. 1x3x640x640 .. 4x3x640x640'),
    ((1, 3, None, None), '1x3x320x320 .. 1x3x640x640 .. 1x3x1280x1280'),
    ((1, 3, 384, 640), '1x3x384x640 .. 1x3x384x640 .. 1x3x384x640'),
])
def test_default_profiles(shape: tuple[int | None, ...], expected: str) -> None:
    assert [str(profile) for profile in choose_profiles(spec_of(*shape), ())] == [expected]


def test_profiles_are_bound_on_request() -> None:
    wanted = (ShapeRange((1, 3, 32, 32), (2, 3, 640, 640), (2, 3, 640, 640)),)
    free = spec_of(None, 3, None, None)
    assert choose_profiles(free, wanted) == wanted
    coarse = choose_profiles(spec_of(None, 3, None, None, stride=64), wanted, bind=True)
    assert coarse[0].minimum == (1, 3, 64, 64)
    fixed = choose_profiles(spec_of(1, 3, 416, 416), wanted, bind=True)
    assert str(fixed[0]) == '1x3x416x416 .. 1x3x416x416 .. 1x3x416x416'
    with pytest.raises(SettingError, match='multiples of 32'):
        choose_profiles(free, (ShapeRange(*[(1, 3, 600, 640)] * 3),))


# ---- progress


def test_progress_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('yolov7_trt_ros.engine.trt.build_progress.SILENCE_S', 0.1)
    monkeypatch.setattr('yolov7_trt_ros.engine.trt.build_progress._TICK_S', 0.02)
    reports: list[tuple[str, float | None]] = []
    progress = BuildProgress(lambda *state: reports.append(state), lambda: False)
    with progress.reporting():
        progress.enter('long')
        until = time.monotonic() + 600
        while reports.count(('long', None)) < 4 and time.monotonic() < until:
            time.sleep(0.01)
    assert reports.count(('long', None)) >= 4


def test_nested_phases_make_one_fraction() -> None:
    progress = BuildProgress(lambda *state: None, lambda: False)
    progress.phase_start('all', None, 4)
    progress.step_complete('all')
    progress.phase_start('part', 'all', 2)
    assert progress.step_complete('part')
    assert progress._fraction == pytest.approx((1 + 0.5) / 4)
    progress.phase_finish('part')
    progress.step_complete('unknown')
    progress.phase_finish('unknown')
    assert progress._phase == 'all'


def test_messages_of_several_profiles() -> None:
    progress = BuildProgress(lambda *state: None, lambda: False)
    timing = '--------------- Timing Runner: {} (CublasConvolution[0x80000024])'
    for text in ('Graph optimization time: 0.4 seconds.', 'After concat removal: 4 layers',
                 'Constructing optimization profile number 1 [2/2].', timing.format('a'),
                 timing.format('b + c'), timing.format('b + c')):
        progress.read_message(text)
    assert progress._phase == 'tactics: b + c'
    assert progress._fraction == pytest.approx(0.95 * (1 + 0.5) / 2)
    progress.read_message('=============== Computing reformatting costs: ')
    assert progress._phase == 'tactics: reformatting'
    progress.read_message('Formats and tactics selection completed in 12 seconds.')
    assert (progress._phase, progress._fraction) == ('generate code', 0.95)
