"""Layers as TensorRT tells them: names, kinds, precisions, of 8.6, 10 and RTX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from yolov7_trt_ros.errors import ModelFormatError, ModelNotFoundError
from yolov7_trt_ros.report.fusion.engine_layers import (
    CONVOLUTION,
    EngineLayer,
    find_type,
    load_layers,
    NO_OP,
    OTHER,
    parse_layers,
    QUANTISE,
    REFORMAT,
    REGION,
    SYNC,
)


def parse(**told: Any) -> EngineLayer:
    (layer,) = parse_layers([told])
    return layer


def tensor(layout: str) -> list[dict[str, Any]]:
    return [{'Name': 't', 'Dimensions': [1, 8, 4, 4], 'Format/Datatype': layout}]


@pytest.mark.parametrize('sides', [[1, 8, None], [1, 8, 10**400], [1, True], [1, -5], ['8'], 3])
def test_sides_of_which_one_is_no_side_tell_no_size(sides: object) -> None:
    told = [{'Name': 't', 'Dimensions': sides, 'Format/Datatype': 'Row major linear FP32'}]
    (found,) = parse(Name='a', LayerType='Conv', Inputs=told).inputs
    assert found.shape == () and found.size_bytes is None


@pytest.mark.parametrize(('text', 'dtype'), [
    ('Row major linear FP32', 'Float'),
    ('Channel major FP16 format where channel % 8 == 0', 'Half'),
    ('Thirty-two wide channel vectorized row major Int8 format', 'Int8'),
    ('Row major linear BFloat16 format', 'BFloat16'), ('Half(64,1:8,2)', 'Half'),
    ('Int32', 'Int32'), ('FP8', 'FP8'), ('Row major Bool format', 'Bool'),
    ('N/A due to dynamic shapes', ''), ('', ''), ('UInt8', 'UInt8'),
])
def test_types_in_all_spellings(text: str, dtype: str) -> None:
    assert find_type(text) == dtype


@pytest.mark.parametrize(('told', 'kind'), [
    ({'Name': 'a + b', 'LayerType': 'CaskConvolution'}, CONVOLUTION),
    ({'Name': 'a', 'LayerType': 'CudaDepthwiseConvolution'}, CONVOLUTION),
    ({'Name': 'a', 'LayerType': 'CaskDeconvolutionV2'}, CONVOLUTION),
    ({'Name': 'a_myl0_3', 'LayerType': 'correlation'}, CONVOLUTION),
    ({'Name': '__myl_CorrMulMax_myl0_3', 'LayerType': 'runtime_fusion'}, CONVOLUTION),
    ({'Name': 'x', 'LayerType': 'fusion', 'TacticName': 'sm80_xmma_gemm_i8f32'}, CONVOLUTION),
    ({'Name': '__myl_MulMax_myl0_7', 'LayerType': 'kgen'}, OTHER),
    ({'Name': 'PWN(a)', 'LayerType': 'PointWiseV2'}, OTHER),
    ({'Name': 'x', 'LayerType': 'fusion', 'TacticName': 'pointwise'}, OTHER),
    ({'Name': 'a + PWN(b)'}, OTHER),  # a name alone does not tell
    ({'Name': 'Reformatting CopyNode for Input Tensor 0 to a', 'LayerType': 'Reformat'}, REFORMAT),
    ({'Name': 'Reformatting CopyNode for Output Tensor 0 to a'}, REFORMAT),
    ({'Name': '/Concat_output_0 copy', 'LayerType': 'Reformat'}, REFORMAT),
    ({'Name': '__myl_MoveMove_myl0_40', 'LayerType': 'kgen'}, REFORMAT),
    ({'Name': 'x', 'LayerType': 'Reformat', 'Origin': 'QDQ'}, QUANTISE),
    ({'Name': 'in_QuantizeLinear', 'LayerType': 'Reformat'}, QUANTISE),
    ({'Name': '{ForeignNode[a...b]}', 'LayerType': 'Myelin'}, REGION),
    ({'Name': '{ForeignNode[a...b]}'}, REGION),
    ({'Name': 'entry^bb^signal^2_myl0_0', 'LayerType': 'signal'}, SYNC),
    ({'Name': 'x', 'LayerType': 'NoOp'}, NO_OP),
    ({'Name': 'x', 'LayerType': 'Constant'}, NO_OP),
])
def test_kinds(told: dict[str, Any], kind: str) -> None:
    assert parse(**told).kind == kind


@pytest.mark.parametrize(('told', 'precision'), [
    # the weights say more than the tensors: TensorRT writes Half behind an Int8 convolution
    ({'Weights': {'Type': 'Int8', 'Count': 9}, 'Inputs': tensor('Row major linear FP32')}, 'Int8'),
    ({'Inputs': tensor('Channel major FP16 format'), 'Outputs': tensor('FP32')}, 'Half'),
    ({'Inputs': tensor('N/A due to dynamic shapes'), 'Outputs': tensor('Half')}, 'Half'),
    ({'Inputs': [{'Name': 't', 'Datatype': 'Int8', 'Format': '(NHWC) Channel major format'}]},
     'Int8'),
    ({'Inputs': tensor('N/A due to dynamic shapes'),
      'TacticName': 'sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwc'}, 'Half'),
    ({'TacticName': 'sm75_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32'}, 'Int8'),
    ({'TacticName': 'sm80_xmma_fprop_implicit_gemm_interleaved_i8f16_i8i32_f32_nchw'}, 'Int8'),
    ({'TacticName': 'sm72_xmma_pooling_IMMA_NCxHW32_generic_kMAX'}, 'Int8'),
    ({'LayerType': 'Constant', 'weights': {'Type': 'Float', 'Count': 1}}, 'Float'),
    ({'LayerType': 'Reformat', 'Inputs': tensor('Row major linear FP32'),
      'Outputs': tensor('FP16')}, 'Half'),
    ({}, ''),
])
def test_precisions(told: dict[str, Any], precision: str) -> None:
    assert parse(Name='x', **told).precision == precision


def free(name: str, layer_type: str, reads: str, writes: str, **more: Any) -> dict[str, Any]:
    """Return a layer as TensorRT 8.6 tells it where a side of the network is free."""
    inputs, outputs = (
        [{'Name': each, 'Dimensions': [-1, 8], 'Format/Datatype': 'N/A due to dynamic shapes'}
         for each in names.split()]
        for names in (reads, writes)
    )
    return {'Name': name, 'LayerType': layer_type, 'Inputs': inputs, 'Outputs': outputs, **more}


TO_HALF = {'TacticName': 'sm80_xmma_fprop_implicit_gemm_interleaved_i8f16_i8i32_f32_nchw_g1'}
IN_HALF = {'TacticName': 'sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_g1'}


@pytest.mark.parametrize(('layers', 'precisions'), [
    # what a kernel of a convolution writes is what its reader computes in
    ([free('c', 'CaskConvolution', 'x', 'y', **TO_HALF), free('p', 'PointWiseV2', 'y', 'z')],
     ['Int8', 'Half']),
    # what it reads is what a quantising layer writes, but not what another layer computes in
    ([free('x.quantised', 'Reformat', 'i', 'x'),
      free('c', 'CaskConvolution', 'x', 'y', **TO_HALF)], ['Int8', 'Int8']),
    ([free('p', 'PointWiseV2', 'i', 'x'), free('c', 'CaskConvolution', 'x', 'y', **TO_HALF)],
     ['', 'Int8']),
    ([free('c', 'CaskConvolution', 'x', 'y', **TO_HALF), free('p', 'PointWiseV2', 'x', 'z'),
      free('q', 'Resize', 'x', 'v')], ['Int8', '', 'Int8']),
    # a second input tells nothing
    ([free('c', 'CaskConvolution', 'x', 'y', **TO_HALF), free('p', 'PointWiseV2', 'i y', 'z')],
     ['Int8', '']),
    # a reformat may change the type, a layer that is not run does not
    ([free('c', 'CaskConvolution', 'x', 'y', **IN_HALF), free('r', 'Reformat', 'y', 'z'),
      free('p', 'PointWiseV2', 'z', 'o')], ['Half', '', '']),
    ([free('c', 'CaskConvolution', 'x', 'y', **IN_HALF), free('r', 'NoOp', 'y', 'z'),
      free('p', 'PointWiseV2', 'z', 'o')], ['Half', 'Half', 'Half']),
    ([free('k', 'Constant', '', 'y', weights={'Type': 'Float', 'Count': 1}),
      free('f', 'Fill', 'y', 'z')], ['Float', 'Float']),
    # a name that stands for two types tells nothing
    ([free('c', 'CaskConvolution', 'x', 'y', **IN_HALF),
      free('d', 'CaskConvolution', 'y', 'v', **TO_HALF), free('p', 'PointWiseV2', 'y', 'z')],
     ['Half', 'Int8', '']),
    # what is told stands
    ([free('c', 'CaskConvolution', 'x', 'y', **TO_HALF),
      {'Name': 'p', 'Inputs': [{'Name': 'y', 'Format/Datatype': 'Row major linear FP32'}]}],
     ['Int8', 'Float']),
])
def test_precisions_that_follow_from_neighbours(
    layers: list[dict[str, Any]], precisions: list[str]
) -> None:
    assert [layer.precision for layer in parse_layers(layers)] == precisions


@pytest.mark.parametrize(('told', 'names'), [
    ({'Name': 'Conv_0 + PWN(PWN(Sigmoid_1), Mul_2)'}, ['Conv_0', 'Sigmoid_1', 'Mul_2']),
    ({'Name': 'model.0.weight + Conv_9 + PWN(Clip_13)'}, ['Conv_9', 'Clip_13', 'model.0.weight']),
    ({'Name': '/m/cv1/Conv || /m/cv2/Conv'}, ['/m/cv1/Conv', '/m/cv2/Conv']),
    ({'Name': '{ForeignNode[first...last]}'}, ['first', 'last']),
    ({'Name': 'row31_myl0_39'}, ['row31']),
    ({'Name': 'node_MatMul_301+node_MatMul_299_myl36_3'}, ['node_MatMul_301', 'node_MatMul_299']),
    ({'Name': '2-layer MLP: Conv_68 + Relu_69 -> Conv_70'}, ['Conv_68', 'Relu_69', 'Conv_70']),
    ({'Name': '__myl_MulMax_myl0_1', 'Metadata': '[ONNX Layer: a/b]\x1e[ONNX Layer: c.d]'},
     ['a/b', 'c.d']),
    ({'Name': 'x', 'Metadata': '[ONNX Layer: a][ONNX Layer: b]__gemm_from_conv1x1'}, ['a', 'b']),
    ({'Name': 'PWN(Clip_589 + (Unnamed Layer* 16) [Shuffle], PWN(Mul_2))'}, ['Clip_589', 'Mul_2']),
    # names with blanks and signs of TensorRT's own
    ({'Name': 'my conv (1) + PWN(act [2])'}, ['my conv (1)', 'act [2]']),
    ({'Name': 'x', 'Metadata': '[ONNX Layer: act [2]]'}, ['act [2]']),
])
def test_names_of_onnx_nodes(told: dict[str, Any], names: list[str]) -> None:
    layer = parse(**told)
    for name in names:
        assert layer.mentions([name]), name
    assert not layer.mentions(['another', 'Conv', '16', 'o'])


def test_a_copy_does_not_do_what_it_is_named_after() -> None:
    assert not parse(Name='Reformatting CopyNode for Input Tensor 0 to a + b').mentions(['a', 'b'])


def test_names_alone() -> None:
    (layer,) = parse_layers(['a + PWN(b)'])
    assert layer == parse(Name='a + PWN(b)')
    assert (layer.precision, layer.inputs, layer.outputs) == ('', (), ())


@pytest.mark.parametrize(('text', 'said'), [
    ('{"Layers"', 'is not JSON'), ('{}', 'has no list "Layers"'), ('3', 'has no list "Layers"'),
    ('{"Layers": [3]}', 'has no list "Layers"'), ('{"Layers": "a"}', 'has no list "Layers"'),
    ('[' * 100_000, 'is not JSON'),
])
def test_files_that_are_something_else(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / 'layers.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(ModelFormatError, match=f'{said}.*--exportLayerInfo'):
        load_layers(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match='cannot be read'):
        load_layers(tmp_path / 'layers.json')


def test_control_characters_as_trtexec_writes_them(tmp_path: Path) -> None:
    path = tmp_path / 'layers.json'
    path.write_text('{"Layers": [{"Name": "x", "Metadata": "[ONNX Layer: a]\x1e[ONNX Layer: b]"}],'
                    ' "Bindings": ["in"]}', encoding='utf-8')
    (layer,) = parse_layers(load_layers(path)['Layers'])
    assert layer.words >= {'a', 'b'}


def test_a_list_alone(tmp_path: Path) -> None:
    path = tmp_path / 'layers.json'
    path.write_text(json.dumps(['a', {'Name': 'b'}]), encoding='utf-8')
    assert [layer.name for layer in parse_layers(load_layers(path)['Layers'])] == ['a', 'b']


def test_fields_of_other_kinds_are_left_out() -> None:
    layer = parse(Name='x', Inputs=[{'Name': 't', 'Dimensions': 7}, 3], Outputs='y', Weights=[1])
    assert [(tensor.name, tensor.shape) for tensor in layer.inputs] == [('t', ()), ('3', ())]
    assert layer.outputs == ()


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ModelFormatError, match='larger than 268435456 bytes'):
        load_layers(Path('/dev/zero'))
