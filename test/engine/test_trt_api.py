"""One API over TensorRT 8.5, 8.6, 10, 11 and RTX: the table of what differs, on stand-ins."""

from __future__ import annotations

import sys
import threading
from typing import Any
import weakref

import numpy as np
import pytest
from tensorrt_surfaces import surface, VERSIONS

from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt import api as trt_api
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.engine.trt.messages import Messages
from yolov7_trt_ros.engine.trt.network import BuildSettings, TrtNetwork
from yolov7_trt_ros.engine.trt.refitter import refit_engine
from yolov7_trt_ros.errors import (
    BuildError,
    InferenceError,
    MissingDependencyError,
    PlanError,
    RefitError,
)

PLAN = b'{"plan": true}'
PROFILE = ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))


def label(index: int) -> str:
    return f'label{index} (Op)'


def build(
    module: Any, settings: BuildSettings, cancelled: bool = False
) -> tuple[bytes, list[Any]]:
    reports: list[Any] = []
    progress = BuildProgress(lambda *state: reports.append(state), lambda: cancelled)
    network = TrtNetwork(TrtApi(module))
    network.parse(b'model', label)
    with progress.reporting():
        data = network.build(settings, progress)
    return data, reports


# What each version has: the whole table.
@pytest.mark.parametrize(
    ('version', 'flavour', 'info', 'weak', 'timings', 'progress', 'level', 'later', 'gpus',
     'plugins', 'no_gpu'),
    [
        ('8.5', 'TensorRT', (8, 5, 2, 2), 1, 1, 0, 0, 0, 0, 1, 0),
        ('8.6', 'TensorRT', (8, 6, 0), 1, 1, 0, 1, 1, 1, 1, 0),
        ('10', 'TensorRT', (10, 3, 0), 1, 1, 1, 1, 1, 1, 1, 0),
        ('11', 'TensorRT', (11, 1, 0), 0, 1, 1, 1, 1, 1, 1, 0),
        ('RTX', 'TensorRT-RTX', (1, 7, 1, 116), 0, 0, 1, 1, 0, 0, 0, 1),
    ],
)
def test_what_each_version_has(
    version: str, flavour: str, info: tuple[int, ...], weak: int, timings: int, progress: int,
    level: int, later: int, gpus: int, plugins: int, no_gpu: int,
) -> None:
    api = TrtApi(surface(version))
    assert (api.flavour, api.version_info) == (flavour, info)
    assert [
        api.weakly_typed, api.has_timing_cache, api.has_progress, api.has_optimization_level,
        api.has_version_compatible, api.has_hardware_compatible, api.has_plugins,
        api.builds_without_gpu,
    ] == [bool(each) for each in (weak, timings, progress, level, later, gpus, plugins, no_gpu)]


@pytest.mark.parametrize('version', VERSIONS)
def test_build(version: str) -> None:
    module = surface(version)
    data, reports = build(module, BuildSettings((PROFILE,), fp16=True, workspace_mib=256))
    assert data == PLAN
    assert reports
    assert module.record['workspace'] == 256 << 20
    assert module.record['profiles'] == [
        ('images', (1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))
    ]
    assert module.record['profiling_verbosity'].name == 'DETAILED'
    assert ('FP16' in module.record['flags']) == (version in ('8.5', '8.6', '10'))
    assert ('PROFILE_SHARING_0806' in module.record['flags']) == (version in ('8.6', '10'))
    assert module.record['network_flags'] == (version in ('8.5', '8.6', '10'))


@pytest.mark.parametrize('version', ['8.6', '10', '11'])
def test_every_builder_option(version: str) -> None:
    module = surface(version)
    build(module, BuildSettings(
        (PROFILE,), int8=True, tf32=False, obey_precisions=True, opt_level=2, dla_core=1,
        refittable=True, version_compatible=True, hardware_compatible=True,
    ))
    weak = ['INT8', 'OBEY_PRECISION_CONSTRAINTS'] if version != '11' else []
    sharing = ['PROFILE_SHARING_0806'] if version != '11' else []
    assert module.record['flags'] == [
        *weak, 'no TF32', 'REFIT', 'VERSION_COMPATIBLE', *sharing, 'GPU_FALLBACK'
    ]
    assert module.record['builder_optimization_level'] == 2
    assert module.record['hardware_compatibility_level'].name == 'AMPERE_PLUS'
    assert module.record['default_device_type'].name == 'DLA'
    assert module.record['DLA_core'] == 1


@pytest.mark.parametrize('version', VERSIONS)
def test_a_plugin_is_built_without_libraries_that_it_does_not_use(version: str) -> None:
    module = surface(version)
    build(module, BuildSettings((PROFILE,)))
    assert 'tactic_sources' not in module.record
    build(module, BuildSettings((PROFILE,), plugins=True))
    assert module.record.get('tactic_sources') == (None if version == '11' else 0b11000)


@pytest.mark.parametrize('version', VERSIONS)
def test_a_dla_that_is_not_there(version: str) -> None:
    with pytest.raises(BuildError, match='--dla-core 2: TensorRT finds 2 DLA cores'):
        build(surface(version), BuildSettings((PROFILE,), dla_core=2))


@pytest.mark.parametrize('version', ['8.5', '8.6', '10', '11'])
@pytest.mark.parametrize(('kept', 'used'), [(b'', b''), (b'timings', b'timings'),
                                            (b'of another GPU', b'')])
def test_timing_cache(version: str, kept: bytes, used: bytes) -> None:
    module = surface(version)
    network = TrtNetwork(TrtApi(module))
    network.build(BuildSettings((PROFILE,), timing_cache=kept), _silent())
    assert module.record['timings'] == used
    assert network.timing_cache == b'timings'


def test_rtx_has_no_timing_cache() -> None:
    module = surface('RTX')
    network = TrtNetwork(TrtApi(module))
    network.build(BuildSettings((PROFILE,), timing_cache=b''), _silent())
    assert 'timings' not in module.record
    assert network.timing_cache is None


@pytest.mark.parametrize('version', VERSIONS)
def test_a_refused_build_has_the_reason(version: str) -> None:
    module = surface(version)
    module.refuse_build = 'Could not find any\nimplementation for node head.0'
    with pytest.raises(BuildError, match='cannot build: Could not find any implementation for'):
        build(module, BuildSettings((PROFILE,)))


@pytest.mark.parametrize('version', VERSIONS)
def test_cancelling(version: str) -> None:
    with pytest.raises(BuildError, match='the build was cancelled'):
        build(surface(version), BuildSettings((PROFILE,)), cancelled=True)


@pytest.mark.parametrize('version', VERSIONS)
def test_parser_errors_name_node_and_operator(version: str) -> None:
    module = surface(version)
    module.parser_errors = [(7, 'head.nms', 'FancyNMS', 'could not find plugin')] * 5
    named = 'label7 (Op)' if version in ('8.5', '8.6') else 'head.nms (FancyNMS)'
    with pytest.raises(BuildError) as caught:
        TrtNetwork(TrtApi(module)).parse(b'model', label)
    assert str(caught.value).count(f'node {named}: could not find plugin') == 3
    assert str(caught.value).endswith('and 2 more')


@pytest.mark.parametrize('version', ['8.5', '8.6', '10'])
def test_layers_kept_in_float32(version: str) -> None:
    module = surface(version)
    network = TrtNetwork(TrtApi(module))
    assert network.keep_float32(r'^head') == ['head.0', 'head.1']
    assert module.record['layers'] == [('head.0', 'FLOAT'), ('head.1', 'FLOAT')]
    with pytest.raises(BuildError, match=r"'neck' finds none of the 4 layers.*head\.1"):
        network.keep_float32('neck')


@pytest.mark.parametrize('version', ['8.5', '8.6'])
def test_progress_from_the_log(version: str) -> None:
    states: list[Any] = []
    api = TrtApi(surface(version))
    progress = BuildProgress(lambda *state: None, lambda: False)
    read = progress.read_message
    progress.read_message = lambda text: (  # type: ignore[method-assign]
        read(text), states.append((progress._phase, progress._fraction))
    )
    TrtNetwork(api).build(BuildSettings((PROFILE,)), progress)
    assert [phase for phase, _ in states[-2:]] == [
        'tactics: backbone.0 + act', 'tactics: head.0'
    ]
    assert states[-2][1] == pytest.approx(0.475)
    assert states[-1][1] == pytest.approx(0.95)
    assert api.messages.listener is None


@pytest.mark.parametrize('version', VERSIONS)
def test_engine(version: str) -> None:
    engine = TrtApi(surface(version)).deserialize(PLAN)
    assert list(map(str, engine.inputs)) == ['images float32[?, 3, ?, ?]']
    assert list(map(str, engine.outputs)) == ['output float16[?, 25200, 85]']
    assert [profile.optimum for profile in engine.profiles] == [(1, 3, 640, 640), (2, 3, 640, 640)]
    assert engine.device_memory_bytes == 4096
    assert engine.layers() == [
        {'Name': 'backbone.0', 'Metadata': 'a\x1eb'}, {'Name': 'head.0'}
    ]
    engine.close()
    engine.close()
    assert engine.layers() == []
    with pytest.raises(InferenceError, match='closed'):
        engine.create_context(0, 1)


@pytest.mark.parametrize('version', VERSIONS)
def test_context(version: str) -> None:
    module = surface(version)
    context = TrtApi(module).deserialize(PLAN).create_context(1, 5)
    ((kind, told),) = module.record['contexts']
    assert kind == ('without memory' if version in ('8.5', '8.6') else 'USER_MANAGED')
    context.set_device_memory(0x1000, 4096)
    context.set_input_shape('images', (1, 3, 640, 640))
    context.set_address('images', 0x2000)
    context.enqueue(7)
    assert told == {
        'profile': (1, 5), 'shape': ('images', (1, 3, 640, 640)), 'stream': 7,
        'memory': 0x1000 if version in ('8.5', '8.6') else (0x1000, 4096),
    }
    assert context.output_shape('output') == (1, 25200, 85)
    context.close()
    context.close()
    with pytest.raises(InferenceError, match='closed'):
        context.enqueue(7)


@pytest.mark.parametrize('version', VERSIONS)
def test_refusals_have_reasons(version: str) -> None:
    api = TrtApi(surface(version))
    with pytest.raises(PlanError, match=r'cannot load the plan: Magic tag does not match'):
        api.deserialize(b'other')
    engine = api.deserialize(PLAN)
    with pytest.raises(InferenceError, match='refuses profile 2 of 2'):
        engine.create_context(2, 1)
    context = engine.create_context(0, 1)
    with pytest.raises(InferenceError, match=r'images 1x3x1920x1920 does not fit.*1x3x1280x1280'):
        context.set_input_shape('images', (1, 3, 1920, 1920))
    with pytest.raises(InferenceError, match='tensor nothing'):
        context.set_address('nothing', 1)
    api.messages.add_error('out of memory')
    with pytest.raises(InferenceError, match='cannot run the network: out of memory'):
        context.enqueue(13)


def test_one_logger_for_a_module() -> None:
    module = surface('8.6')
    assert TrtApi(module).messages is TrtApi(module).messages


# ---- refits

WEIGHTS = {'head.weight': np.float32([1, 2]), 'head.bias': np.float32([3]), 'other': np.zeros(1)}


@pytest.mark.parametrize('version', VERSIONS)
def test_refits_by_name_or_by_the_parser(version: str) -> None:
    api = TrtApi(surface(version))
    engine = api.deserialize(PLAN)
    refit_engine(api, engine, b'model', WEIGHTS, {'head.bias': WEIGHTS['head.bias']})
    record = api.module.record
    old = version in ('8.5', '8.6')
    assert api.refits_by_parser is not old
    # only what has changed, and what TensorRT has combined it with
    assert record.get('weights') == (
        [('head.bias', [3]), ('head.weight', [1, 2])] if old else None
    )
    assert record.get('refit_model') == (None if old else b'model')
    assert engine.serialize() == b'{"plan": "refitted"}'
    assert ('INCLUDE_REFIT' in record['flags']) == (version in ('11', 'RTX'))


@pytest.mark.parametrize('version', VERSIONS)
def test_refits_that_tensorrt_refuses(version: str) -> None:
    api = TrtApi(surface(version))
    engine = api.deserialize(PLAN)
    with pytest.raises(RefitError, match='TensorRT has built other into the plan'):
        refit_engine(api, engine, b'model', WEIGHTS, WEIGHTS)
    api.module.refuse_weights = 'head.bias'
    told = 'weights head.bias: head.bias: count' if version in ('8.5', '8.6') else 'shape mismatch'
    with pytest.raises(RefitError, match=told):
        refit_engine(api, engine, b'model', WEIGHTS, {'head.bias': WEIGHTS['head.bias']})
    engine._engine.refittable = False
    with pytest.raises(RefitError, match='built without --refittable'):
        refit_engine(api, engine, b'model', WEIGHTS, {})


def test_errors_of_the_own_thread_come_first() -> None:
    messages = Messages()
    messages.add_error('mine')
    other = threading.Thread(target=messages.add_error, args=('of the other',))
    other.start()
    other.join()
    assert messages.last() == 'mine'
    messages.clear()
    assert messages.last() == 'of the other'


def test_loading_takes_the_first_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing', 'tensorrt_there'))
    monkeypatch.setitem(sys.modules, 'tensorrt_there', surface('8.6'))
    assert TrtApi.load().version == '8.6.0'


def test_loading_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing', 'tensorrt_gone'))
    with pytest.raises(MissingDependencyError, match='tensorrt_missing.*tensorrt_gone.*JetPack'):
        TrtApi.load()


def _silent() -> BuildProgress:
    return BuildProgress(lambda phase, fraction: None, lambda: False)


@pytest.mark.parametrize('core', [None, 1])
def test_a_plan_is_loaded_for_the_dla_it_was_built_for(core: int | None) -> None:
    api = TrtApi(surface('8.6'))
    api.dla_core = core
    engine = api.deserialize(PLAN)
    assert getattr(engine._runtime, 'DLA_core', None) == core


def test_a_closed_engine_keeps_nothing_of_tensorrt() -> None:
    """By the last reference, at once: later it may be in a thread without a CUDA context."""
    engine = TrtApi(surface('8.6')).deserialize(PLAN)
    context = engine.create_context(0, 5)
    context.enqueue(7)
    parts = [
        weakref.ref(each) for each in (context._context, engine._engine, engine._runtime)
    ]
    context.close()
    engine.close()
    assert [part() for part in parts] == [None] * 3
