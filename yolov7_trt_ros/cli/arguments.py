"""Arguments that several verbs share: model, engine, detection, inputs. Light imports."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import io
from typing import TYPE_CHECKING

from yolov7_trt_ros.core.defaults import (
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DECODED_PIXELS,
    DEFAULT_MAX_DETECTIONS,
    DEFAULT_SCORE_THRESHOLD,
    MAX_DETECTIONS_LIMIT,
    MAX_PIXELS,
)
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.engine.options import (
    BACKENDS,
    DEFAULT_MODEL,
    DetectorOptions,
    MEMORIES,
    NETWORK_SIZE_RANGE,
    PRECISIONS,
)
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.plain_file import open_plain_file

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import DetectSettings

LARGEST_DOMAIN_ID = 232
ACTIVATIONS = ('silu', 'leaky_relu', 'relu')

_LARGEST_ANCHOR_FILE = 65536
_MOST_THREADS = 1024


def whole_number(least: int, most: int, unit: str = '') -> Callable[[str], int]:
    """Return a function that reads a number within limits from the command line."""
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f'must be within {least}..{most}{unit and " "}{unit}, got {quoted(text)}'
            )
        return number

    return read


NETWORK_SIZE = whole_number(*NETWORK_SIZE_RANGE, 'pixels')
"""Reads a side of the network input; the model refuses what is off its stride."""


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that a model is opened with, without its letterbox."""
    group = parser.add_argument_group('model')
    group.add_argument(
        '--model', '-m', default=DEFAULT_MODEL, metavar='M',
        help='ONNX file of any YOLOv7 export, TensorRT plan, or an embedded model '
        '(default: %(default)s)',
    )
    add_naming_arguments(group)
    add_size_argument(group)
    add_threads_argument(group)
    _add_engine_arguments(parser)


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where a model runs, and how on a GPU."""
    group = parser.add_argument_group('engine')
    group.add_argument(
        '--backend', choices=BACKENDS, default=BACKENDS[0],
        help='tensorrt (GPU), onnx (ONNX Runtime on the CPU), or auto: the first '
        'available (default: %(default)s)',
    )
    group.add_argument(
        '--precision', choices=PRECISIONS, default=DetectorOptions.precision,
        help='precision of the plan that TensorRT builds from an ONNX model on first use '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--memory', choices=MEMORIES, default=MEMORIES[0],
        help='how images are copied to the GPU (default: auto, measured once per machine)',
    )
    group.add_argument(
        '--no-cuda-graph', action='store_true', help='launch each kernel by itself'
    )


def add_size_argument(
    parser: argparse._ActionsContainer,
    meaning: str = 'longer side of the network input, for models with a free input size',
) -> None:
    """Add `--size`."""
    parser.add_argument(
        '--size', type=NETWORK_SIZE, default=DetectorOptions.network_size, metavar='PX',
        help=f'{meaning}, {"..".join(map(str, NETWORK_SIZE_RANGE))} (default: %(default)s)',
    )


def add_threads_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--threads`."""
    parser.add_argument(
        '--threads', type=whole_number(0, _MOST_THREADS), default=0, metavar='N',
        help=f'CPU threads, 0..{_MOST_THREADS} (default: 0, one per core)',
    )


def add_model_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the model as a positional argument, and as `-m` like in other verbs."""
    parser.add_argument('model', nargs='?', metavar='MODEL', help=what)
    parser.add_argument(
        '--model', '-m', dest='named_model', metavar='M', help='the same as MODEL'
    )


def chosen_model(args: argparse.Namespace, default: str | None = None) -> str:
    """
    Return the model of `add_model_argument`.

    Raises
    ------
    SettingError
        There are two, or none and no default.

    """
    if args.model is not None and args.named_model is not None:
        raise SettingError('give one model: as MODEL, or with -m')
    model: str | None = args.model or args.named_model or default
    if model is None:
        raise SettingError('give a model: as MODEL, or with -m')
    return model


def add_naming_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that override a model's class names and anchors."""
    add_class_names_argument(parser)
    add_anchors_argument(parser)


def add_class_names_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--class-names`."""
    parser.add_argument(
        '--class-names', default='auto', metavar='NAMES',
        help='auto (names in the model), coco80, or a text file with one name per line',
    )


def add_checkpoint_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that override the assumptions about a PyTorch checkpoint."""
    group = parser.add_argument_group('plain state_dicts, which do not store their architecture')
    group.add_argument(
        '--table', metavar='NAME',
        help='published table of layers, such as yolov7-tiny-silu (default: found by the '
        'names and shapes of the weights)',
    )
    group.add_argument(
        '--activation', choices=ACTIVATIONS,
        help='activation of all layers (default: the published one, which is printed)',
    )


def add_anchors_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--anchors`."""
    parser.add_argument(
        '--anchors', type=anchor_setting, default='auto', metavar='ANCHORS',
        help='anchors of raw heads, if the model has none or to replace those of a checkpoint: '
        'yolov7-tiny, yolov7, yolov7-p6, numbers ("10,13 16,30 ..." from the smallest stride up), '
        'or a file with numbers, such as cfg/*.yaml',
    )


def anchor_setting(text: str) -> str:
    """
    Return anchors as the engine takes them: names as they are, numbers and files as numbers.

    Raises
    ------
    SettingError
        A file that cannot be read, or that holds no anchors.

    """
    path = expand_home(text)
    try:
        if not path.is_file():
            return text
        with io.TextIOWrapper(open_plain_file(path, SettingError), 'utf-8-sig') as file:
            content = file.read(_LARGEST_ANCHOR_FILE)
    except (OSError, ValueError) as exc:
        raise SettingError(f'--anchors: {text!r} cannot be read: {exc}') from exc
    from yolov7_trt_ros.core.forms.anchors import format_anchors, parse_anchors

    return format_anchors(parse_anchors(content))


def add_detect_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, thresholds and classes, as `detect` and `replay` take them."""
    add_model_arguments(parser)
    group = parser.add_argument_group('detection')
    add_threshold_arguments(group, '-s')
    group.add_argument(
        '--classes', type=split_names, default=[], metavar='A,B',
        help='classes to keep: names or numbers, separated by commas (default: all)',
    )
    group.add_argument(
        '--class-thresholds', default='', metavar='A:SCORE,B:SCORE',
        help='minimum score of single classes, instead of --score-threshold',
    )
    group.add_argument(
        '--square', action='store_true',
        help='letterbox to a square (default: to the smallest rectangle the model accepts)',
    )


def add_threshold_arguments(
    parser: argparse._ActionsContainer, *short: str,
    per_image: str = 'maximum number of detections per image',
) -> None:
    """Add `--score-threshold`, also by a short name, `--iou-threshold` and `--max-detections`."""
    parser.add_argument(
        '--score-threshold', *short, type=float, default=DEFAULT_SCORE_THRESHOLD, metavar='S',
        help='minimum score to keep, 0..1 (default: %(default)s)',
    )
    parser.add_argument(
        '--iou-threshold', type=float, default=DEFAULT_IOU_THRESHOLD, metavar='IOU',
        help='IoU above which the lower-scoring of two boxes is removed, 0..1 '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--max-detections', type=int, default=DEFAULT_MAX_DETECTIONS, metavar='N',
        help=f'{per_image}, 1..{MAX_DETECTIONS_LIMIT} (default: %(default)s)',
    )


def add_source_arguments(parser: argparse._ActionsContainer, *, every: str) -> None:
    """Add which frames of pictures, videos and bags are used, with a text for `--every`."""
    parser.add_argument('--every', type=int, default=1, metavar='N', help=every)
    add_topics_argument(parser, 'image topics of bags')
    parser.add_argument(
        '--recursive', '-r', action='store_true', help='search folders within folders too'
    )


def add_topics_argument(
    parser: argparse._ActionsContainer, meaning: str, metavar: str = 'A,B'
) -> None:
    """Add `--topics`."""
    parser.add_argument(
        '--topics', type=split_names, default=[], metavar=metavar,
        help=f'{meaning} (default: all)',
    )


def check_at_least(flag: str, value: int | None, least: int = 1) -> None:
    """Raise SettingError for a number that is given and too small."""
    if value is not None and value < least:
        raise SettingError(f'{flag} must be at least {least}, got {value}')


def check_domain_id(value: int | None) -> None:
    """Raise SettingError for a number that is given and no ROS domain."""
    if value is not None and not 0 <= value <= LARGEST_DOMAIN_ID:
        raise SettingError(f'--domain-id must be within 0..{LARGEST_DOMAIN_ID}, got {value}')


def add_max_pixels_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--max-pixels`."""
    parser.add_argument(
        '--max-pixels', type=whole_number(1, MAX_PIXELS), default=DEFAULT_MAX_DECODED_PIXELS,
        metavar='N',
        help='maximum width x height of a decoded picture, '
        f'1..{MAX_PIXELS} (default: %(default)s)',
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument(
        '--json', metavar='FILE', help='write the results as JSON to a file, or - for stdout'
    )


def add_allow_missing_argument(parser: argparse._ActionsContainer) -> None:
    """Add `--allow-missing`."""
    parser.add_argument(
        '--allow-missing', action='store_true',
        help='measure on the images found, if some of the annotated ones are missing',
    )


def detector_options(args: argparse.Namespace, *, rectangular: bool) -> DetectorOptions:
    """Return the options to open a detector with."""
    from yolov7_trt_ros.engine.options import DetectorOptions

    return DetectorOptions(
        model=args.model,
        class_names=args.class_names,
        anchors=args.anchors,
        network_size=args.size,
        rectangular=rectangular,
        threads=args.threads,
        backend=args.backend,
        precision=args.precision,
        memory=args.memory,
        cuda_graph=not args.no_cuda_graph,
    )


def detect_settings(args: argparse.Namespace, class_names: tuple[str, ...]) -> DetectSettings:
    """
    Return the settings of `add_detect_arguments`.

    Raises
    ------
    SettingError
        A value out of its range, or a class that the model does not have.

    """
    from yolov7_trt_ros.core.class_filter import find_class_ids, find_class_thresholds
    from yolov7_trt_ros.core.detector import DetectSettings

    return DetectSettings(
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
        max_detections=args.max_detections,
        class_ids=find_class_ids(args.classes, class_names),
        class_thresholds=find_class_thresholds(args.class_thresholds, class_names),
    )
