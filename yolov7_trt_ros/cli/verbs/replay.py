"""
Detect in the images of a bag, and write the detections to a bag.

The input is a bag folder, or a .mcap or .db3 file; incomplete files are read as far as possible.
Topics whose first message is a depth image are skipped. The output is
vision_msgs/Detection2DArray on `detections` in the namespace of each image topic, with the header
and recording time of its image, as the detector node would have published it.

For several bags, or with --workers or --dask, OUT is a folder: it gets OUT/NAME.mcap per bag,
drives.json and drives.html. If interrupted, the same command continues.

Examples
--------
  yolov7_trt replay recording/ -o detections.mcap
  yolov7_trt replay recording.mcap -o out.mcap --topics /camera/image_raw --with-images --force
  yolov7_trt replay recording/ -o out/ --model yolov7.onnx --classes person --track bytetrack
  yolov7_trt replay drives/*.mcap -o replayed/ --workers 8

"""

from __future__ import annotations

import argparse
from pathlib import Path
import time

from yolov7_trt_ros.cli import (
    arguments,
    engine_arguments,
    interruption,
    look_arguments,
    output,
    output_paths,
    track_arguments,
)
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.cli.fleet.fleet_arguments import (
    add_fleet_arguments,
    check_fleet_arguments,
    uses_dask,
)
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.home_folder import expand_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'bags', nargs='+', metavar='IN', help='bag folder, .mcap or .db3 file'
    )
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='OUT',
        help='file ending in .mcap, or a bag folder',
    )
    arguments.add_topics_argument(parser, 'image topics')
    parser.add_argument(
        '--with-images', action='store_true', help='also copy the images, unchanged'
    )
    parser.add_argument('--force', action='store_true', help='replace an existing output')
    arguments.add_max_pixels_argument(parser)
    arguments.add_detect_arguments(parser)
    look_arguments.add_look_arguments(parser)
    track_arguments.add_track_arguments(parser)
    add_fleet_arguments(parser)
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if an image could not be used."""
    from yolov7_trt_ros.replay.bags.bag_writer import check_output
    from yolov7_trt_ros.replay.file_kinds import local_path
    from yolov7_trt_ros.replay.sources import check_kind

    check_fleet_arguments(args)
    look_arguments.check_effect(args)
    if len(args.bags) > 1 or uses_dask(args):
        return _run_many(args)
    bag, path = local_path(args.bags[0]), expand_home(args.output)
    output_paths.check_json(args.json, [bag, path], made=[path.parent])
    output_paths.check_writable('--output', path, path.parent)
    check_output(path, bag, overwrite=args.force)
    check_kind(args.bags[0], 'bag', 'replay')
    with interruption.explain(OutputFile(path).describe):
        return _run(args, bag)


def _run_many(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.fleet.replay_drives import run_drives
    from yolov7_trt_ros.replay.file_kinds import local_path

    refuse_without_effect(
        args, ['--force'], 'with many bags: the same command continues, and other settings need '
        'another folder',
    )
    bags, folder = [local_path(bag) for bag in args.bags], expand_home(args.output)
    output_paths.check_folder('--output', folder)
    output_paths.check_json(args.json, bags, made=[folder])
    with interruption.explain(lambda: f'the same command continues with {args.output}'):
        return run_drives(args)


def _run(args: argparse.Namespace, bag: Path) -> int:
    from yolov7_trt_ros.replay.bags.bag_reader import BagReader
    from yolov7_trt_ros.replay.bags.bag_writer import DetectionBagWriter
    from yolov7_trt_ros.replay.run import Following, replay_bag

    following = Following(track_arguments.track_options(args))
    reader = BagReader(bag, topics=args.topics, max_pixels=args.max_pixels)
    warned = output.warn_once(reader.warnings, 0)
    options = arguments.detector_options(args, rectangular=not args.square)
    detector = look_arguments.open_looking(args, options)
    try:
        settings = arguments.detect_settings(args, detector.spec.class_names)
        start = time.perf_counter()
        with (
            DetectionBagWriter(
                expand_home(args.output), reader.topics, detector.spec.class_names,
                qos=reader.qos, with_images=args.with_images, overwrite=args.force,
                source=bag,
            ) as writer,
            output.progress_bar(reader.path.name, reader.count) as advance,
        ):
            summary = replay_bag(
                reader, detector, settings, writer, following=following, progress=advance
            )
            if not summary.frames and summary.failed:
                raise InputError(f'no image of {args.bags[0]} could be used: {summary.reasons[0]}')
        wall_s = time.perf_counter() - start
    finally:
        detector.close()
    output.warn_once(reader.warnings, warned)
    for reason in summary.reasons:
        output.warn(reason)
    topics = ', '.join(writer.detections_topics.values())
    rows = [('output', str(args.output)), ('topics', topics)]
    rows += output.summary_rows(summary, wall_s) + engine_arguments.engine_rows(detector)
    with output.report_last(output.format_table(rows), args.json):
        if args.json:
            record = look_arguments.run_record(args, options, detector, settings, summary)
            output.write_json(args.json, {
                'input': str(args.bags[0]), 'output': str(args.output),
                'warnings': list(reader.warnings),
                'topics': writer.detections_topics, **record,
            })
    return 1 if summary.failed else 0
