"""What a DLA would run: real networks from NVIDIA's parser, and a TensorRT that can be asked."""

from __future__ import annotations

from pathlib import Path
import types
from typing import Any

import pytest

from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan, report_dla
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.dla_report import DlaReport, place_layers, PlacedLayer
from yolov7_trt_ros.errors import BuildError

NANO = find_model('yolov7-nano')
ONE = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64))
FREE = ShapeRange((1, 3, 64, 64), (1, 3, 64, 64), (2, 3, 64, 64))


@pytest.fixture(scope='module')
def rtx() -> TrtApi:
    try:
        import tensorrt_rtx_bindings
    except ImportError:
        pytest.skip('TensorRT-RTX is not installed')
    return TrtApi(tensorrt_rtx_bindings)


@pytest.fixture(scope='module')
def nano(rtx: TrtApi) -> DlaReport:
    return report_dla(NANO, BuildOptions(profiles=(ONE,), dla_core=0), api=rtx)


def causes(report: DlaReport) -> str:
    return '\n'.join(report.causes())


def test_a_real_network_names_what_keeps_it_from_a_dla(nano: DlaReport) -> None:
    assert not nano.asked
    assert nano.causes()[0].startswith('LeakyReLU: runs on an Orin, not on every DLA: 55 layer(s)')
    assert 'pooling over 13x13: 8x8 at most (SPP): 1 layer(s), model.33' in causes(nano)
    assert nano.transitions > 50 and nano.loadables > 16
    assert len(nano.fallbacks) == 57
    rows = dict(nano.rows()[:2])
    assert rows['source'].startswith('ESTIMATE') and rows['on the DLA'] == '78 of 135 layers'


def test_dynamic_shapes_leave_nothing_to_it(rtx: TrtApi) -> None:
    report = report_dla(NANO, BuildOptions(profiles=(FREE,), dla_core=0), api=rtx)
    assert len(report.fallbacks) == len(report.layers) and report.transitions == 0
    assert report.causes()[0].startswith('dynamic shapes, give --opt alone')
    with pytest.raises(BuildError, match='the DLA would run no layer.*dynamic shapes'):
        report.check(0)


def test_decoding_inside_the_network_costs_transitions(rtx: TrtApi, nano: DlaReport) -> None:
    grid = report_dla(
        NANO, BuildOptions(profiles=(ONE,), dla_core=0, keep_grid=True), api=rtx
    )
    assert len(grid.fallbacks) > len(nano.fallbacks) + 50
    assert '5 dimensions, 4 are taken' in causes(grid)


def test_a_build_is_refused_before_it_begins(rtx: TrtApi, tmp_path: Path) -> None:
    plan = tmp_path / 'nano.plan'
    with pytest.raises(BuildError, match=r'\d+ transitions \(an est.* --max-transitions 4.*Leaky'):
        build_plan(
            NANO, plan, BuildOptions(profiles=(ONE,), dla_core=0), api=rtx,
            machine=BuildTarget('TensorRT-RTX', rtx.version, '', '', ''),
            report=lambda phase, part: None, cancelled=lambda: False, max_transitions=4,
        )
    assert not plan.exists()


def test_limits(nano: DlaReport) -> None:
    nano.check(None)
    nano.check(nano.transitions)
    with pytest.raises(BuildError):
        nano.check(nano.transitions - 1)
    assert nano.to_record()['causes'] == nano.causes()


# ---- a TensorRT with a DLA


class Layer:
    """A layer of a chain: reads what the one before it makes."""

    def __init__(self, kind: str, index: int, **attributes: Any) -> None:
        self.type, self.name = f'LayerType.{kind}', f'layer{index}'
        self._index = index
        self.num_inputs = self.num_outputs = 1
        vars(self).update(attributes)

    def _tensor(self, index: int) -> Any:
        return types.SimpleNamespace(
            name=f't{index}', shape=(1, 8, 8, 8), is_shape_tensor=False
        )

    def get_input(self, number: int) -> Any:
        return self._tensor(self._index)

    def get_output(self, number: int) -> Any:
        return self._tensor(self._index + 1)


class PoolingLayer(Layer):
    """Its own class has another `type`."""

    type = property(  # noqa: A003  (as TensorRT calls it)
        lambda self: f'PoolingType.{self.pooling}', lambda self, value: None
    )


def place(*layers: Layer, can_run: Any = None, said: str = '') -> DlaReport:
    """Place a chain; `can_run` answers as TensorRT would."""
    module = types.SimpleNamespace(**{
        name: Layer for name in (
            'IActivationLayer', 'IConvolutionLayer', 'IElementWiseLayer', 'IResizeLayer',
            'IConcatenationLayer', 'IDeconvolutionLayer', 'IUnaryLayer',
            'IQuantizeLayer', 'IShuffleLayer', 'IScaleLayer',
        )
    }, IPoolingLayer=PoolingLayer)
    network = types.SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    heard: list[str] = []

    def ask(layer: Layer) -> bool:
        if said and layer is layers[0]:
            heard.append(said)
        return bool(can_run(layer))

    return place_layers(
        module, network, types.SimpleNamespace(can_run_on_DLA=ask), (ONE,),
        asks=can_run is not None, logged=heard,
    )


def chain(count: int) -> list[Layer]:
    return [Layer('SCALE', index) for index in range(count)]


@pytest.mark.parametrize(('gpu', 'transitions', 'loadables'), [
    ('', 0, 1), ('2', 2, 2), ('0', 1, 1), ('5', 1, 1), ('14', 4, 3), ('012345', 0, 0),
    ('23', 2, 2),
])
def test_transitions_and_parts_of_a_chain(gpu: str, transitions: int, loadables: int) -> None:
    report = place(*chain(6), can_run=lambda layer: str(layer._index) not in gpu)
    assert report.asked and (report.transitions, report.loadables) == (transitions, loadables)
    assert len(report.fallbacks) == len(gpu)


def test_what_tensorrt_says_is_the_reason_where_no_rule_is_known() -> None:
    said = 'layer0: DLA only supports it on Tuesdays'
    assert place(*chain(1), can_run=lambda _: False, said=said).causes() == [
        f'{said}: 1 layer(s), layer0'
    ]
    assert 'TensorRT gives no reason' in causes(place(*chain(1), can_run=lambda _: False))
    assert place(*chain(2), can_run=lambda _: False, said=said).causes() == [
        f'{said}: 1 layer(s), layer0', 'TensorRT gives no reason: 1 layer(s), layer1'
    ]  # what it says of one layer is no reason of another
    leaky = Layer('ACTIVATION', 0)
    leaky.type = 'LayerType.ACTIVATION'
    assert place(leaky, can_run=lambda _: True).fallbacks == ()  # it is asked, not guessed


def conv(**changes: Any) -> dict[str, Any]:
    return {'kernel_size_nd': (3, 3), 'stride_nd': (1, 1), 'num_output_maps': 8} | changes


def resize(scales: list[float] | None, mode: str = 'NEAREST') -> dict[str, Any]:
    return {'resize_mode': f'InterpolationMode.{mode}', 'scales': scales}


def pool(**changes: Any) -> dict[str, Any]:
    return {'window_size_nd': (2, 2), 'stride_nd': (2, 2), 'padding_nd': (0, 0)} | changes


@pytest.mark.parametrize(('kind', 'attributes', 'reason'), [
    ('CONVOLUTION', conv(), ''),
    ('CONVOLUTION', conv(kernel_size_nd=(33, 1)), 'convolution with kernel'),
    ('CONVOLUTION', conv(kernel_size_nd=(3, 3, 3)), 'convolution with kernel'),
    ('CONVOLUTION', conv(num_output_maps=9000), 'convolution to 9000 maps'),
    ('ELEMENTWISE', {'op': 'ElementWiseOperation.SUM'}, ''),
    ('ELEMENTWISE', {'op': 'ElementWiseOperation.POW'}, 'element-wise pow'),
    ('RESIZE', resize([1, 1, 2, 2]), ''),
    ('RESIZE', resize([1, 1, 1.5, 2]), 'resize by'),
    ('RESIZE', resize(None), 'resize to a size'),
    ('RESIZE', resize([1, 1, 2, 2], 'LINEAR'), 'nearest alone'),
    ('CONCATENATION', {'axis': 1}, ''),
    ('CONCATENATION', {'axis': 2}, 'concatenation along axis 2'),
    ('DECONVOLUTION', {'num_groups': 2, 'padding_nd': (0,), 'dilation_nd': (1,)}, 'with groups'),
    ('UNARY', {'op': 'UnaryOperation.EXP'}, 'unary exp'),
    ('QUANTIZE', {}, 'Q/DQ layers'),
    ('SHUFFLE', {}, ''),
    ('SOFTMAX', {}, 'softmax: no such layer'),
])
def test_documented_rules(kind: str, attributes: dict[str, Any], reason: str) -> None:
    report = place(Layer(kind, 0, **attributes))
    assert reason in causes(report) and bool(report.fallbacks) == bool(reason)


@pytest.mark.parametrize(('type_', 'rest', 'reason'), [
    ('MAX', pool(), ''),
    ('MAX', pool(window_size_nd=(9, 9)), 'pooling over 9x9'),
    ('MAX', pool(padding_nd=(8, 8)), 'pooling with padding'),
    ('MAX_AVERAGE_BLEND', pool(), 'max_average_blend pooling'),
])
def test_rules_of_pooling(type_: str, rest: dict[str, Any], reason: str) -> None:
    report = place(Layer('POOLING', 0, pooling=type_, **rest))
    assert reason in causes(report) and bool(report.fallbacks) == bool(reason)


def test_a_report_says_what_is_on_it() -> None:
    report = DlaReport(True, (PlacedLayer('a', ''), PlacedLayer('b', 'Q/DQ')), 1, 1)
    assert report.rows()[0] == ('source', 'TensorRT on this machine')
    assert report.rows()[-1] == ('on the GPU', 'Q/DQ: 1 layer(s), b')
