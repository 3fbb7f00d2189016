"""`replay` over many bags: one task and one bag of detections each, one report."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, look_arguments, output, track_arguments
from yolov7_trt_ros.cli.fleet.drives import name_drives
from yolov7_trt_ros.cli.fleet.result import (
    KeptResults,
    warn_of_failures,
    warn_of_notes,
    write_results,
)
from yolov7_trt_ros.cli.fleet.runner import open_runner, run_all
from yolov7_trt_ros.cli.fleet.tasks import Task
from yolov7_trt_ros.cli.work.work_folder import WorkFolder
from yolov7_trt_ros.cli.work.work_settings import settings_of
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.report.fleet_page import FleetPage


def run_drives(args: argparse.Namespace) -> int:
    """Replay all bags; the exit status is 1 if one, or an image, could not be used."""
    drives = name_drives([expand_home(path).absolute() for path in args.bags])
    folder = expand_home(args.output).absolute()
    tasks = [Task(name, (path, output_of(folder, name))) for name, path in drives.items()]
    with WorkFolder(folder, 'replay', settings_of(args, [])) as work:
        kept = KeptResults(work, {name: [path] for name, path in drives.items()})
        done = kept.done(partial(_is_whole, folder))
        results = dict(done)
        if len(done) < len(tasks):
            with open_runner(args) as run:
                missing = [task for task in tasks if task.key not in done]
                results |= run_all(run, replay_drive, args, missing, kept.keep, 'bags')
            work.clean()
        results = {name: results[name] for name in drives}
        failed = warn_of_failures(results)
        warn_of_notes(results, 'warnings', 'reasons')
        record, page = _merged(results, failed)
        write_results(args, work, record, page)
    return 1 if failed or record['failed_frames'] else 0


def output_of(folder: Path, name: str) -> Path:
    """Return the bag of detections of a recording."""
    return folder / f'{name}.mcap'


def _is_whole(folder: Path, name: str, result: dict[str, Any]) -> bool:
    path = output_of(folder, name)
    return path.is_file() and path.stat().st_size == result['bytes']


def replay_drive(
    args: argparse.Namespace, path: Path, out: Path, show: output.Show = output.no_progress
) -> dict[str, Any]:
    """
    Detect in the images of one bag and write the detections.

    Raises
    ------
    InputError
        The bag cannot be used, or the output cannot be written.

    """
    from yolov7_trt_ros.replay.bags.bag_reader import BagReader
    from yolov7_trt_ros.replay.bags.bag_writer import DetectionBagWriter
    from yolov7_trt_ros.replay.run import Following, replay_bag

    following = Following(track_arguments.track_options(args))
    reader = BagReader(path, topics=args.topics, max_pixels=args.max_pixels)
    options = arguments.detector_options(args, rectangular=not args.square)
    detector = look_arguments.kept_looking(args, options)
    settings = arguments.detect_settings(args, detector.spec.class_names)
    with (
        DetectionBagWriter(
            out, reader.topics, detector.spec.class_names, qos=reader.qos,
            with_images=args.with_images, overwrite=True, source=path,
        ) as writer,
        show(reader.path.name, reader.count) as advance,
    ):
        summary = replay_bag(
            reader, detector, settings, writer, following=following, progress=advance
        )
        if not summary.frames and summary.failed:
            raise InputError(f'no image of {path} could be used: {summary.reasons[0]}')
    return {
        'path': str(path), 'output': out.name, 'bytes': out.stat().st_size,
        'frames': summary.frames, 'failed': summary.failed, 'reasons': list(summary.reasons),
        'detections_per_class': summary.detections_per_class,
        'topics': writer.detections_topics, 'warnings': list(reader.warnings),
    }


def _merged(
    results: Mapping[str, dict[str, Any]], failed: Mapping[str, str]
) -> tuple[dict[str, Any], FleetPage]:
    """Return all results as a record and a page, bags with most failed frames first."""
    from yolov7_trt_ros.report.fleet_page import FleetPage

    whole = {name: each for name, each in results.items() if name not in failed}
    classes: collections.Counter[str] = collections.Counter()
    for each in whole.values():
        classes.update(each['detections_per_class'])
    frames = sum(each['frames'] for each in whole.values())
    lost = sum(each['failed'] for each in whole.values())
    order = sorted(whole, key=lambda name: (-whole[name]['failed'], name))
    record = {
        'verb': 'replay', 'frames': frames, 'failed_frames': lost,
        'detections_per_class': dict(sorted(classes.items(), key=_most_first)),
        'failed': dict(failed), 'worst': order[:10], 'drives': whole,
    }
    counts = ', '.join(f'{name} {count}' for name, count in record['detections_per_class'].items())
    page = FleetPage(
        'Detections of many bags', 'Bags with most unusable images first.',
        [('bags', f'{len(whole)} of {len(results)}'), ('frames', str(frames)),
         ('failed', f'{lost} images, {len(failed)} bags'),
         ('detections', f'{classes.total()}' + (f' ({counts})' if counts else ''))],
        ('bag', 'frames', 'failed', 'detections'),
        [(name, str(whole[name]['frames']), str(whole[name]['failed']),
          str(sum(whole[name]['detections_per_class'].values()))) for name in order],
        failed, ('bag', 'what could not be used'),
        [(name, reason) for name in order for reason in whole[name]['reasons']],
    )
    return record, page


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]
