"""
A TensorRT plan on disk and its manifest: what it was built from, with what, and what it fits.

The manifest lies beside the plan as `<plan>.json`. It is written first and names the plan's size
and SHA-256, so a plan that was only half written, or exchanged, does not pass for the one it
describes. No TensorRT is needed here.

"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import hashlib
import json
from pathlib import Path
import reprlib
import shlex
from typing import Any, cast

from yolov7_trt_ros.atomic_file import staged_file
from yolov7_trt_ros.core.forms.model_spec import (
    check_input,
    LabelledColumns,
    ModelSpec,
    OutputLayout,
    TensorInfo,
)
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.manifest_values import Values
from yolov7_trt_ros.engine.plan.owner import MANIFEST, read_own_file
from yolov7_trt_ros.engine.plan.shape_range import format_shape, Shape, ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import WeightTable
from yolov7_trt_ros.errors import (
    BuildError,
    ModelFormatError,
    ModelLayoutError,
    PlanError,
    PlanMissingError,
    SettingError,
)

_FORMAT = 1
_LARGEST_MANIFEST_BYTES = 1 << 22
_LARGEST_PLAN_BYTES = 1 << 40


@dataclasses.dataclass(frozen=True)
class PlanManifest:
    """
    Everything known of a plan.

    Attributes
    ----------
    machine
        Where it was built.
    precision
        `fp32`, `fp16`, `int8` or `mixed`.
    profiles
        Input shapes it takes.
    onnx, onnx_sha256
        What it was built from; the path as it was given.
    plan_sha256, plan_size_bytes
        Of the plan file.
    options
        The builder's options, JSON-ready.
    spec
        What the model is.
    created
        Time of the build, ISO 8601, UTC.
    build_seconds
        How long it took.
    weights
        What tells whether another model differs in its weights alone; None for a plan that is
        not refittable.

    """

    machine: BuildTarget
    precision: str
    profiles: tuple[ShapeRange, ...]
    onnx: str
    onnx_sha256: str
    plan_sha256: str
    options: dict[str, Any]
    spec: ModelSpec
    created: str
    build_seconds: float
    plan_size_bytes: int = 0
    weights: WeightTable | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the manifest JSON-ready."""
        record = dataclasses.asdict(self)
        spec = record['spec']
        record['spec'] = {
            'input': spec.pop('image'), **spec, 'layout': self.spec.layout.value,
        }
        return {'format': _FORMAT, **record}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> PlanManifest:
        """
        Return the manifest of `to_record`.

        Raises
        ------
        ValueError, SettingError
            Not one.

        """
        values = Values(record, 'the manifest')
        if values['format'] != _FORMAT:
            raise ValueError(f'format {reprlib.repr(values["format"])}, known is {_FORMAT}')
        machine = values.inner('machine')
        return cls(
            machine=BuildTarget(**{
                field.name: machine.text(field.name) for field in dataclasses.fields(BuildTarget)
            }),
            precision=values.text('precision'),
            profiles=tuple(map(_profile_from_record, values.inners('profiles'))),
            onnx=values.text('onnx'),
            onnx_sha256=values.text('onnx_sha256'),
            plan_sha256=values.text('plan_sha256'),
            options=values.options('options'),
            spec=_spec_from_record(values.inner('spec')),
            created=values.text('created'),
            build_seconds=values.number('build_seconds'),
            plan_size_bytes=values.whole('plan_size_bytes', most=_LARGEST_PLAN_BYTES),
            weights=_weights_from_record(values),
        )


def _profile_from_record(record: Values) -> ShapeRange:
    # ShapeRange refuses what has not four sides
    return ShapeRange(*(
        cast(Shape, record.wholes(name)) for name in ('minimum', 'optimum', 'maximum')
    ))


def _weights_from_record(record: Values) -> WeightTable | None:
    """Return the weights; None also where the manifest is older than they are."""
    if 'weights' not in record or record['weights'] is None:
        return None
    table = record.inner('weights')
    return WeightTable(table.text('graph'), table.named_texts('weights'))


def _spec_from_record(record: Values) -> ModelSpec:
    image = record.inner('input')
    if not record['strides']:
        raise ValueError('a model without strides')
    return ModelSpec(
        image=check_input([
            TensorInfo(image.text('name'), image.sides('shape'), image.text('dtype'))
        ]),
        layout=OutputLayout(record.text('layout')),
        outputs=record.texts('outputs'),
        class_names=record.texts('class_names'),
        num_classes=None if record['num_classes'] is None else record.whole('num_classes'),
        strides=record.wholes('strides'),
        anchors=None if record['anchors'] is None else record.pairs('anchors'),
        boxes_are_centres=record.flag('boxes_are_centres'),
        transposed='transposed' in record and record.flag('transposed'),
        columns=_columns_from_record(record),
        evidence=record.texts('evidence') if 'evidence' in record else (),
        doubts=record.texts('doubts') if 'doubts' in record else (),
    )


def _columns_from_record(record: Values) -> LabelledColumns | None:
    """Return the columns; None also where the manifest is older than they are."""
    if 'columns' not in record or record['columns'] is None:
        return None
    columns = record.inner('columns')
    return LabelledColumns(
        columns.whole('box'), columns.whole('score'), columns.whole('label'),
        None if columns['objectness'] is None else columns.whole('objectness'),
    )


# ---- files


def manifest_path(plan: Path) -> Path:
    """Return where the manifest of a plan lies: `model.plan.json`."""
    return plan.with_name(f'{plan.name}.json')


def write_plan(path: Path, plan_bytes: bytes, manifest: PlanManifest) -> None:
    """
    Write manifest and plan so that each is there whole or not at all.

    Raises
    ------
    BuildError
        The folder cannot be written, or the manifest would be larger than what is read; an older
        plan is left as it was.

    """
    text = json.dumps(manifest.to_record(), indent=2, ensure_ascii=False) + '\n'
    record = text.encode()
    if len(record) > _LARGEST_MANIFEST_BYTES:
        rather = ' (build it without --refittable)' if manifest.weights is not None else ''
        raise BuildError(
            f'the manifest of {path} would have {len(record)} bytes, at most '
            f'{_LARGEST_MANIFEST_BYTES} are read: the model has too many names of weights{rather} '
            'or of classes'
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged_file(path, plan_bytes) as replace_plan:
            with staged_file(manifest_path(path), record) as replace_manifest:
                replace_manifest()
            replace_plan()
    except OSError as exc:
        raise BuildError(f'the plan {path} cannot be written: {exc}') from exc


def read_manifest(plan_path: Path) -> PlanManifest | None:
    """
    Return the manifest of a plan, None where it has none, as those of trtexec.

    Raises
    ------
    PlanError
        There is a file, but it is not a manifest.
    UntrustedPlanError
        Somebody else could have written it.

    """
    path = manifest_path(plan_path)
    try:
        text = read_own_file(
            path, what=MANIFEST, most_bytes=_LARGEST_MANIFEST_BYTES
        ).decode('utf-8')
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ModelFormatError) as exc:
        raise PlanError(
            f'the manifest {path} cannot be read: {exc}; build the plan again with yolov7_trt '
            'build, or remove the manifest if the plan is not ours'
        ) from exc
    try:
        return PlanManifest.from_record(json.loads(text))
    except (ValueError, SettingError, ModelLayoutError, RecursionError) as exc:
        raise PlanError(
            f'{path} is not a manifest this version reads ({exc}); build the plan again with '
            'yolov7_trt build, or remove the file if the plan is not ours'
        ) from exc


def read_plan(plan_path: Path, manifest: PlanManifest | None) -> bytes:
    """
    Return the plan, checked against its manifest where it has one.

    Raises
    ------
    PlanMissingError
        No such file.
    PlanError
        Truncated, or not the plan that the manifest describes.
    UntrustedPlanError
        Somebody else could have written it.

    """
    try:
        data = read_own_file(plan_path)
    except FileNotFoundError as exc:
        raise PlanMissingError(
            f'there is no plan {plan_path}; build it with yolov7_trt build MODEL.onnx -o '
            f'{shlex.quote(str(plan_path))}'
        ) from exc
    except (OSError, ModelFormatError) as exc:
        raise PlanError(f'the plan {plan_path} cannot be read: {exc}') from exc
    if not data:
        raise PlanError(f'the plan {plan_path} is empty{_again(manifest, plan_path)}')
    if manifest is None:
        return data
    expected = manifest.plan_size_bytes
    if len(data) < expected:
        raise PlanError(
            f'the plan {plan_path} is truncated: {len(data)} bytes of {expected}'
            + _again(manifest, plan_path)
        )
    if len(data) != expected or hashlib.sha256(data).hexdigest() != manifest.plan_sha256:
        raise PlanError(
            f'the plan {plan_path} is not the one that {manifest_path(plan_path).name} describes '
            f'(another SHA-256){_again(manifest, plan_path)}'
        )
    return data


def _again(manifest: PlanManifest | None, plan_path: Path) -> str:
    if manifest is None:
        return '; build it again'
    return f'; build it again with: {rebuild_command(manifest, plan_path)}'


def rebuild_command(manifest: PlanManifest, plan_path: Path) -> str:
    """Return the command line that builds a plan again as it was built."""
    words = ['yolov7_trt', 'build', manifest.onnx, '-o', str(plan_path),
             '--precision', manifest.precision]
    for profile in manifest.profiles:
        for option in ('minimum', 'optimum', 'maximum'):
            words += [f'--{option[:3]}', format_shape(getattr(profile, option))]
    for option, value in manifest.options.items():
        flag = f'--{option.replace("_", "-")}'
        if value is True:
            words.append(flag)
        elif value is not None and value is not False and value not in ('', 'auto'):
            words += [f'{flag}={value}'] if str(value).startswith('-') else [flag, str(value)]
    return shlex.join(words)
