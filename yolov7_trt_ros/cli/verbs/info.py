"""
Show what a model is: form, input, classes, strides, metadata.

For a TensorRT plan: its source, versions and options, the inputs it accepts, and whether it fits
this machine. With --layers also the layers that TensorRT built, if it can load the plan.

Examples
--------
  yolov7_trt info yolov7-nano
  yolov7_trt info yolov7.onnx --json -
  yolov7_trt info yolov7.plan --layers

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import hashlib
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, output, output_paths
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.core.class_names import first_names
from yolov7_trt_ros.engine.options import DEFAULT_MODEL
from yolov7_trt_ros.errors import (
    InferenceError,
    MissingDependencyError,
    ModelFormatError,
    PlanError,
    PlanMismatchError,
)

if TYPE_CHECKING:
    from yolov7_trt_ros.core.forms.model_spec import ModelSpec
    from yolov7_trt_ros.engine.plan.plan_file import PlanManifest

_SHOWN_NAMES = 8
_SHOWN_TEXT = 70


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_model_argument(
        parser, 'ONNX file of any YOLOv7 export, TensorRT plan, or an embedded model '
        f'(default: {DEFAULT_MODEL})',
    )
    arguments.add_naming_arguments(parser)
    arguments.add_size_argument(parser)
    parser.add_argument(
        '--layers', action='store_true', help='show the layers of a plan, as TensorRT built them'
    )
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from yolov7_trt_ros.engine.file_kind import is_plan
    from yolov7_trt_ros.engine.model_files import find_model

    args.model = arguments.chosen_model(args, DEFAULT_MODEL)
    path = find_model(args.model)
    output_paths.check_json(args.json, [path])
    if is_plan(path):
        refuse_without_effect(
            args, ['--size', '--class-names', '--anchors'], 'for a plan, which is not run here'
        )
        record, rows = describe_plan(path, layers=args.layers)
    else:
        refuse_without_effect(args, ['--layers'], 'for an ONNX file: only plans have such layers')
        record = _describe_onnx(path, args)
        rows = _rows(record)
    if args.json:
        output.write_json(args.json, record)
    if args.json != '-':
        output.say(output.format_table(rows))
    return 0


def _describe_onnx(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions

    detector = open_detector(DetectorOptions(
        model=args.model, backend='onnx', class_names=args.class_names, anchors=args.anchors,
        network_size=args.size,
    ))
    detector.close()
    model_effects.check_size(detector.spec, args.model, model_effects.asked_size(args))
    return describe(path, detector.spec) | {'backend': detector.backend}


def describe_plan(path: Path, *, layers: bool) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """
    Return the facts of a plan, JSON-ready and as table rows.

    Raises
    ------
    PlanError
        The manifest is unreadable, or the plan is damaged.

    """
    from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan

    manifest = read_manifest(path)
    data = read_plan(path, manifest)
    record: dict[str, Any] = {
        'file': str(path), 'bytes': len(data), 'sha256': hashlib.sha256(data).hexdigest(),
        'manifest': None if manifest is None else manifest.to_record(),
    }
    if manifest is None:
        rows = [('plan', f'{path} ({len(data) / 1e6:.1f} MB)'), ('sha256', record['sha256']),
                ('manifest', 'none: not built with yolov7_trt build')]
    else:
        rows = output.manifest_rows(path, manifest)
        classes = manifest.spec.class_names
        rows += [
            ('strides', ', '.join(map(str, manifest.spec.strides))),
            ('classes', _class_text(classes)),
            ('fits here', _fit(path, manifest)),
        ]
        record['fits_here'] = rows[-1][1]
        rows += output.evidence_rows(manifest.spec.evidence, manifest.spec.doubts)
    if layers or manifest is None:
        rows += _add_facts(path, record, layers=layers)
    return record, rows


def _fit(path: Path, manifest: PlanManifest) -> str:
    """Return `yes`, or what differs and the command to run, or why it is unknown."""
    from yolov7_trt_ros.engine.device.find_gpu import find_target
    from yolov7_trt_ros.engine.plan.plan_fit import check_fits
    from yolov7_trt_ros.engine.trt.api import TrtApi

    try:
        check_fits(path, manifest, find_target(TrtApi.load()))
    except PlanMismatchError as exc:
        return f'no: {exc}'
    except (MissingDependencyError, InferenceError) as exc:
        return f'unknown: {exc}'
    return 'yes'


def _add_facts(path: Path, record: dict[str, Any], *, layers: bool) -> list[tuple[str, str]]:
    """Add the facts from TensorRT to the record; return their rows."""
    from yolov7_trt_ros.engine.gpu.plan_facts import load_plan_facts

    try:
        facts = load_plan_facts(path)
    except (MissingDependencyError, InferenceError, PlanError) as exc:
        record['layers'], record['layers_missing'] = None, str(exc)
        return [('layers' if layers else 'inside', f'TensorRT cannot load it here: {exc}')]
    record['tensors'] = [str(tensor) for tensor in (*facts.inputs, *facts.outputs)]
    record['profiles'] = [str(profile) for profile in facts.profiles]
    record['device_memory_bytes'] = facts.device_memory_bytes
    rows = [('tensors', '; '.join(record['tensors'])), ('profiles', '; '.join(record['profiles'])),
            ('memory', f'{facts.device_memory_bytes / 2**20:.1f} MiB for one context')]
    if layers:
        record['layers'] = facts.layers
        rows.append(('layers', str(len(facts.layers))))
        rows += [(f'  {number}', _layer_text(layer))
                 for number, layer in enumerate(facts.layers)]
    return rows


def _class_text(names: Sequence[str]) -> str:
    return f'{len(names)}: {first_names(names, _SHOWN_NAMES)}' if names else 'unknown'


def _layer_text(layer: dict[str, Any]) -> str:
    """Return name, kind, and type and format of the first output, as far as known."""
    outputs = layer.get('Outputs') or [{}]
    known = (layer.get('Name'), layer.get('LayerType'), outputs[0].get('Format/Datatype'))
    return ', '.join(str(text) for text in known if text)


def describe(path: Path, spec: ModelSpec) -> dict[str, Any]:
    """Return the facts of a model, JSON-ready."""
    data = path.read_bytes()
    return {
        'file': str(path),
        'bytes': len(data),
        'sha256': hashlib.sha256(data).hexdigest(),
        'layout': spec.layout.value,
        'input': {'name': spec.image.name, 'shape': list(spec.image.shape),
                  'dtype': spec.image.dtype},
        'size_wh': list(spec.fixed_wh) if spec.fixed_wh else None,
        'outputs': list(spec.outputs),
        'strides': list(spec.strides),
        'anchors': spec.anchors,
        'num_classes': spec.num_classes,
        'class_names': list(spec.class_names),
        'told_by': list(spec.evidence),
        'in_doubt': list(spec.doubts),
        **_onnx_facts(path),
    }


def _onnx_facts(path: Path) -> dict[str, Any]:
    """Return opset, producer, parameters and metadata; nothing without the onnx package."""
    from yolov7_trt_ros.onnx_tools.model_file import load_model

    try:
        model = load_model(path, weights=False)
    except (MissingDependencyError, ModelFormatError):
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
    listed = first_names(names, _SHOWN_NAMES)
    rows = [
        ('file', f'{record["file"]} ({record["bytes"] / 1e6:.1f} MB)'),
        ('sha256', record['sha256']),
        ('layout', f'{record["layout"]} ({", ".join(record["outputs"])})'),
        ('input', f'{record["input"]["name"]} {record["input"]["dtype"]}[{shape}]'),
        ('size', f'{size[0]}x{size[1]}, fixed' if size else
         f'free, in multiples of {record["strides"][-1]}'),
        ('strides', ', '.join(map(str, record['strides']))),
        ('classes', f'{"unknown" if record["num_classes"] is None else record["num_classes"]}'
         + (f': {listed}' if listed else '')),
        ('runs on', record['backend']),
        *output.evidence_rows(record['told_by'], record['in_doubt']),
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
