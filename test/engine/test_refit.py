"""Refits where there is no GPU: real models and edits, ONNX Runtime in TensorRT's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np
import onnx
import pytest

from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.building import refit
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.plan_cache import cached_plan, refittable_plan
from yolov7_trt_ros.engine.building.prepared_model import prepare_model, PreparedModel
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.open import build_needed_plan
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.engine.plan.plan_file import (
    manifest_path,
    PlanManifest,
    read_manifest,
    read_plan,
    write_plan,
)
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import changed_weights, table_of
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.errors import (
    BuildError,
    ModelFormatError,
    PlanError,
    PlanMismatchError,
    PlanMissingError,
    RefitError,
)
from yolov7_trt_ros.onnx_tools.runtime import open_session
from yolov7_trt_ros.onnx_tools.tensorrt_form import TensorRtOnnx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'test' / 'kernel_host'))

import emulated_cuda  # noqa: E402, I100  (its folder has just been added)

NANO = find_model('yolov7-nano')
SIZE = ShapeRange(*[(1, 3, 96, 128)] * 3)
MODULES = ('device.cuda_device', 'device.memory', 'gpu.plan_probe')
HEAD = 'model.77.m.0.bias'


def edited(path: Path = NANO) -> TensorRtOnnx:
    edit = TensorRtOnnx(path)
    edit.widen_casts()
    return edit


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """Write the embedded model after a change of it."""
    model = edited().model
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def finetuned(path: Path, seed: int = 1) -> Path:
    """Write the embedded model with every weight a little different."""
    rng = np.random.default_rng(seed)

    def touch(model: Any) -> None:
        for each in model.graph.initializer:
            values = onnx.numpy_helper.to_array(each)
            if each.name.startswith('model.') and values.dtype == np.float32:
                each.CopyFrom(onnx.numpy_helper.from_array(
                    (values * rng.uniform(0.9, 1.1, values.shape)).astype(np.float32), each.name
                ))

    return changed(path, touch)


# ---- what differs


@pytest.fixture(scope='module')
def table() -> Any:
    return table_of(edited().model)


def stored(model: Any, name: str) -> Any:
    return next(each for each in model.graph.initializer if each.name == name)


def test_only_the_values_of_weights_may_differ(table: Any, tmp_path: Path) -> None:
    assert changed_weights(table, edited().model) == {}
    found = changed_weights(table, edited(finetuned(tmp_path / 'f.onnx')).model)
    assert len(found) > 100 and HEAD in found

    def retell(model: Any) -> None:
        """Change what is for people alone."""
        model.doc_string, model.producer_name = 'fine-tuned', 'another'
        model.graph.name = 'another'
        model.graph.node[0].doc_string = 'a stack of calls'
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = 'n'
        model.graph.initializer.sort(key=lambda each: each.name)
        model.metadata_props.add(key='epochs', value='300')

    assert changed_weights(table, edited(changed(tmp_path / 'r.onnx', retell)).model) == {}


def rename(model: Any) -> None:
    name = stored(model, HEAD).name = f'{HEAD}.ema'
    for node in model.graph.node:
        node.input[:] = [name if each == HEAD else each for each in node.input]


def fewer_classes(model: Any) -> None:
    each = stored(model, HEAD)
    values = onnx.numpy_helper.to_array(each)[:27]
    each.CopyFrom(onnx.numpy_helper.from_array(values, HEAD))


def other_stride(model: Any) -> None:
    conv = next(node for node in model.graph.node if node.op_type == 'Conv')
    next(each for each in conv.attribute if each.name == 'strides').ints[:] = [1, 1]


def other_layer(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == 'LeakyRelu')
    node.attribute[0].f += 0.1


def free_size(model: Any) -> None:
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[2].dim_value = sides[3].dim_value = 640


@pytest.mark.parametrize(('change', 'told'), [
    (rename, r'it lacks model\.77\.m\.0\.bias, which the plan was built from'),
    (fewer_classes, r'model\.77\.m\.0\.bias is float32 27 and not float32 255'),
    (other_stride, 'its layers, or their attributes'),
    (other_layer, 'its layers, or their attributes'),
    (free_size, 'its layers, or their attributes, inputs'),
])
def test_what_else_differs_is_told(
    table: Any, tmp_path: Path, change: Callable[[Any], None], told: str
) -> None:
    with pytest.raises(RefitError, match=told):
        changed_weights(table, edited(changed(tmp_path / 'o.onnx', change)).model)


def test_a_model_with_more_weights_is_another(table: Any) -> None:
    model = edited().model
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), 'more'))
    with pytest.raises(RefitError, match='it has more, which the plan was not built from'):
        changed_weights(table, model)


def quantised(scale: float, weight: float) -> Any:
    """Build a convolution with Q/DQ before it."""
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node('QuantizeLinear', ['images', 'scale'], ['q']),
        helper.make_node('DequantizeLinear', ['q', 'scale'], ['dq']),
        helper.make_node('QuantizeLinear', ['weight', 'weight_scale'], ['wq']),
        helper.make_node('DequantizeLinear', ['wq', 'weight_scale'], ['wdq']),
        helper.make_node('Conv', ['dq', 'wdq'], ['output']),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, 'int8', [value('images', 1, [1, 3, 8, 8])], [value('output', 1, None)],
        [from_array(np.float32(scale), 'scale'), from_array(np.float32(0.01), 'weight_scale'),
         from_array(np.full((4, 3, 1, 1), weight, np.float32), 'weight')],
    )
    return helper.make_model(graph)


def test_scales_of_int8_must_be_equal() -> None:
    table = table_of(quantised(0.1, 0.5))
    assert list(changed_weights(table, quantised(0.1, 0.7))) == ['weight']
    with pytest.raises(RefitError, match='^scale differ, which are no weights: scales of int8'):
        changed_weights(table, quantised(0.2, 0.7))


def test_weights_stored_as_float16_may_be_exchanged_for_float32_ones(tmp_path: Path) -> None:
    """The embedded model casts stored halves; a build takes them as float32, whatever they are."""
    wide = finetuned(tmp_path / 'wide.onnx')
    kinds = [
        {each.data_type for each in onnx.load(str(path)).graph.initializer if 'conv' in each.name}
        for path in (NANO, wide)
    ]
    assert onnx.TensorProto.FLOAT16 in kinds[0] - kinds[1]
    assert changed_weights(table_of(edited().model), edited(wide).model)


# ---- the refit


@functools.cache
def built(options: BuildOptions) -> tuple[bytes, PlanManifest]:
    """Return plan and manifest of the embedded model, as `build_plan` makes them."""
    model = prepared(NANO, options)
    data = model.edit.to_bytes()
    return data, PlanManifest(
        machine=emulated_cuda.MACHINE, precision=options.precision, profiles=options.profiles,
        onnx=str(NANO), onnx_sha256=model.sha256,
        plan_sha256=hashlib.sha256(data).hexdigest(), plan_size_bytes=len(data),
        options=options.to_record(), spec=model.spec, created='2026-01-01T00:00:00+00:00',
        build_seconds=90.0,
        weights=table_of(model.edit.model) if options.refittable else None,
    )


def prepared(path: Path, options: BuildOptions) -> PreparedModel:
    api: Any = emulated_cuda.EmulatedApi(emulated_cuda.State(), (SIZE,))
    progress = BuildProgress(lambda *_: None, lambda: False)
    return prepare_model(path, options, api, progress, with_session=True)


class Bench:
    """An emulated GPU, a refittable plan on it, and another model."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.api: Any = emulated_cuda.EmulatedApi(emulated_cuda.install().state, (SIZE,))
        options = {'precision': 'fp32', 'profiles': (SIZE,), 'refittable': True} | options
        self.plan = self.build(folder / 'v7.plan', BuildOptions(**options))
        self.onnx, self.output = finetuned(folder / 'v8.onnx'), folder / 'v8.plan'

    def build(self, plan: Path, options: BuildOptions) -> Path:
        """Write a plan as `build_plan` does, of what the emulated TensorRT runs."""
        write_plan(plan, *built(options))
        return plan

    def refit(self, **changes: Any) -> refit.Refitted:
        given: dict[str, Any] = {
            'plan': self.plan, 'onnx': self.onnx, 'output': self.output, 'api': self.api,
            'machine': emulated_cuda.MACHINE, 'report': lambda *_: None,
            'cancelled': lambda: False,
        }
        return refit.refit_plan(**(given | changes))

    def is_refused(self, error: type[Exception], told: str, **changes: Any) -> str:
        """Check that nothing is written; returns what was said."""
        before = {each: each.read_bytes() for each in self.folder.iterdir()}
        with pytest.raises(error, match=told) as caught:
            self.refit(**changes)
        assert {each: each.read_bytes() for each in self.folder.iterdir()} == before
        return str(caught.value)


@pytest.fixture
def gpu() -> Iterator[None]:
    """Put the emulated device in PyCUDA's place."""
    names = ('pycuda', 'pycuda.driver')
    kept = {name: sys.modules.get(name) for name in names}
    modules = [f'yolov7_trt_ros.engine.{name}' for name in MODULES]
    for name in modules:
        sys.modules.pop(name, None)
    yield
    for name in modules:
        sys.modules.pop(name, None)
    for name, module in kept.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture
def bench(gpu: None, tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize('by_parser', [False, True])
def test_a_refit_gives_the_plan_of_the_new_model(bench: Bench, by_parser: bool) -> None:
    bench.api.refits_by_parser = by_parser
    former = bench.plan.read_bytes()
    done = bench.refit(images=[ImageView.from_array(np.full((48, 64, 3), 90, np.uint8))])
    manifest = read_manifest(bench.output)
    assert manifest == done.manifest and bench.plan.read_bytes() == former
    assert manifest.spec.layout is OutputLayout.RAW_HEADS  # the decoding is cut off, as before
    assert manifest.onnx_sha256 == hashlib.sha256(bench.onnx.read_bytes()).hexdigest()
    assert manifest.created > '2026-01-01' and manifest.options == read_manifest(
        bench.plan).options
    new = prepared(bench.onnx, BuildOptions.from_manifest(manifest)).edit.model
    assert manifest.weights == table_of(new)
    plan = onnx.load_from_string(read_plan(bench.output, manifest))
    assert onnx.numpy_helper.to_array(stored(plan, HEAD)).tolist() == (
        onnx.numpy_helper.to_array(stored(new, HEAD)).tolist()
    )
    assert (done.changed > 100, done.images) == (True, 1) and done.error < 1e-3
    # and that one can be refitted again, also to what it was
    again = bench.refit(plan=bench.output, onnx=NANO, output=bench.folder / 'v9.plan')
    assert again.changed == done.changed and again.images == 1


def test_a_kept_grid_is_refitted_too(gpu: None, tmp_path: Path) -> None:
    done = Bench(tmp_path, keep_grid=True).refit()
    assert done.manifest.spec.layout is OutputLayout.GRID and done.error < 1e-3


def test_a_model_that_is_equal_is_compared_and_written(bench: Bench) -> None:
    done = bench.refit(onnx=NANO)
    assert (done.changed, bench.output.read_bytes()) == (0, bench.plan.read_bytes())


def test_names_of_classes_are_those_of_the_new_model(bench: Bench) -> None:
    def call_others(model: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == 'names':
                entry.value = json.dumps([f'part {number}' for number in range(80)])

    bench.onnx = changed(bench.folder / 'v8.onnx', call_others)
    assert bench.refit().manifest.spec.class_names[:2] == ('part 0', 'part 1')


@pytest.mark.parametrize(('faults', 'told'), [
    ({'lost': (HEAD,)}, 'does not compute what ONNX Runtime does: its outputs differ by 0'),
    ({'refused': (HEAD,)}, r'TensorRT does not take the weights model\.77\.m\.0\.bias'),
    ({'missing': ('model.0.conv.weight', 'scale')},
     'TensorRT needs scale too, which the model lacks'),
    ({'fixed': (HEAD,)}, r'TensorRT has built model\.77\.m\.0\.bias into the plan'),
    ({'fails': True}, 'TensorRT cannot refit the plan'),
])
def test_what_tensorrt_does_wrong_is_found(
    bench: Bench, faults: dict[str, Any], told: str
) -> None:
    bench.api.refit = emulated_cuda.RefitFaults(**faults)
    text = bench.is_refused(RefitError, told)
    assert f'v7.plan cannot take the weights of {bench.onnx}: ' in text
    assert text.endswith('v8.plan --precision fp32 --min 1x3x96x128 --opt 1x3x96x128 '
                         '--max 1x3x96x128 --refittable')


def test_the_limits_find_every_bias_that_is_lost() -> None:
    """Of the embedded model, each bias set to zero in turn; docs/bank.md has the figures."""
    model = prepared(NANO, BuildOptions('fp32', (SIZE,)))
    blobs = refit._blobs(SIZE, model.spec, ())
    right = refit._run_on_cpu(model, model.spec, blobs)
    errors = []
    for each in model.edit.model.graph.initializer:
        if each.name.endswith('.bias'):
            kept = onnx.numpy_helper.to_array(each)
            each.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(kept), each.name))
            lost = dataclasses.replace(
                model, session=open_session(model.edit.to_bytes(), each.name, 1)
            )
            found = refit._run_on_cpu(lost, model.spec, blobs)
            errors.append(refit._largest_error(model.spec.outputs, right, found))
            each.CopyFrom(onnx.numpy_helper.from_array(kept, each.name))
    assert len(errors) == 58
    assert min(errors) > refit.LARGEST_ERROR['fp16'] > refit.LARGEST_ERROR['fp32']
    assert sum(each > refit.LARGEST_ERROR['int8'] for each in errors) > 29  # int8 itself errs more


def test_weights_that_tensorrt_has_combined_are_set_too(bench: Bench) -> None:
    """Of one bias that has changed, its convolution's weights are wanted as well."""
    def touch(model: Any) -> None:
        each = stored(model, HEAD)
        values = onnx.numpy_helper.to_array(each) + 1
        each.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), HEAD))

    bench.api.refit = emulated_cuda.RefitFaults(missing=('model.77.m.0.weight',))
    assert bench.refit(onnx=changed(bench.folder / 'bias.onnx', touch)).changed == 1


def test_what_the_parser_says_is_told(bench: Bench) -> None:
    bench.api.refits_by_parser = True
    bench.api.refit = emulated_cuda.RefitFaults(refused=(HEAD,))
    bench.is_refused(RefitError, 'does not take the weights of the model: shapes differ')


def test_nan_is_an_error(bench: Bench) -> None:
    def spoil(model: Any) -> None:
        each = stored(model, HEAD)
        values = onnx.numpy_helper.to_array(each) * np.nan
        each.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), HEAD))

    with pytest.raises(Exception, match='NaN or infinite'):  # before any refit
        bench.refit(onnx=changed(bench.folder / 'nan.onnx', spoil))
    error = refit._largest_error(('a',), [{'a': np.zeros(3)}], [{'a': np.full(3, np.nan)}])
    assert error == float('inf')


def test_models_that_differ_in_more_are_refused(bench: Bench) -> None:
    text = bench.is_refused(
        RefitError, 'it lacks model.77.m.0.bias', onnx=changed(bench.onnx, rename)
    )
    assert 'build a plan of it instead: yolov7_trt build ' in text


def test_plans_that_cannot_be_refitted(bench: Bench) -> None:
    plain = bench.build(bench.folder / 'plain.plan', BuildOptions('fp32', (SIZE,)))
    bench.is_refused(RefitError, 'not refittable; build it once with: .* --refittable', plan=plain)
    foreign = bench.folder / 'trtexec.plan'
    foreign.write_bytes(b'ftrt')
    bench.is_refused(RefitError, 'no manifest', plan=foreign)
    bench.is_refused(PlanMissingError, 'there is no plan', plan=bench.folder / 'none.plan')
    cut = bench.folder / 'cut.plan'
    cut.write_bytes(bench.plan.read_bytes()[:1000])
    manifest_path(cut).write_bytes(manifest_path(bench.plan).read_bytes())
    bench.is_refused(PlanError, 'truncated: 1000 bytes of', plan=cut)
    other = dataclasses.replace(emulated_cuda.MACHINE, tensorrt_version='1.0.0')
    bench.is_refused(PlanMismatchError, 'built with TensorRT 0.0.0, here is 1.0.0', machine=other)
    other = dataclasses.replace(emulated_cuda.MACHINE, gpu_name='Orin')
    bench.is_refused(PlanMismatchError, 'here is Orin', machine=other)
    half = bench.folder / 'half.onnx'
    half.write_bytes(NANO.read_bytes()[:100_000])
    bench.is_refused(ModelFormatError, 'half.onnx', onnx=half)


def test_a_later_tensorrt_that_can_load_a_plan_cannot_refit_it(gpu: None, tmp_path: Path) -> None:
    bench = Bench(tmp_path, version_compatible=True)
    manifest = read_manifest(bench.plan)
    built = dataclasses.replace(emulated_cuda.MACHINE, tensorrt_version='8.6.0')
    write_plan(bench.plan, bench.plan.read_bytes(), dataclasses.replace(manifest, machine=built))
    here = dataclasses.replace(emulated_cuda.MACHINE, tensorrt_version='8.6.1')
    bench.is_refused(RefitError, 'built with TensorRT 8.6.0 and runs with 8.6.1 too', machine=here)


def test_a_cancelled_refit_writes_nothing(bench: Bench) -> None:
    bench.is_refused(Exception, 'the refit was cancelled', cancelled=lambda: True)


# ---- in place of the build that another model would need


@pytest.fixture
def options(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> DetectorOptions:
    from yolov7_trt_ros.engine import open as opening

    monkeypatch.setattr(opening, '_find_tensorrt', lambda *_: bench.api)
    monkeypatch.setattr(opening, 'find_target', lambda api: emulated_cuda.MACHINE)
    return DetectorOptions(
        model=str(bench.onnx), precision='fp32', plan_cache=str(bench.folder / 'cache'),
        refit_from=str(bench.plan),
    )


class Built(Exception):
    """A build was begun."""


def build_or_refit(
    options: DetectorOptions, monkeypatch: pytest.MonkeyPatch, *, cancelled: bool = False
) -> Path:
    def build_plan(*_: Any, **__: Any) -> None:
        raise Built

    monkeypatch.setattr('yolov7_trt_ros.engine.building.builder.build_plan', build_plan)
    return build_needed_plan(options, lambda *_: None, lambda: cancelled)


def test_the_plan_that_serves_is_refitted_into_the_cache(
    bench: Bench, options: DetectorOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_or_refit(options, monkeypatch)
    assert plan == cached_plan(bench.onnx, options, emulated_cuda.MACHINE)
    assert read_manifest(plan).onnx == str(bench.onnx)
    # a cached plan is found by the model that it belongs to
    third = dataclasses.replace(
        options, model=str(finetuned(bench.folder / 'v9.onnx', 2)), refit_from=str(bench.onnx)
    )
    assert refittable_plan(third, emulated_cuda.MACHINE) == plan
    assert build_or_refit(third, monkeypatch) != plan


def test_what_no_refit_will_do_for_is_built(
    bench: Bench, options: DetectorOptions, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = changed(bench.folder / 'other.onnx', other_layer)
    with pytest.raises(Built):
        build_or_refit(dataclasses.replace(options, model=str(other)), monkeypatch)
    assert f'a plan of {other} is built, for there was no refit: ' in caplog.text
    assert 'its layers, or their attributes' in caplog.text
    bench.api.refit = emulated_cuda.RefitFaults(lost=(HEAD,))
    with pytest.raises(Built):
        build_or_refit(options, monkeypatch)
    assert 'does not compute what ONNX Runtime does' in caplog.text
    bench.plan.write_bytes(bench.plan.read_bytes()[:100])
    with pytest.raises(Built):
        build_or_refit(options, monkeypatch)
    assert 'is truncated: 100 bytes' in caplog.text


@pytest.mark.parametrize('spoil', [
    lambda plan: plan.unlink(), lambda plan: plan.chmod(0o666),
    lambda plan: (plan.unlink(), plan.mkdir()),
])
def test_where_the_plan_that_serves_is_gone_or_not_ours_any_more_it_is_built(
    bench: Bench, options: DetectorOptions, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object],
) -> None:
    spoil(bench.plan)
    with pytest.raises(Built):
        build_or_refit(options, monkeypatch)
    assert 'is built, for there was no refit: ' in caplog.text


def test_a_refit_that_is_cancelled_is_no_reason_to_build(
    options: DetectorOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BuildError, match='cancelled'):
        build_or_refit(options, monkeypatch, cancelled=True)


@pytest.mark.parametrize('changes', [
    {'refit_from': ''}, {'refit_from': '/nowhere/v7.plan'}, {'refit_from': 'yolov7-nano'},
    {'refit_from': '~nobody-here/v7.plan'},
    {'precision': 'fp16'},
])
def test_without_a_plan_to_refit_it_is_built(
    options: DetectorOptions, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Built):
        build_or_refit(dataclasses.replace(options, **changes), monkeypatch)
    assert caplog.text == ''
