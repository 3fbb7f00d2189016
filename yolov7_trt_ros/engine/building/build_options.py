"""BuildOptions: the validated options of a build, kept in the plan's manifest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
import re
from typing import Any

from yolov7_trt_ros.engine.options import PRECISIONS
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.errors import SettingError

_OPT_LEVELS = range(6)
_JSON_TYPES = {
    'bool': ('bool',), 'int | None': ('int', 'NoneType'), 'str': ('str',),
    'str | None': ('str', 'NoneType'), 'Path | None': ('str', 'NoneType'),
}
"""What a manifest may have for an option of each type."""


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """
    How a plan is built.

    Attributes
    ----------
    precision
        `fp32` (true float32, no TF32), `fp16`, `int8` (layers between the model's Q/DQ nodes in
        int8, the rest float32), or `mixed` (int8 where Q/DQ, the rest float16).
    profiles
        Input shapes that the plan is to accept; empty for `DEFAULT_PROFILE` with the sizes that
        the model fixes.
    bind_profiles
        Replace the sizes in `profiles` that the model fixes, instead of refusing them.
    workspace_mib
        Maximum GPU memory per layer; None leaves it to TensorRT.
    opt_level
        Effort, 0..5; None for TensorRT's default, 3.
    timing_cache
        File that keeps measurements for the next build; written again after it.
    dla_core
        Deep learning accelerator to build for; layers that it cannot run go to the GPU.
    refittable
        Weights can be exchanged later.
    keep_fp32
        Regular expression; nodes with a matching name stay in float32.
    version_compatible, hardware_compatible
        Also for later TensorRT; also for other GPUs from Ampere on. Both cost speed.
    class_names, anchors
        As in DetectorOptions: `auto`, or what overrides the model.
    keep_nms_plugin
        Leave EfficientNMS_TRT in the network: its thresholds are then fixed.
    keep_grid
        Leave the decoding of a grid model in the network, as other programs expect it.

    Raises
    ------
    SettingError
        A value is out of its range.

    """

    precision: str = 'fp16'
    profiles: tuple[ShapeRange, ...] = ()
    bind_profiles: bool = False
    workspace_mib: int | None = None
    opt_level: int | None = None
    timing_cache: Path | None = None
    dla_core: int | None = None
    refittable: bool = False
    keep_fp32: str | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    class_names: str = 'auto'
    anchors: str = 'auto'
    keep_nms_plugin: bool = False
    keep_grid: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.precision not in PRECISIONS:
            raise SettingError(
                f'precision must be one of {", ".join(PRECISIONS)}, got {self.precision!r}'
            )
        if self.opt_level is not None and self.opt_level not in _OPT_LEVELS:
            raise SettingError(f'opt_level must be within 0..5, got {self.opt_level}')
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise SettingError(f'workspace_mib must be at least 1, got {self.workspace_mib}')
        if self.dla_core is not None and self.dla_core < 0:
            raise SettingError(f'dla_core must be at least 0, got {self.dla_core}')
        if self.dla_core is not None and self.precision == 'fp32':
            raise SettingError('a DLA computes in fp16 or int8: choose one of those precisions')
        if self.keep_fp32 is not None:
            try:
                re.compile(self.keep_fp32)
            except (re.error, OverflowError, RecursionError) as exc:
                raise SettingError(f'keep_fp32 is not a regular expression: {exc}') from exc

    def to_record(self) -> dict[str, Any]:
        """Return what a manifest keeps besides precision and profiles; JSON-ready."""
        record = dataclasses.asdict(self)
        for name in ('precision', 'profiles', 'bind_profiles'):  # the manifest has the outcome
            del record[name]
        if self.timing_cache is not None:
            record['timing_cache'] = str(self.timing_cache)
        return record

    @classmethod
    def from_manifest(cls, manifest: PlanManifest) -> BuildOptions:
        """
        Return the options a plan was built with.

        Raises
        ------
        SettingError
            The manifest has options that this version does not know, or of another type.

        """
        record = dict(manifest.options)
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        if unknown := sorted(set(record) - set(known)):
            raise SettingError(f'the manifest has unknown build options: {", ".join(unknown)}')
        for name, value in record.items():
            if type(value).__name__ not in _JSON_TYPES.get(known[name], ()):
                raise SettingError(
                    f'the manifest has {value!r} as build option {name}, expected {known[name]}'
                )
        if record.get('timing_cache') is not None:
            record['timing_cache'] = Path(record['timing_cache'])
        return cls(precision=manifest.precision, profiles=manifest.profiles, **record)
