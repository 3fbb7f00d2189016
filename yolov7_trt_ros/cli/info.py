"""
Tell what a model is: its form, input, classes, strides and metadata.

Examples
--------
  yolov7_trt info yolov7-nano
  yolov7_trt info yolov7.onnx --json -

"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolov7_trt_ros.cli import arguments, output

if TYPE_CHECKING:
    from yolov7_trt_ros.core.model_spec import ModelSpec

_SHOWN_NAMES = 8
_SHOWN_TEXT = 70


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'model', nargs='?', default=arguments.DEFAULT_MODEL, metavar='MODEL',
        help='ONNX file of any YOLOv7 export, or an embedded model (default: %(default)s)',
    )
    parser.add_argument(
        '--anchors', default='auto', metavar='NAME',
        help='for models with raw heads that do not say: yolov7-tiny, yolov7 or yolov7-p6',
    )
    parser.add_argument(
        '--size', type=int, default=arguments.DEFAULT_NETWORK_SIZE, metavar='PX',
        help='network size to try models with that leave it open (default: %(default)s)',
    )
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from yolov7_trt_ros.engine import DetectorOptions, open_detector
    from yolov7_trt_ros.engine.model_files import find_model

    path = find_model(args.model)
    detector = open_detector(
        DetectorOptions(model=args.model, anchors=args.anchors, network_size=args.size)
    )
    detector.close()
    record = describe(path, detector.spec) | {'backend': detector.backend}
    if args.json:
        output.write_json(args.json, record)
    if args.json != '-':
        print(output.format_table(_rows(record)))
    return 0


def describe(path: Path, spec: ModelSpec) -> dict[str, Any]:
    """Return what is known of a model, JSON-ready."""
    data = path.read_bytes()
    return {
        'file': str(path),
        'bytes': len(data),
        'sha256': hashlib.sha256(data).hexdigest(),
        'layout': spec.layout.value,
        'input': {'name': spec.input.name, 'shape': list(spec.input.shape),
                  'dtype': spec.input.dtype},
        'size_wh': list(spec.fixed_wh) if spec.fixed_wh else None,
        'outputs': list(spec.outputs),
        'strides': list(spec.strides),
        'anchors': spec.anchors,
        'num_classes': spec.num_classes,
        'class_names': list(spec.class_names),
        **_onnx_facts(path),
    }


def _onnx_facts(path: Path) -> dict[str, Any]:
    """Return opset, producer, parameters and metadata; nothing without the onnx package."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        return {}
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError):
        return {}
    parameters = 0
    for tensor in model.graph.initializer:
        count = 1
        for dimension in tensor.dims:
            count *= dimension
        parameters += count
    return {
        'opset': max(
            (entry.version for entry in model.opset_import if not entry.domain), default=0
        ),
        'producer': f'{model.producer_name} {model.producer_version}'.strip(),
        'parameters': parameters,
        'metadata': {entry.key: entry.value for entry in model.metadata_props},
    }


def _rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    shape = ', '.join('?' if dim is None else str(dim) for dim in record['input']['shape'])
    size = record['size_wh']
    names = record['class_names']
    listed = ', '.join(names[:_SHOWN_NAMES]) + (', ...' if len(names) > _SHOWN_NAMES else '')
    rows = [
        ('file', f'{record["file"]} ({record["bytes"] / 1e6:.1f} MB)'),
        ('sha256', record['sha256']),
        ('layout', f'{record["layout"]} ({", ".join(record["outputs"])})'),
        ('input', f'{record["input"]["name"]} {record["input"]["dtype"]}[{shape}]'),
        ('size', f'{size[0]}x{size[1]}, fixed' if size else
         f'free, in multiples of {record["strides"][-1]}'),
        ('strides', ', '.join(map(str, record['strides']))),
        ('classes', f'{"not told" if record["num_classes"] is None else record["num_classes"]}'
         + (f': {listed}' if listed else '')),
        ('runs on', record['backend']),
    ]
    if record['anchors']:
        heads = [', '.join(f'{w:g}x{h:g}' for w, h in head) for head in record['anchors']]
        rows.append(('anchors', '; '.join(heads)))
    if 'opset' in record:
        rows += [('onnx', f'opset {record["opset"]}, {record["producer"]}'),
                 ('parameters', f'{record["parameters"]:,}')]
    for key, value in record.get('metadata', {}).items():
        text = ' '.join(value.split())
        rows.append((f'  {key}', text if len(text) <= _SHOWN_TEXT else f'{text[:_SHOWN_TEXT]}...'))
    return rows
