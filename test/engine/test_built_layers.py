"""Layers that TensorRT tells of: the inspector's, and those of the builder's log."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tensorrt_surfaces import surface, VERSIONS

from yolov7_trt_ros.engine.layers import built_layers
from yolov7_trt_ros.engine.layers.built_layers import build_layers, inspect_plan
from yolov7_trt_ros.engine.layers.layer_log import LayerLog, parse_layer, recorded_layers
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.plan.shape_range import Shape, ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import (
    BuildError,
    InferenceError,
    MissingDependencyError,
    PlanError,
)

NANO = find_model('yolov7-nano')
SHAPE: Shape = (1, 3, 64, 64)
PLAN = b'{"plan": true}'


def build(api: TrtApi, precision: str = 'fp16') -> built_layers.BuiltLayers:
    return build_layers(
        NANO, precision=precision, shape=SHAPE, report=lambda phase, fraction: None,
        cancelled=lambda: False, api=api,
    )


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(plan: Path) -> Any:
        raise MissingDependencyError('a plan can only be loaded with PyCUDA')

    monkeypatch.setattr(built_layers, 'load_layer_information', refuse)


# ---- the real builder


def test_what_the_builder_of_tensorrt_rtx_tells(rtx: TrtApi, no_gpu: None) -> None:
    built = build(rtx)
    assert built.source['told_by'] == "the builder's log"
    assert built.source['tensorrt'].startswith('TensorRT-RTX ')
    assert (built.source['gpu'], built.source['precision']) == ('none', 'fp16')
    assert built.source['onnx'] == NANO.name and len(built.source['onnx_sha256']) == 64
    told = [layer for layer in built.layers if isinstance(layer, dict)]
    assert len(told) == len(built.layers) > 58
    metadata = ' '.join(layer['Metadata'] for layer in told)
    for node in ('model.0.conv', 'model.68', 'model.77.m.2'):
        assert f'[ONNX Layer: {node}]' in metadata
    computing = [layer for layer in told if layer['LayerType'] not in ('signal', 'wait')]
    assert all(layer['Inputs'] and layer['Outputs'] for layer in computing)
    first = computing[0]['Inputs'][0]
    assert (first['Name'], first['Dimensions'], first['Datatype']) == (
        'images', [1, 3, 64, 64], 'Float'
    )
    outputs = {tensor['Name']: tensor for layer in computing for tensor in layer['Outputs']}
    assert outputs['model.77.m.2']['Dimensions'] == [1, 255, 2, 2]
    assert rtx.messages.recorder is None
    assert json.loads(json.dumps(built.to_record()))['Layers'] == list(built.layers)


def test_the_precision_is_the_one_asked_for(rtx: TrtApi, no_gpu: None) -> None:
    def types(precision: str) -> set[str]:
        return {
            tensor['Datatype'] for layer in build(rtx, precision).layers if isinstance(layer, dict)
            if layer['LayerType'] == 'correlation' for tensor in layer['Inputs']
        }

    assert types('fp32') == {'Float'}
    assert types('fp16') == {'Half'}


# ---- builders that say nothing, plans that can be loaded


def test_a_builder_that_tells_nothing(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_layers, 'find_build_target', _machine)
    with pytest.raises(BuildError, match='reported no layers.*PyCUDA.*--save-layers'):
        build(TrtApi(surface('10')))


def test_the_inspector_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_layers, 'find_build_target', _machine)
    monkeypatch.setattr(built_layers, 'load_layer_information',
                        lambda plan: {'Layers': ['a + b'], 'Bindings': ['images']})
    built = build(TrtApi(surface('8.6')))
    assert (built.layers, built.bindings) == (('a + b',), ('images',))
    assert built.source['told_by'] == 'the engine inspector'
    assert built.source['onnx'] == NANO.name


def test_a_plan_without_layer_information(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built_layers, 'load_layer_information', lambda plan: {})
    with pytest.raises(PlanError, match='holds no layer information.*profilingVerbosity=detailed'):
        inspect_plan(tmp_path / 'm.plan')


def test_a_plan_where_there_is_no_gpu(tmp_path: Path) -> None:
    plan = tmp_path / 'm.plan'
    plan.write_bytes(PLAN)
    with pytest.raises((MissingDependencyError, InferenceError, PlanError)):
        inspect_plan(plan)


def _machine(api: TrtApi) -> Any:
    from yolov7_trt_ros.engine.plan.build_target import BuildTarget

    return BuildTarget(api.flavour, api.version, '8.0', 'GPU', '')


# ---- the inspector


@pytest.mark.parametrize('version', VERSIONS)
def test_the_inspector_tells_of_the_optimum(version: str) -> None:
    module = surface(version)
    engine = TrtApi(module).deserialize(PLAN)
    information = engine.layer_information()
    assert [layer if isinstance(layer, str) else layer['Name']
            for layer in information['Layers']] == ['backbone.0', 'head.0']
    assert information['Bindings'] == ['images']
    ((_, told),) = module.record['contexts']  # formats of free sizes need a context
    assert told['shape'] == told['inferred'] == ('images', (1, 3, 640, 640))
    engine.close()
    assert engine.layer_information() == {}


@pytest.mark.parametrize('version', VERSIONS)
def test_a_profile_of_one_shape_leaves_the_network_free(version: str) -> None:
    module = surface(version)
    engine = TrtApi(module).deserialize(PLAN)
    only = (1, 3, 640, 640)
    engine.profiles = (ShapeRange(only, only, only),)
    assert engine.layer_information()['Layers']
    assert [told['shape'] for _, told in module.record['contexts']] == [('images', only)]


def test_a_network_of_one_shape_needs_no_context() -> None:
    module = surface('8.6')
    engine = TrtApi(module).deserialize(PLAN)
    engine.inputs = (dataclasses.replace(engine.inputs[0], shape=(1, 3, 640, 640)),)
    assert engine.layer_information()['Layers']
    assert module.record['contexts'] == []


# ---- the log


def test_the_form_of_tensorrt_8() -> None:
    layer = parse_layer(
        'Layer(CaskConvolution): conv1 + PWN(act), Tactic: 0x4727434768e46395, '
        'images[Float(1,3,28,28)], c[Constant][Half(64,1:8,2)] -> '
        '(Unnamed Layer* 1) [Activation]_output[Half(1,32,28,28)]'
    )
    assert layer == {
        'Name': 'conv1 + PWN(act)', 'LayerType': 'CaskConvolution',
        'Inputs': [{'Name': 'images', 'Dimensions': [1, 3, 28, 28], 'Datatype': 'Float'},
                   {'Name': 'c[Constant]', 'Dimensions': [64, 1, 2], 'Datatype': 'Half'}],
        'Outputs': [{'Name': '(Unnamed Layer* 1) [Activation]_output',
                     'Dimensions': [1, 32, 28, 28], 'Datatype': 'Half'}],
        'TacticValue': '0x4727434768e46395',
    }


def test_the_form_of_later_tensorrt_8_and_10() -> None:
    layer = parse_layer('Layer(Reformat): copy, Tactic: 0x00000000000003ea, '
                        'images (Float[1,3,640,-1]) -> y (Int8[1,3:4,640,640])')
    assert layer is not None
    assert layer['Inputs'][0]['Dimensions'] == [1, 3, 640, -1]
    assert layer['Outputs'] == [
        {'Name': 'y', 'Dimensions': [1, 3, 640, 640], 'Datatype': 'Int8'}
    ]


def test_a_layer_without_inputs() -> None:
    layer = parse_layer('Layer(Constant): two, Tactic: 0,  -> two_output[Float(1,1)]')
    assert layer is not None
    assert layer['Inputs'] == [] and layer['Outputs'][0]['Name'] == 'two_output'


def test_the_form_of_tensorrt_rtx() -> None:
    tensor = ('{{ Name: {}, Dimensions: [1,16,32,32], Strides: [16384,1,512,16], '
              'StrideOrder: [3,0,2,1], Datatype: {}, Format: (NHWC) Channel major format }}')
    layer = parse_layer(
        f'Name: __myl_CorrMulMax_myl0_3, LayerType: runtime_fusion, Inputs: '
        f'[ {tensor.format("a [x]", "Half")}, {tensor.format("b", "Int8")}], Constants: '
        f'[ {tensor.format("w", "Half")}], Outputs: [ {tensor.format("y", "Half")}], TacticName: '
        'sm80_x, StreamId: 0, Metadata: [ONNX Layer: row0][ONNX Layer: row0.conv]'
    )
    assert layer is not None
    assert [each['Name'] for each in layer['Inputs']] == ['a [x]', 'b']
    assert [each['Datatype'] for each in layer['Inputs']] == ['Half', 'Int8']
    assert [each['Name'] for each in layer['Constants']] == ['w']
    assert layer['Outputs'] == [{'Name': 'y', 'Dimensions': [1, 16, 32, 32], 'Datatype': 'Half',
                                 'Format': '(NHWC) Channel major format'}]
    assert layer['TacticName'] == 'sm80_x'
    assert layer['Metadata'] == '[ONNX Layer: row0][ONNX Layer: row0.conv]'


def test_a_layer_that_only_waits() -> None:
    layer = parse_layer('Name: entry^bb^wait^2_myl0_1, LayerType: wait, Inputs: [], Constants: [],'
                        ' Outputs: [], TacticName: , StreamId: 2, EventId: 7, Metadata: ')
    assert layer is not None
    assert (layer['LayerType'], layer['Inputs'], layer['Outputs']) == ('wait', [], [])


@pytest.mark.parametrize('line', [
    '', 'Layers:', 'Engine Layer Information:', 'After concat removal: 2 layers',
    'Layer: {ForeignNode[a...b]} Host Persistent: 80 bytes', 'Name: x', 'Layer(X): y',
])
def test_other_lines(line: str) -> None:
    assert parse_layer(line) is None


def test_messages_of_many_lines_and_lines_that_come_twice() -> None:
    log = LayerLog()
    message = 'Engine Layer Information:\nLayer(A): a, Tactic: 1, x[Float(1)] -> y[Float(1)]\n'
    log.read_message(message + 'Layer(B): b, Tactic: 1, y[Float(1)] -> z[Float(1)]')
    log.read_message(message)
    assert [layer['Name'] for layer in log.layers] == ['a', 'b']


def test_recording_ends_with_an_error_too() -> None:
    messages = TrtApi(surface('10')).messages
    with pytest.raises(BuildError), recorded_layers(messages):
        assert messages.recorder is not None
        raise BuildError('no')
    assert messages.recorder is None
