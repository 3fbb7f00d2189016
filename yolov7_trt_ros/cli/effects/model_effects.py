"""Tell of options that a model or its engine cannot follow: refused, or a warning on stderr."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.effects.given_options import given, refuse_without_effect
from yolov7_trt_ros.errors import SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.core.forms.model_spec import ModelSpec
    from yolov7_trt_ros.engine.options import DetectorOptions

_ON_GPU = ('--precision', '--memory', '--no-cuda-graph')
_IN_NMS = ('--iou-threshold',)


def check_engine_options(args: argparse.Namespace, options: DetectorOptions) -> None:
    """
    Refuse options of another engine than the one that was asked for.

    Raises
    ------
    SettingError
        One of them was given with `--backend onnx` or `tensorrt`, or a precision for a plan.

    """
    from yolov7_trt_ros.engine.file_kind import is_plan
    from yolov7_trt_ros.home_folder import expand_home

    if options.backend == 'onnx':
        refuse_without_effect(args, _ON_GPU, 'with ONNX Runtime on the CPU')
    if options.backend == 'tensorrt':
        refuse_without_effect(args, ['--threads'], 'with TensorRT, which runs on the GPU')
    if is_plan(expand_home(options.model)):
        refuse_without_effect(
            args, ['--precision'],
            f'for {options.model}: a plan has the precision that it was built with',
        )


def check_size(
    spec: ModelSpec, model: str, size: int | None, flag: str = '--size'
) -> None:
    """
    Refuse a size that was asked for if the model has another one.

    Parameters
    ----------
    spec, model
        The opened model, and its name.
    size
        Longer side of the network input in pixels; None if none was asked for.
    flag
        Option that asked for it.

    Raises
    ------
    SettingError
        The model has a fixed input of another size.

    """
    if size is not None and (fixed := spec.other_wh(size)) is not None:
        raise SettingError(
            f'{flag} is {size}, but the input of {model} is fixed at {fixed[0]}x{fixed[1]} '
            f'pixels: leave {flag} out, or export the model with a free size'
        )


def warn_of_size(spec: ModelSpec, model: str, size: int | None) -> None:
    """Warn if a further model has another size than the one asked for, which others may have."""
    if size is not None and (fixed := spec.other_wh(size)) is not None:
        output.warn(
            f'the input of {model} is fixed at {fixed[0]}x{fixed[1]} pixels: --size {size} has no '
            'effect on it'
        )


def asked_size(args: argparse.Namespace) -> int | None:
    """Return the value of `--size` if it was given."""
    size: int = args.size
    return size if given(args, ['--size']) else None


def check_model(args: argparse.Namespace, options: DetectorOptions, detector: Detector) -> None:
    """
    Refuse options that an opened model has no use for, and warn of those of another engine.

    Raises
    ------
    SettingError
        `--square` with a model whose input is fixed and no square.

    """
    from yolov7_trt_ros.core.forms.model_spec import OutputLayout

    fixed = detector.spec.fixed_wh
    if fixed is not None and fixed[0] != fixed[1]:
        refuse_without_effect(
            args, ['--square'],
            f'with {options.model}, whose input is fixed at {fixed[0]}x{fixed[1]} pixels',
        )
    if detector.spec.layout in (OutputLayout.END2END_TRT, OutputLayout.END2END_ORT):
        for flag in given(args, _IN_NMS):
            output.warn(f'{flag} has no effect: the model has NMS inside, with its own threshold')
    on_cpu = detector.backend.startswith('ONNX Runtime')
    for flag in given(args, _ON_GPU if on_cpu else ['--threads']):
        output.warn(f'{flag} has no effect: the model runs in {detector.backend}')
