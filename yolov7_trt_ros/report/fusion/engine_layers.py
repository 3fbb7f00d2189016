"""
The layers of a built engine, parsed from the output of TensorRT's engine inspector.

It reads the forms of TensorRT 8.5 to 11 and of TensorRT-RTX: layers as names or as dicts, formats
as a sentence ("Channel major FP16 format where channel % 8 == 0") or as a type ("Half"), ONNX
nodes in the layers' names ("a + PWN(b)") or in their metadata ("[ONNX Layer: a]").

TensorRT 8 gives no formats ("N/A due to dynamic shapes") if a side of the network is free. The
types of some tensors then follow from the layers around them: from the kernels of convolutions,
whose names contain input and output types, and from constants. Nothing is guessed: other types
stay unknown.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
from pathlib import Path
import re
from typing import Any

from yolov7_trt_ros.errors import ModelFormatError, ModelNotFoundError

CONVOLUTION, REFORMAT, QUANTISE, REGION, SYNC, NO_OP, OTHER = (
    'convolution', 'reformat', 'quantise', 'region', 'sync', 'no-op', 'other'
)
"""
Kinds of layers. A reformat changes a tensor's order, type or place; a region is compiled as a
whole without a word on what is inside; sync layers order streams; a no-op (a constant, too) costs
nothing.
"""

_TYPES = {
    'Int8': r'\b(?:int8|kint8)\b', 'FP8': r'\b(?:fp8|float8\w*|fp8e4m3)\b',
    'Int4': r'\bint4\b', 'FP4': r'\b(?:fp4|float4\w*)\b',
    'BFloat16': r'\b(?:bf16|bfloat16)\b', 'Half': r'\b(?:fp16|half|float16)\b',
    'Float': r'\b(?:fp32|float|float32|tf32)\b', 'Int32': r'\bint32\b', 'Int64': r'\bint64\b',
    'UInt8': r'\buint8\b', 'Bool': r'\bbool\b',
}
_BITS = {'Int8': 8, 'FP8': 8, 'Int4': 4, 'FP4': 4, 'BFloat16': 16, 'Half': 16, 'Float': 32,
         'Int32': 32, 'Int64': 64, 'UInt8': 8, 'Bool': 8}
_TACTIC_TYPES = {'Int8': r'(?:^|_)(?:i8i8|i8f16|i8f32|int8|s8|IMMA)',
                 'Half': r'(?:f16f16|h1688|h16816|fp16)',
                 'Float': r'(?:f32f32|scudnn|sgemm|tf32)'}
_TACTIC_ENDS = re.compile(
    '_(i8|f16|f32)(i8|f16|f32)_(?:i8|f16|f32)(?:i32|f16|f32)_(?:f16|f32)(?:_|$)'
)
_SHORT_TYPES = {'i8': 'Int8', 'f16': 'Half', 'f32': 'Float'}
_NOT_TOLD = 'N/A'
_CONVOLUTION_TYPE = re.compile('conv|correlation|gemm|matrixmultiply|fullyconnected')
_CONVOLUTION_TACTIC = re.compile('fprop|conv|gemm')
_CONVOLUTION_KERNELS = ('Corr', 'Conv', 'Fc')
_METADATA_NODE = re.compile(r'\[ONNX Layer: (.+?)\](?=[^\w.]|_|$)')
_KERNEL = re.compile(r'^__myl_([A-Za-z]+?)_(?:myl\d+_\d+|0x[0-9a-f]+|fused.*)$')
_INSIDE = re.compile(r'_myl\d+_\d+$')
_UNNAMED = re.compile(r'\(Unnamed Layer\* \d+\) \[[^\]]*\]')
_DELIMITERS = re.compile(r' \+ |\+| \|\| | -> |, |\.\.\.|[(){}\[\]\s]')


@dataclasses.dataclass(frozen=True)
class LayerTensor:
    """A tensor that a layer reads or writes; type and shape as far as they are known."""

    name: str
    dtype: str = ''
    shape: tuple[int, ...] = ()
    layout: str = ''

    @property
    def size_bytes(self) -> int | None:
        """Return its size; None if its type or a side is unknown."""
        bits = _BITS.get(self.dtype)
        if bits is None or not self.shape or min(self.shape) < 0:
            return None
        return math.prod(self.shape) * bits // 8


@dataclasses.dataclass(frozen=True)
class EngineLayer:
    """
    One layer of a built engine.

    Attributes
    ----------
    number
        Its place in the order of execution, from 0.
    name, layer_type
        As in TensorRT; the type is '' if the plan keeps names only.
    kind
        One of the constants of this module.
    precision
        What it computes in: `Int8`, `Half`, `Float`, ...; of a reformat, what it writes; '' if
        unknown.
    words
        Every word that names an ONNX node, if one is called so.
    operations
        What a kernel of TensorRT's compiler says it does, `('Corr', 'Mul', 'Max')`.
    activation
        What a convolution applies to its result, `LEAKY_RELU`; '' for none or unknown.
    tactic
        Name of the kernel.

    """

    number: int
    name: str
    layer_type: str
    kind: str
    precision: str
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    words: frozenset[str]
    operations: tuple[str, ...]
    activation: str
    tactic: str
    origin: str = ''
    metadata: str = ''

    def mentions(self, names: Sequence[str]) -> bool:
        """Whether it names one of these; names with blanks or signs in them are found too."""
        if self.words.intersection(names):
            return True
        return any(
            _DELIMITERS.search(name) is not None
            and (f'[ONNX Layer: {name}]' in self.metadata or name in self.name)
            for name in names
        )


def load_layers(path: Path) -> dict[str, Any]:
    """
    Read a JSON file of layers, of `trtexec --exportLayerInfo` or of `fusion --save-layers`.

    Raises
    ------
    ModelNotFoundError
        It cannot be read.
    ModelFormatError
        It is not such a file.

    """
    record = read_json(path, 'layers', _EXPECTED)
    if isinstance(record, list):  # the layers alone, as some versions of trtexec write them
        record = {'Layers': record}
    layers = record.get('Layers') if isinstance(record, dict) else None
    if not isinstance(layers, list) or not all(isinstance(each, (dict, str)) for each in layers):
        raise ModelFormatError(f'{path} has no list "Layers"; {_EXPECTED}')
    return dict(record)


_LONGEST_SIDE, _MOST_SIDES = 2**31, 16
_MOST_BYTES = 1 << 28
_EXPECTED = (
    'expected what yolov7_trt fusion MODEL.plan --save-layers FILE or trtexec --exportLayerInfo '
    'writes'
)


def read_json(path: Path, what: str, expected: str) -> Any:
    """
    Return the content of a JSON file of TensorRT's tools; control characters are allowed.

    Parameters
    ----------
    path
        The file.
    what, expected
        Its name and the expected content, for messages.

    Raises
    ------
    ModelNotFoundError
        It cannot be read.
    ModelFormatError
        It is not JSON.

    """
    try:
        with path.open('rb') as file:
            data = file.read(_MOST_BYTES + 1)  # a device has no end
        if len(data) > _MOST_BYTES:
            raise ValueError(f'larger than {_MOST_BYTES} bytes')
        return json.loads(data.decode('utf-8', errors='replace'), strict=False)
    except OSError as exc:
        raise ModelNotFoundError(f'the {what} {path} cannot be read: {exc}') from exc
    except (ValueError, RecursionError) as exc:
        raise ModelFormatError(f'{path} is not JSON ({exc}); {expected}') from exc


def parse_layers(layers: Sequence[Mapping[str, Any] | str]) -> tuple[EngineLayer, ...]:
    """Parse the layers that TensorRT lists, dicts or names, in its order."""
    records = [{'Name': layer} if isinstance(layer, str) else layer for layer in layers]
    parsed = [_parse_layer(number, layer) for number, layer in enumerate(records)]
    types = _known_types(parsed, records)
    return tuple(_with_types(layer, types) for layer in parsed)


def _parse_layer(number: int, record: Mapping[str, Any]) -> EngineLayer:
    name, layer_type = str(record.get('Name', '')), str(record.get('LayerType', ''))
    metadata = str(record.get('Metadata', ''))
    inputs, outputs = (_tensors(record.get(key)) for key in ('Inputs', 'Outputs'))
    kernel = _KERNEL.match(name)
    operations = tuple(re.findall('[A-Z][a-z]*', kernel[1])) if kernel else ()
    activation = str(record.get('Activation', ''))
    words = _words(name, metadata)
    tactic = str(record.get('TacticName', ''))
    kind = _kind(name, layer_type, operations, words, str(record.get('Origin', '')))
    if 'fusion' in layer_type and kind == OTHER and _CONVOLUTION_TACTIC.search(tactic):
        kind = CONVOLUTION
    return EngineLayer(
        number, name, layer_type, kind, _precision(record, kind, inputs, outputs), inputs, outputs,
        words, operations, '' if activation == 'NONE' else activation,
        tactic, str(record.get('Origin', '')), metadata,
    )


def _tensors(record: Any) -> tuple[LayerTensor, ...]:
    tensors = []
    for each in record if isinstance(record, list) else ():
        if not isinstance(each, dict):
            tensors.append(LayerTensor(str(each)))
            continue
        layout = str(each.get('Format/Datatype', each.get('Format', '')))
        layout = '' if layout.startswith(_NOT_TOLD) else layout
        dtype = find_type(str(each.get('Datatype', ''))) or find_type(layout)
        shape = _shape(each.get('Dimensions'))
        tensors.append(LayerTensor(str(each.get('Name', '')), dtype, shape, layout))
    return tuple(tensors)


def _shape(sides: object) -> tuple[int, ...]:
    """Return the sides of a tensor; none if one is unknown."""
    if isinstance(sides, list) and len(sides) <= _MOST_SIDES and all(map(_is_side, sides)):
        return tuple(sides)
    return ()


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value <= _LONGEST_SIDE


def _known_types(
    layers: Sequence[EngineLayer], records: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Return the types of tensors that are recorded, or follow from the layers that use them."""
    found: dict[str, set[str]] = {}
    for layer, words in zip(layers, records, strict=True):
        first, *_ = *layer.inputs, LayerTensor('')
        for tensor, dtype in (
            *((tensor, tensor.dtype) for tensor in (*layer.inputs, *layer.outputs)),
            *zip((first, *layer.outputs), _end_types(layer, words), strict=False),
        ):
            if tensor.name and dtype:
                found.setdefault(tensor.name, set()).add(dtype)
    types = {name: next(iter(kinds)) for name, kinds in found.items() if len(kinds) == 1}
    for layer in layers:  # in their order; what is not run changes no type
        if layer.layer_type == 'NoOp' and len(layer.inputs) == len(layer.outputs) == 1:
            dtype = types.get(layer.inputs[0].name, '')
            if dtype and layer.outputs[0].name not in found:
                types[layer.outputs[0].name] = dtype
    return types


def _end_types(layer: EngineLayer, record: Mapping[str, Any]) -> tuple[str, str]:
    """Return the types of the first input and the first output, as far as they must be."""
    if layer.kind == CONVOLUTION and (ends := _TACTIC_ENDS.search(layer.tactic)):
        return _SHORT_TYPES[ends[1]], _SHORT_TYPES[ends[2]]
    if layer.layer_type == 'Constant':
        return '', _weight_type(record)
    return '', ''


def _with_types(layer: EngineLayer, types: Mapping[str, str]) -> EngineLayer:
    """Return a layer with the types of its tensors, and the precision that follows from them."""
    inputs, outputs = (
        tuple(dataclasses.replace(each, dtype=each.dtype or types.get(each.name, ''))
              for each in tensors)
        for tensors in (layer.inputs, layer.outputs)
    )
    precision = layer.precision or _following_precision(layer, inputs, outputs)
    return dataclasses.replace(layer, inputs=inputs, outputs=outputs, precision=precision)


def _following_precision(
    layer: EngineLayer, inputs: Sequence[LayerTensor], outputs: Sequence[LayerTensor]
) -> str:
    """Return the precision of a layer by its first tensor; '' if unknown."""
    # what comes out of a layer, or goes in besides, does not tell what it computes in
    decisive = outputs if layer.kind in (REFORMAT, QUANTISE) else inputs
    if layer.kind == SYNC or not decisive:
        return ''
    dtype = decisive[0].dtype
    unpacks = layer.layer_type.startswith('PointWise') and dtype == 'Int8'  # to compute in float
    return '' if unpacks else dtype


def find_type(text: str) -> str:
    """Return the type named in a text, in TensorRT's words; '' for none."""
    for name, pattern in _TYPES.items():
        if re.search(pattern, text, re.IGNORECASE):
            return name
    return ''


def names_quantisation(name: str) -> bool:
    """Whether a node is called as Q/DQ nodes are, `x_QuantizeLinear`, `x.dequantised`."""
    return re.search('quanti[sz]', name, re.IGNORECASE) is not None


def _words(name: str, metadata: str) -> frozenset[str]:
    """Return what might be names of ONNX nodes: from the metadata, and the parts of the name."""
    found = {match[1] for match in _METADATA_NODE.finditer(metadata)}
    if _is_copy(name):  # names the layer that it works for, not what it does
        return frozenset(found)
    name = _UNNAMED.sub('', name)  # its number may be a node's name elsewhere
    found |= {part for part in _DELIMITERS.split(name) if part}
    found |= {part for part in re.split(r' \+ ', name) if part}
    return frozenset(found | {_INSIDE.sub('', part) for part in found})


def _is_copy(name: str) -> bool:
    return name.startswith('Reformatting CopyNode') or name.endswith(' copy')


def _kind(
    name: str, layer_type: str, operations: Sequence[str], words: frozenset[str], origin: str
) -> str:
    lower = layer_type.lower()
    if lower in ('signal', 'wait', 'shape_call', 'dummy_shape_call'):
        return SYNC
    if lower in ('noop', 'constant'):
        return NO_OP
    if lower == 'reformat' or _is_copy(name) or (
        operations and set(operations) <= {'Move', 'Mov', 'Copy'}
    ):
        quantises = origin == 'QDQ' or any(map(names_quantisation, words))
        return QUANTISE if quantises else REFORMAT
    if _CONVOLUTION_TYPE.search(lower) or set(operations).intersection(_CONVOLUTION_KERNELS):
        return CONVOLUTION
    if lower == 'myelin' or 'ForeignNode[' in name:
        return REGION
    return OTHER


def _precision(
    record: Mapping[str, Any], kind: str, inputs: Sequence[LayerTensor],
    outputs: Sequence[LayerTensor],
) -> str:
    """Return the precision of a layer: as stated, or by its weights, tensors or kernel."""
    if kind == SYNC:
        return ''
    candidates = [find_type(str(record.get('Precision', ''))), _weight_type(record)]
    tensors = outputs if kind in (REFORMAT, QUANTISE) else (*inputs, *outputs)
    candidates += [tensor.dtype for tensor in tensors]
    tactic = str(record.get('TacticName', ''))
    candidates += [name for name, pattern in _TACTIC_TYPES.items() if re.search(pattern, tactic)]
    return next((each for each in candidates if each), '')


def _weight_type(record: Mapping[str, Any]) -> str:
    weights = record.get('Weights', record.get('weights'))
    return find_type(str(weights.get('Type', ''))) if isinstance(weights, dict) else ''
