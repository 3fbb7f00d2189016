"""
Read and write a TensorRT plan and its manifest.

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
from typing import Annotated, Any

from yolov7_trt_ros.atomic_file import staged_file
from yolov7_trt_ros.core.forms.model_spec import check_input, ModelSpec
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.owner import MANIFEST, read_own_file
from yolov7_trt_ros.engine.plan.shape_range import format_shape, ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import WeightTable
from yolov7_trt_ros.errors import (
    BuildError,
    ModelFormatError,
    ModelLayoutError,
    PlanError,
    PlanMissingError,
    SettingError,
)
from yolov7_trt_ros.records import from_record, Limits, to_record

_FORMAT = 1
_LARGEST_MANIFEST_BYTES = 1 << 22
_LARGEST_PLAN_BYTES = 1 << 40
_LIMITS = Limits(
    0, 2**31 - 1,  # as TensorRT's dimensions
    strict_text=True,
    optional=frozenset({'weights', 'transposed', 'columns', 'evidence', 'doubts'}),
)
"""Of a manifest; older ones lack some keys."""


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
        Detects models that differ in weights only; None for a plan that is
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
    plan_size_bytes: Annotated[int, Limits(0, _LARGEST_PLAN_BYTES)] = 0
    weights: WeightTable | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the manifest JSON-ready."""
        return {'format': _FORMAT, **to_record(self)}

    @classmethod
    def from_record(cls, record: object) -> PlanManifest:
        """
        Return the manifest of `to_record`.

        Raises
        ------
        ValueError, SettingError, ModelLayoutError
            Not one.

        """
        if isinstance(record, Mapping) and record.get('format') != _FORMAT:
            raise ValueError(f'format {reprlib.repr(record.get("format"))}, known is {_FORMAT}')
        manifest = from_record(cls, record, 'the manifest', _LIMITS)
        _check_spec(manifest.spec)
        return manifest


def _check_spec(spec: ModelSpec) -> None:
    """Check what the types of a spec do not ensure; raises ValueError, ModelLayoutError."""
    check_input([spec.image])
    sides = [side for head in spec.anchors or () for anchor in head for side in anchor]
    for name, numbers in (('strides', spec.strides or (0,)), ('anchors', sides)):
        if not all(number > 0 for number in numbers):
            raise ValueError(f'{name}: expected numbers above 0, found {reprlib.repr(numbers)}')


# ---- files


def manifest_path(plan: Path) -> Path:
    """Return where the manifest of a plan lies: `model.plan.json`."""
    return plan.with_name(f'{plan.name}.json')


def write_plan(path: Path, plan_bytes: bytes, manifest: PlanManifest) -> None:
    """
    Write manifest and plan, each of them atomically.

    Raises
    ------
    BuildError
        The folder cannot be written, or the manifest would be larger than what is read; an older
        plan is left as it was.

    """
    text = json.dumps(manifest.to_record(), indent=2, ensure_ascii=False) + '\n'
    record = text.encode(errors='replace')  # other bytes of file names, which no manifest holds
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
    Return the manifest of a plan, None if it has none, as those of trtexec.

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
    Return the plan, checked against its manifest if it has one.

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
