"""What became of chains: by hand for each case, and laws for every kept file of real layers."""

from __future__ import annotations

from collections.abc import Sequence
import html.parser
import json
from pathlib import Path
from typing import Any
import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.onnx_tools.chains import Chain, ChainNode, load_chains
from yolov7_trt_ros.report.fusion.chain_fate import ABSENT, APART, ChainFate, FUSED, HIDDEN
from yolov7_trt_ros.report.fusion.drawing import COLOURS, draw_svg
from yolov7_trt_ros.report.fusion.engine_layers import (
    CONVOLUTION,
    EngineLayer,
    load_layers,
    NO_OP,
    OTHER,
    parse_layers,
    QUANTISE,
    REFORMAT,
    SYNC,
)
from yolov7_trt_ros.report.fusion.fusion_report import describe_change, FusionReport, make_report
from yolov7_trt_ros.report.fusion.layout import find_links, lay_out, NODE_HEIGHT_PX, NODE_WIDTH_PX
from yolov7_trt_ros.report.fusion.page import as_page
from yolov7_trt_ros.report.fusion.timed_layers import match_times

ENGINES = sorted((Path(__file__).resolve().parents[1] / 'data' / 'engines').glob('*.json'))
MERGED = 'its {} was merged with the {} that follows rather than with the convolution'
SVG = '{http://www.w3.org/2000/svg}'


def chain(*names: str, **more: Any) -> Chain:
    nodes = tuple(
        ChainNode(operator, (name,))
        for operator, name in zip(('Conv', 'LeakyRelu', 'Mul'), names, strict=False)
    )
    return Chain('Conv + LeakyRelu', nodes, **more)


def fate_of(layers: Sequence[dict[str, Any] | str], wanted: Chain | None = None) -> ChainFate:
    # a second chain that is there keeps the first from being another model's
    chains = (wanted or chain('c', 'a'), chain('other', 'act'))
    report = make_report(parse_layers([*layers, 'other + act']), chains, {})
    return report.fates[0]


def convolution(name: str, **more: Any) -> dict[str, Any]:
    return {'Name': name, 'LayerType': 'CaskConvolution', **more}


def kernel(name: str, *nodes: str, kind: str = 'kgen') -> dict[str, Any]:
    return {'Name': name, 'LayerType': kind,
            'Metadata': ''.join(f'[ONNX Layer: {node}]' for node in nodes)}


# ---- each case by hand


@pytest.mark.parametrize('layers', [
    [convolution('c + a')], [convolution('c + PWN(a)')], ['c + PWN(a)'],
    [convolution('w + WeightQ + c + PWN(a)')], [convolution('c + PWN(a) || d + PWN(b)')],
    [kernel('__myl_CorrMulMax_myl0_1', 'a', 'c', kind='runtime_fusion')],
    # the padding of an input names the convolution as well
    [kernel('__myl_CastConc_myl0_0', 'x', 'c'),
     kernel('__myl_CorrMulMax_myl0_1', 'a', 'c', kind='runtime_fusion')],
])
def test_fused(layers: list[Any]) -> None:
    fate = fate_of(layers)
    assert (fate.state, fate.reason, fate.detail) == (FUSED, '', '')
    assert fate.layers == (len(layers) - 1,)


def test_fused_in_three_nodes() -> None:
    silu = chain('c', 's', 'm')
    assert fate_of([convolution('c + PWN(PWN(s), m)')], silu).state == FUSED
    split = fate_of([convolution('c + PWN(s)'), 'PWN(m)'], silu)
    assert (split.state, split.reason) == (APART, 'its Mul runs apart')


@pytest.mark.parametrize(('layer', 'detail'), [
    (convolution('c', Activation='LEAKY_RELU'), 'not named; shown by "Activation": LEAKY_RELU'),
    (kernel('__myl_FcAddMulMax_myl0_36', 'c', kind='runtime_fusion'),
     'not named; shown by the kernel: Fc Add Mul Max'),
])
def test_an_activation_that_no_layer_names(layer: dict[str, Any], detail: str) -> None:
    assert fate_of([layer]) == ChainFate(chain('c', 'a'), FUSED, (0,), detail=detail)


def test_an_activation_that_nothing_tells_of() -> None:
    for layer in (convolution('c'), convolution('c', Activation='NONE'),
                  kernel('__myl_FcAdd_myl0_3', 'c', kind='runtime_fusion')):
        fate = fate_of([layer])
        assert (fate.state, fate.reason) == (APART, 'no layer names its LeakyRelu')


@pytest.mark.parametrize(('layers', 'more', 'reason'), [
    ([convolution('c'), 'PWN(a)'], {}, 'its LeakyRelu runs apart'),
    ([convolution('c'), 'PWN(a)'], {'feeds': ('Conv d', 'Concat e')},
     'its LeakyRelu runs apart and feeds a Concat'),
    ([convolution('c'), 'PWN(PWN(a), b)'], {'feeds': ('Concat e',)},
     'its LeakyRelu was merged with what follows rather than with the convolution'),
    ([convolution('c'), 'PWN(PWN(a), b)'], {'feeds': ('Conv d', 'Add b')},
     'its LeakyRelu was merged with the Add that follows rather than with the convolution'),
    ([convolution('c'), kernel('__myl_MulMaxResiConc_myl0_5', 'a', 'b')], {},
     'its LeakyRelu was merged with what follows rather than with the convolution'),
    *(([kernel('c_myl0_1', 'c', kind='correlation'),
        kernel('__myl_MulMaxMulRoun_myl0_5', 'a', quantised, 'c')], {},
       'its LeakyRelu runs with the Q/DQ of the result rather than with the convolution')
      for quantised in ('a_QuantizeLinear', 'a.quantised')),
    ([convolution('c || d'), 'PWN(a)'], {},
     'merged with neighbouring convolutions, its LeakyRelu runs apart'),
    ([convolution('c'), 'PWN(a)'], {'quantised_inside': True},
     'Q/DQ nodes stand between the convolution and its LeakyRelu'),
    ([convolution('c'), 'PWN(a)'], {'also_read_by': ('pool',)},
     'others read the convolution too, so its LeakyRelu runs apart'),
    ([convolution('c'), {'Name': '{ForeignNode[a...out]}', 'LayerType': 'Myelin'}], {},
     'its LeakyRelu is in a region of its own'),
    # the kernel behind an int8 convolution names it too, for its scale: still two kernels
    ([kernel('c_myl0_1', 'c', kind='correlation'), kernel('__myl_MulAddMax_myl0_2', 'c', 'a')],
     {'quantised_inside': True}, 'Q/DQ nodes stand between the convolution and its LeakyRelu'),
])
def test_apart(layers: list[Any], more: dict[str, Any], reason: str) -> None:
    fate = fate_of(layers, chain('c', 'a', **more))
    assert (fate.state, fate.reason) == (APART, reason)
    assert fate.layers == (0, 1)
    assert 'layer 0 ' in fate.detail and 'layer 1 ' in fate.detail


def test_what_an_activation_was_merged_with() -> None:
    layers = [convolution('c'), 'PWN(PWN(a), sum)', 'sum_2 + pool']
    fate = fate_of(layers, chain('c', 'a', feeds=('Add sum', 'MaxPool pool')))
    assert fate.merged_with == ('Add sum',)
    assert fate.to_record()['merged_with'] == ['Add sum']
    page = as_page(FusionReport((), (fate,), {}))
    assert 'merged with the Add that follows rather than with the convolution: Add sum (' in page


def test_hidden_in_a_region_and_named_nowhere() -> None:
    region = {'Name': '{ForeignNode[c...out]}', 'LayerType': 'Myelin'}
    assert fate_of([region]).state == HIDDEN
    # a region that tells all its nodes, as one layer: what is one kernel inside is not told
    region['Metadata'] = '[ONNX Layer: c][ONNX Layer: a]'
    assert fate_of([region]).state == HIDDEN
    absent = fate_of([{'Name': '{ForeignNode[b...out]}', 'LayerType': 'Myelin'}])
    assert absent.state == ABSENT and 'may be inside a region' in absent.reason
    assert fate_of(['x']).reason == 'no layer names it'


def test_a_copy_of_a_chain_does_not_count() -> None:
    fate = fate_of(['Reformatting CopyNode for Input Tensor 0 to c + a', convolution('c'),
                    'PWN(a)'])
    assert fate.layers == (1, 2)


def test_another_model() -> None:
    with pytest.raises(ModelLayoutError, match='the 1 layers name none of the 1 conv.*--onnx'):
        make_report(parse_layers(['x + y']), [chain('c', 'a')], {})


def test_without_a_model() -> None:
    report = make_report(parse_layers([convolution('c + a')]), [], {})
    assert report.fused_share is None
    assert 'The ONNX model is unknown' in as_page(report)


@pytest.mark.parametrize(('before', 'after', 'change'), [
    ('Row major linear FP32', 'Row major linear FP16', 'Float to Half'),
    ('Row major linear FP16', 'Channel major FP16 format',
     'Row major linear FP16 to Channel major FP16 format'),
    ('Row major linear FP16', 'Row major linear FP16', 'copy'),
    ('N/A due to dynamic shapes', 'N/A due to dynamic shapes', ''),
    ('Row major linear FP32', 'N/A due to dynamic shapes', ''),
])
def test_what_a_reformat_does(before: str, after: str, change: str) -> None:
    told = {'Name': 'r', 'LayerType': 'Reformat',
            'Inputs': [{'Name': 'i', 'Format/Datatype': before}],
            'Outputs': [{'Name': 'o', 'Format/Datatype': after}]}
    report = make_report(parse_layers([told]), [], {})
    assert [describe_change(layer) for layer in report.reformats] == [change]


# ---- files of layers that are kept


def read(path: Path) -> FusionReport:
    record = load_layers(path)
    chains = [Chain.from_record(each) for each in record.get('Chains', [])]
    layers = parse_layers(record['Layers'])
    times = match_times(record['Times'], layers) if 'Times' in record else None
    return make_report(layers, chains, record.get('Source', {}), times)


def by_name(name: str) -> FusionReport:
    (path,) = (path for path in ENGINES if path.name == name)
    return read(path)


def test_there_are_files() -> None:
    assert len(ENGINES) >= 4


@pytest.fixture(params=ENGINES, ids=lambda path: path.stem)
def kept(request: pytest.FixtureRequest) -> FusionReport:
    return read(request.param)


def test_every_layer_is_understood(kept: FusionReport) -> None:
    assert [layer.number for layer in kept.layers] == list(range(len(kept.layers)))
    assert all(layer.name for layer in kept.layers)
    for layer in kept.layers:
        if layer.kind == CONVOLUTION:
            assert layer.precision in COLOURS and layer.precision, layer.name
            assert layer.words
        if layer.kind == REFORMAT and all(each.layout for each in (*layer.inputs, *layer.outputs)):
            assert bool(describe_change(layer)) is bool(layer.inputs)


def test_every_chain_has_a_fate(kept: FusionReport) -> None:
    assert kept.fates and kept.fused_share is not None
    for fate in kept.fates:
        if fate.state == FUSED:
            (number,) = fate.layers
            assert kept.layers[number].mentions(fate.chain.nodes[0].names)
            assert not fate.reason
        else:
            assert fate.reason
            assert (len(fate.layers) > 1) or fate.state != APART or 'no layer names' in fate.reason
    states = [fate.state for fate in kept.fates]
    assert kept.fused == states.count(FUSED)
    assert sum(map(len, kept.unfused().values())) == len(states) - kept.fused
    halves = kept.by_reader().values()
    assert [sum(each) for each in zip(*halves, strict=True)] == [kept.fused, len(states)]
    # each convolution runs in one layer, or in one that was merged with its neighbours
    firsts = [fate.layers[0] for fate in kept.fates if fate.layers and fate.state != HIDDEN]
    assert len(firsts) - len(set(firsts)) <= sum(each.name.count('||') for each in kept.layers)


def test_the_record_is_json(kept: FusionReport) -> None:
    record = json.loads(json.dumps(kept.to_record()))
    assert record['chains'] == len(record['fates']) == len(kept.fates)
    assert sum(record['kinds'].values()) == len(kept.layers)
    counted = [layer for layer in kept.layers if layer.kind not in (SYNC, REFORMAT)]
    assert sum(record['precisions'].values()) <= len(counted)


def test_the_picture(kept: FusionReport) -> None:
    root = ElementTree.fromstring(draw_svg(kept))
    drawn = [layer for layer in kept.layers if layer.kind != SYNC]
    nodes = [group for group in root.iter(f'{SVG}g') if group.find(f'{SVG}title') is not None]
    assert len(nodes) == len(drawn)
    fills = [group.find(f'{SVG}rect').get('fill') for group in nodes]
    assert fills == [COLOURS.get(layer.precision, COLOURS['']) for layer in drawn]
    links = find_links(drawn)
    assert len(list(root.iter(f'{SVG}path'))) == len(links)
    width, height = (float(root.get(side)) for side in ('width', 'height'))
    assert width < 4000 and height < 66 * len(drawn) + 200


def test_the_page_needs_nothing_else(kept: FusionReport) -> None:
    class Reader(html.parser.HTMLParser):
        tags: list[str] = []
        links: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.links += [str(value) for name, value in attrs if name in ('src', 'href')]

    reader = Reader()
    reader.tags, reader.links = [], []
    page = as_page(kept)
    reader.feed(page)
    assert all(f'id="{link[1:]}"' in page for link in reader.links) and 'link' not in reader.tags
    assert reader.tags.count('svg') == 1
    rows = len(kept.layers) + len(kept.fates) + len(kept.unfused())
    rows += 3 if kept.unfused() else 2  # the heads
    rows += 0 if kept.times is None else 1 + len(kept.times.by_label())
    assert reader.tags.count('tr') == rows


def test_what_a_file_says_is_escaped() -> None:
    told = convolution('c<script>alert(1)</script> + a', Metadata='<b>&"\x1e')
    report = make_report(parse_layers([told]), [], {'onnx': '<i>x</i>\x1e'})
    page = as_page(report)
    assert '<script>alert' not in page and '<i>x' not in page
    ElementTree.fromstring(draw_svg(report))


# ---- what the files hold


def test_the_builder_of_tensorrt_rtx_on_the_embedded_model() -> None:
    report = by_name('yolov7-nano_fp16_rtx_1.7.json')
    assert report.source['told_by'] == "the builder's log"
    assert (report.fused, len(report.fates)) == (37, 55)
    assert report.by_reader() == {'feeding a Concat': (25, 41), 'others': (12, 14)}
    assert {reason: len(fates) for reason, fates in report.unfused().items()} == {
        'its LeakyRelu runs apart and feeds a Concat': 16,
        MERGED.format('LeakyRelu', 'Resize'): 2,
    }
    assert report.kinds[CONVOLUTION] == 58  # with the three of the heads
    assert report.precisions == {'Half': 86, 'Float': 1}
    # the chains are those of the model in the package
    assert [fate.chain for fate in report.fates] == list(load_chains(find_model('yolov7-nano')))


def test_the_forms_of_tensorrt_8_6() -> None:
    report = by_name('handwritten_trt_8.6_fp16.json')
    fates = {fate.chain.name.removesuffix('.conv'): fate for fate in report.fates}
    fused = [name for name, fate in fates.items() if fate.state == FUSED]
    assert fused == ['row0', 'row1', 'row7']
    assert fates['row2'].layers[0] == fates['row3'].layers[0]  # one layer for both
    assert report.kinds[REFORMAT] == 2
    assert [describe_change(layer) for layer in report.reformats] == ['Float to Half', 'copy']


def test_tensorrt_8_6_with_a_free_batch() -> None:
    report = by_name('yolov5n_int8_trt_8.6.json')
    assert (report.fused, len(report.fates)) == (46, 57)
    assert {reason: len(fates) for reason, fates in report.unfused().items()} == {
        MERGED.format('Sigmoid/Mul', 'Add'): 7,
        'its Sigmoid/Mul runs apart': 4,
    }
    for fate in report.fates:  # the residual sums, each with the activation before it
        (bottleneck, _, inner) = fate.chain.name.rpartition('/cv2/')
        merged = 'Add that follows' in fate.reason
        assert fate.merged_with == ((f'Add {bottleneck}/Add',) if merged and inner else ())
    # no format was told of any tensor; what follows from kernels, weights and neighbours
    assert report.kinds == {CONVOLUTION: 60, OTHER: 55, NO_OP: 35, REFORMAT: 33, QUANTISE: 10}
    assert report.precisions == {'Int8': 61, 'not told': 32, 'Half': 12, 'Float': 10}
    assert {describe_change(layer) for layer in report.reformats} == {''}
    types = [tensor.dtype for layer in report.layers if layer.kind == CONVOLUTION
             for tensor in layer.outputs if tensor.name.endswith('.quantised')]
    assert types.count('Int8') == len(types) > 40


def test_traffic() -> None:
    layers = parse_layers([
        {'Name': 'a', 'LayerType': 'CaskConvolution',
         'Inputs': [tensor('x', [1, 3, 4, 4], 'FP32')],
         'Outputs': [tensor('y', [8, 4, 4], 'INT8')]},
        {'Name': 'b', 'LayerType': 'Reformat',
         'Inputs': [tensor('y', [8, 4, 4], 'INT8')], 'Outputs': [tensor('z', [8, 4, 4], 'FP16')]},
        {'Name': 'c', 'LayerType': 'NoOp', 'Inputs': [tensor('z', [8, 4, 4], 'FP16')]},
    ])
    report = make_report(layers, [], {})
    assert report.traffic() == {REFORMAT: 128 + 256, CONVOLUTION: 192 + 128}
    assert report.to_record()['traffic_bytes'] == report.traffic()
    assert '<b>0.0 MB</b>' in as_page(report)
    open_side = parse_layers([
        {'Name': 'a', 'LayerType': 'CaskConvolution',
         'Inputs': [tensor('x', [-1, 3, 4, 4], 'FP32')], 'Outputs': [tensor('y', [8], 'INT8')]},
    ])
    assert make_report(open_side, [], {}).traffic() == {}
    assert by_name('yolov5n_int8_trt_8.6.json').traffic() == {}  # formats were not told


def tensor(name: str, sides: list[int], dtype: str) -> dict[str, Any]:
    told = f'Row major linear {dtype} format'
    return {'Name': name, 'Dimensions': sides, 'Format/Datatype': told}


def test_tensorrt_8_6_leaves_leaky_relu_alone_in_float() -> None:
    report = by_name('yolov7-tiny_fp32_trt_8.6.json')
    assert (report.fused, len(report.fates)) == (0, 55)
    assert {reason: len(fates) for reason, fates in report.unfused().items()} == {
        'its LeakyRelu runs apart and feeds a Concat': 23,
        'merged with neighbouring convolutions, its LeakyRelu runs apart': 18,
        'its LeakyRelu runs apart': 14,
    }
    assert not any(fate.merged_with for fate in report.fates)
    assert report.kinds == {OTHER: 102, CONVOLUTION: 49, REFORMAT: 35, NO_OP: 12}
    assert set(report.precisions) == {'Float', 'not told'}


@pytest.mark.parametrize(('name', 'fused', 'network_ms', 'slowest'), [
    ('yolov7-tiny_fp16', 36, 1.744, 'convolution Half'),
    ('yolov7-tiny_int8', 54, 1.502, 'convolution Int8'),
    ('yolov7-tiny_pruned_int8', 53, 1.759, 'convolution Int8'),
    ('yolov5n_int8_level2', 46, 1.54, 'convolution Int8'),
])
def test_measured_engines(name: str, fused: int, network_ms: float, slowest: str) -> None:
    """Each layer has the same name for the profiler and the inspector, which tells all formats."""
    report = by_name(f'{name}_trt_8.6.json')
    assert report.fused == fused
    assert 'not told' not in report.precisions
    assert sum(report.traffic().values()) > 900e6
    times = report.times
    assert times is not None
    assert [each.name for each in times.layers] == [layer.name for layer in report.layers]
    assert all(each.layer is not None for each in times.layers)
    assert times.conditions['network_ms'] == pytest.approx(network_ms, abs=1e-3)
    assert network_ms < times.total_ms < 1.4 * network_ms
    assert list(times.by_label())[0] == slowest


def test_names_only_tell_the_same_of_chains() -> None:
    detailed, named = (by_name(f'handwritten_trt_8.6_{kind}.json')
                       for kind in ('fp16', 'names_only'))
    assert [(fate.chain, fate.state, fate.layers, fate.reason) for fate in named.fates] == [
        (fate.chain, fate.state, fate.layers, fate.reason) for fate in detailed.fates
    ]
    assert list(named.precisions) == ['not told']


def test_the_forms_of_tensorrt_10() -> None:
    report = by_name('handwritten_trt_10_int8.json')
    assert [fate.state for fate in report.fates] == [FUSED, APART, FUSED, APART]
    assert [fate.precision for fate in report.fates] == ['Int8', 'Int8', 'Half', 'Half']


# ---- the layout


@st.composite
def engines(draw: st.DrawFn) -> tuple[EngineLayer, ...]:
    """Return layers that each read from some of the earlier ones."""
    layers = []
    for number in range(draw(st.integers(0, 25))):
        sources = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        layers.append({
            'Name': f'n{number}', 'LayerType': 'x',
            'Inputs': [{'Name': f't{source}'} for source in sources],
            'Outputs': [{'Name': f't{number}'}],
        })
    return parse_layers(layers)


@settings(max_examples=60, deadline=None)
@given(engines())
def test_nodes_do_not_overlap_and_edges_go_down(layers: tuple[EngineLayer, ...]) -> None:
    layout = lay_out(layers)
    assert set(layout.corners) == {layer.number for layer in layers}
    rows: dict[float, list[float]] = {}
    for x, y in layout.corners.values():
        assert -0.01 <= x <= layout.size_wh[0] - NODE_WIDTH_PX + 0.01
        assert 0 <= y <= layout.size_wh[1] - NODE_HEIGHT_PX
        rows.setdefault(y, []).append(x)
    for row in rows.values():
        row.sort()
        assert all(right - left > NODE_WIDTH_PX for left, right in zip(row, row[1:], strict=False))
    assert len(layout.edges) == len(find_links(layers))
    for edge in layout.edges:
        heights = [y for _, y in edge.points]
        assert heights == sorted(heights) and heights[0] < heights[-1]
        assert edge.points[0][1] == layout.corners[edge.source][1] + NODE_HEIGHT_PX
        assert edge.points[-1][1] == layout.corners[edge.target][1]


def test_parts_of_a_concat_are_all_read() -> None:
    def layer(name: str, reads: list[str], writes: list[str]) -> dict[str, Any]:
        return {'Name': name, 'Inputs': [{'Name': each} for each in reads],
                'Outputs': [{'Name': each} for each in writes]}

    layers = parse_layers([
        layer('a', ['x'], ['t']), layer('b', ['x'], ['t']), layer('c', ['t'], ['y']),
        layer('d', ['x', 'y'], ['t']),
    ])
    assert find_links(layers) == [(0, 2, 't'), (1, 2, 't'), (2, 3, 'y')]
    assert {layer.kind for layer in layers} == {OTHER}
