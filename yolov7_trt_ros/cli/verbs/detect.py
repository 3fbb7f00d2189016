"""
Find objects in pictures, videos, bags and streams, and draw them.

For a picture a picture (.jpg) of the same name is written to the output folder, for a video a
video (.mp4), for a bag a folder of pictures. A folder means the pictures in it, with --recursive
also those in its subfolders; quoted patterns such as 'day*/*.jpg' are expanded. Depth topics of
bags are skipped. Inputs that cannot be read are reported and skipped; the exit status is then 1.

A stream is a webcam (0, /dev/video0) or an address (rtsp://, http://). Only its latest frame is
used; a lost connection is retried for 30 s. Ctrl-C stops it and finishes its video.

Outputs of an earlier run are replaced; if another file has the name, NAME-2 is used instead.

Examples
--------
  yolov7_trt detect street.jpg -o out
  yolov7_trt detect holiday/ crossing.mp4 -o out --classes person,car --score-threshold 0.4
  yolov7_trt detect recording/ -o out --topics /camera/image_raw --every 10
  yolov7_trt detect crossing.mp4 -o out --track bytetrack
  yolov7_trt detect rtsp://camera.local/stream -o out --show
  yolov7_trt detect 'day*/*.jpg' -o out --save-txt --save-coco found.json --save-crops
  yolov7_trt detect street.jpg -o out --model yolov7.onnx --size 1280 --json -

"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Sequence
import contextlib
import glob
import os
from pathlib import Path
import time
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import (
    arguments,
    engine_arguments,
    interruption,
    look_arguments,
    output,
    output_paths,
    track_arguments,
)
from yolov7_trt_ros.cli.effects import source_effects
from yolov7_trt_ros.cli.window import Window
from yolov7_trt_ros.cli.work.folder_lock import locked_folder
from yolov7_trt_ros.cli.work.output_names import OutputNames
from yolov7_trt_ros.cli.work.saved_results import Sinks
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector, DetectSettings
    from yolov7_trt_ros.replay.run import Following, RunCounter
    from yolov7_trt_ros.replay.sources import FrameSource


_WIDEST_LINE_PX = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'paths', nargs='+', metavar='PATH',
        help='picture, folder of pictures, pattern, video, bag, webcam or address of a stream',
    )
    parser.add_argument(
        '--output', '-o', type=Path, metavar='DIR',
        help='folder to write to; optional with --show',
    )
    arguments.add_source_arguments(parser, every='use every N-th frame of videos and bags')
    _add_result_arguments(parser)
    arguments.add_max_pixels_argument(parser)
    arguments.add_detect_arguments(parser)
    look_arguments.add_look_arguments(parser)
    track_arguments.add_track_arguments(parser)
    arguments.add_json_argument(parser)


def _add_result_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('results')
    group.add_argument(
        '--show', action='store_true', help='show the frames in a window; needs a display',
    )
    group.add_argument(
        '--save-txt', action='store_true',
        help='write DIR/labels: one text file per frame in the YOLO format (class, centre, size)',
    )
    group.add_argument(
        '--save-coco', type=Path, metavar='FILE',
        help='write all detections to one COCO file, with scores',
    )
    group.add_argument(
        '--save-crops', action='store_true',
        help='write each object as a picture in DIR/crops/CLASS',
    )
    group.add_argument(
        '--hide-labels', action='store_true', help='draw boxes without class and score',
    )
    group.add_argument(
        '--line-width', type=int, default=0, metavar='PX',
        help=f'line width of the boxes, 0..{_WIDEST_LINE_PX} (default: 0, fits the frame)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if an input failed."""
    arguments.check_at_least('--every', args.every)
    look_arguments.check_effect(args)
    if not 0 <= args.line_width <= _WIDEST_LINE_PX:
        raise SettingError(f'--line-width must be within 0..{_WIDEST_LINE_PX}')
    _check_output(args)
    args.paths = expand_patterns(args.paths)
    source_effects.check_source_arguments(args, args.paths, every_picture=True)
    paths = [expand_home(path) for path in args.paths]
    output_paths.check_json(args.json, paths, made=[args.output])
    output_paths.check_file('--save-coco', args.save_coco, 'JSON', paths)
    output_paths.check_apart({'--json': args.json, '--save-coco': args.save_coco})
    if args.output is None:
        return _run(args, None)
    folder = expand_home(args.output)
    with locked_folder(folder):
        names = OutputNames(folder, paths, recursive=args.recursive)
        with interruption.explain(names.describe):
            return _run(args, names)


def _check_output(args: argparse.Namespace) -> None:
    if args.output is not None:
        output_paths.check_folder('--output', args.output)
        return
    if not args.show:
        raise SettingError('give a folder to write to, with --output DIR')
    for flag in ('save_txt', 'save_crops'):
        if getattr(args, flag):
            raise SettingError(f'--{flag.replace("_", "-")} needs a folder: give --output DIR')


def expand_patterns(paths: Sequence[str]) -> list[str]:
    """
    Return paths with each pattern replaced by the files it matches, in order.

    Raises
    ------
    InputError
        A pattern matches nothing.

    """
    from yolov7_trt_ros.replay.file_kinds import natural_key

    expanded: list[str] = []
    for path in paths:
        plain = os.path.expanduser(path)
        if os.path.exists(plain) or not glob.has_magic(plain) or '://' in path:
            expanded.append(path)
            continue
        found = [Path(each) for each in glob.glob(plain, recursive=True)]
        if not found:
            raise InputError(f'no file matches {quoted(path)}')
        expanded += map(str, sorted(found, key=natural_key))
    return expanded


def _run(args: argparse.Namespace, names: OutputNames | None) -> int:
    from yolov7_trt_ros.replay.run import Following, RunCounter

    following = Following(track_arguments.track_options(args))
    window = Window() if args.show else None
    options = arguments.detector_options(args, rectangular=not args.square)
    detector = look_arguments.open_looking(args, options)
    try:
        settings = arguments.detect_settings(args, detector.spec.class_names)
        counter = RunCounter(detector.spec.class_names)
        start = time.perf_counter()
        with Sinks.of(args, names, detector.spec.class_names, window) as sinks:
            inputs = [
                _detect_input(path, args, detector, settings, counter, following, sinks)
                for path in args.paths if not sinks.is_ended
            ]
        wall_s = time.perf_counter() - start
    finally:
        detector.close()
    summary = counter.summary()
    rows = [] if names is None else [('output', str(names.folder))]
    rows += output.summary_rows(summary, wall_s) + engine_arguments.engine_rows(detector)
    with output.report_last(output.format_table(rows), args.json):
        if args.json:
            record = look_arguments.run_record(args, options, detector, settings, summary)
            output.write_json(args.json, {'inputs': inputs, **record})
    return 1 if summary.failed else 0


def _detect_input(
    path: str,
    args: argparse.Namespace,
    detector: Detector,
    settings: DetectSettings,
    counter: RunCounter,
    following: Following,
    sinks: Sinks,
) -> dict[str, Any]:
    """Detect in one input; one that cannot be opened is counted as failed."""
    # a stream may run for days: its frames are kept for the JSON only
    frames: Any = collections.deque(maxlen=None if args.json else 0)
    record: dict[str, Any] = {'path': path, 'frames': frames, 'failed': [], 'warnings': []}
    with contextlib.ExitStack() as stack:
        try:
            source = _open_source(path, args, sinks, stack)
        except InputError as exc:
            output.warn(exc)
            counter.fail(exc)
            return record | {'frames': [], 'failed': [str(exc)]}
        warned = output.warn_once(source.warnings, 0)
        warned = _detect_frames(
            source, detector, settings, counter, following, sinks, record, warned
        )
        output.warn_once(source.warnings, warned)
        record['warnings'] = list(source.warnings)
    record['frames'] = list(frames)
    return record


def _open_source(
    path: str, args: argparse.Namespace, sinks: Sinks, stack: contextlib.ExitStack
) -> FrameSource:
    """Open an input; while a stream is open, the first Ctrl-C only requests its end."""
    from yolov7_trt_ros.replay.file_kinds import kind_of, local_path
    from yolov7_trt_ros.replay.sources import open_frames
    from yolov7_trt_ros.replay.streams import is_stream, StreamSource

    if is_stream(path) and not Path(path).is_file():
        stream = StreamSource(
            path, max_pixels=args.max_pixels,
            stopped=lambda: stopping.requested or sinks.is_ended,
        )
        stopping = stack.enter_context(interruption.Interruption())
        return stream
    # `every` is for sequences: all pictures of a folder are used
    streams = kind_of(local_path(path)) != 'pictures'
    return open_frames(
        path, topics=args.topics, every=args.every if streams else 1,
        recursive=args.recursive, outside=sinks.folder, max_pixels=args.max_pixels,
    )


def _detect_frames(
    source: FrameSource,
    detector: Detector,
    settings: DetectSettings,
    counter: RunCounter,
    following: Following,
    sinks: Sinks,
    record: dict[str, Any],
    warned: int,
) -> int:
    """Detect in the frames of a source; return how many of its warnings were printed."""
    from yolov7_trt_ros.cli.work.frame_writers import open_writer
    from yolov7_trt_ros.replay.frames import BadFrame
    from yolov7_trt_ros.replay.run import detect_frames

    class_names = detector.spec.class_names
    with (
        open_writer(source, sinks.names) as writer,
        output.progress_bar(source.path.name, source.count) as advance,
    ):
        for item in detect_frames(source, detector, settings, counter, following):
            advance()
            warned = output.warn_once(source.warnings, warned)
            if isinstance(item, BadFrame):
                output.warn(item.error)
                record['failed'].append(str(item.error))
                continue
            frame, detections, engine = item
            written = sinks.take(writer, source.kind, frame, detections)
            record['frames'].append({
                'source': frame.source,
                'index': frame.index,
                'stamp_ns': frame.stamp_ns,
                'size_wh': list(detections.source_wh),
                'output': str(written),
                **({'engine': engine} if engine else {}),
                'detections': detections.as_records(class_names),
            })
            if sinks.is_ended:
                break
    return warned
