"""
Make a labelled data set from recordings.

It is meant to be corrected by a person, then used for training. Pictures and labels lie side by
side: --format coco writes images/ and annotations/instances_default.json, --format yolo writes
images/train, labels/train and data.yaml. With --second-model, the frames on which the two models
agree least come first, in the COCO file and in hardest_first.txt.

If interrupted, the same command continues. A folder that it did not make is refused, and label
files that were edited are not replaced. Inputs that cannot be read are reported and skipped; the
exit status is then 1.

Examples
--------
  yolov7_trt label drive.mcap -o labels --format coco --every 10
  yolov7_trt label day1/*.mcap clip.mp4 -o labels --format yolo --class-map 'car=car,bus=car,*='
  yolov7_trt label drive.mcap -o labels --format coco --second-model yolov7.onnx --most 200
  yolov7_trt label drives/*.mcap -o labels --format coco --every 30 --workers 8

"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, interruption, look_arguments, output, output_paths
from yolov7_trt_ros.cli.effects import source_effects
from yolov7_trt_ros.cli.fleet import label_report
from yolov7_trt_ros.cli.fleet.fleet_arguments import (
    add_fleet_arguments,
    check_fleet_arguments,
    uses_dask,
)
from yolov7_trt_ros.cli.fleet.result import write_files
from yolov7_trt_ros.cli.fleet.runner import open_runner, run_all
from yolov7_trt_ros.cli.fleet.tasks import failures, Runner, Task
from yolov7_trt_ros.errors import InputError, ModelFormatError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.cli.fleet.label_folder import LabelFolder
    from yolov7_trt_ros.cli.work.work_folder import WorkFolder
    from yolov7_trt_ros.report.accuracy.label_set import LabelledFrame

FORMATS = ('coco', 'yolo')
_LARGEST_MAP_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'paths', nargs='+', metavar='PATH', help='bag, video, picture or folder of pictures'
    )
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='DATASET',
        help='folder of the data set: new, empty, or one to continue',
    )
    parser.add_argument(
        '--format', required=True, choices=FORMATS, help='format of the labels',
    )
    parser.add_argument(
        '--class-map', default='', metavar='A=B,C=D',
        help='class names in the data set, or a file with one A=B per line; several classes may '
        "get one name, 'A=' removes a class, '*=' all classes not named",
    )
    parser.add_argument(
        '--second-model', default='', metavar='M',
        help='model to find hard frames with: frames on which it disagrees come first',
    )
    parser.add_argument(
        '--most', type=int, metavar='N', help='write only the first N frames (default: all)'
    )
    arguments.add_source_arguments(parser, every='use every N-th frame')
    arguments.add_max_pixels_argument(parser)
    arguments.add_detect_arguments(parser)
    look_arguments.add_look_arguments(parser)
    add_fleet_arguments(parser)
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if a recording or frame could not be used."""
    from yolov7_trt_ros.cli.fleet.drives import name_drives
    from yolov7_trt_ros.cli.work.work_folder import WorkFolder
    from yolov7_trt_ros.cli.work.work_settings import settings_of
    from yolov7_trt_ros.replay.file_kinds import local_path

    arguments.check_at_least('--every', args.every)
    arguments.check_at_least('--most', args.most)
    check_fleet_arguments(args)
    look_arguments.check_effect(args)
    source_effects.check_source_arguments(args, args.paths, every_picture=False)
    paths = [local_path(path).absolute() for path in args.paths]
    args.class_map = _class_map(args.class_map)
    folder = expand_home(args.output).absolute()
    output_paths.check_folder('--output', folder)
    output_paths.check_json(args.json, paths, made=[folder])
    work = WorkFolder(folder, 'label', settings_of(args, paths))
    with interruption.explain(lambda: f'the same command continues with {folder}'), work:
        return _run(args, name_drives(paths), work)


def _class_map(text: str) -> dict[str, str]:
    """Return the renames of `--class-map`, which may be in a file."""
    from yolov7_trt_ros.plain_file import read_plain_file
    from yolov7_trt_ros.report.accuracy.class_renames import parse_renames

    path = expand_home(text) if text and '=' not in text else None
    if path is None:
        return parse_renames(text)
    try:
        return parse_renames(read_plain_file(path, _LARGEST_MAP_BYTES).decode('utf-8-sig'))
    except (OSError, ValueError, ModelFormatError) as exc:
        raise SettingError(f'--class-map {path} cannot be read: {exc}') from exc


def _run(args: argparse.Namespace, drives: Mapping[str, Path], work: WorkFolder) -> int:
    from yolov7_trt_ros.cli.fleet.label_folder import LabelFolder
    from yolov7_trt_ros.records import from_record
    from yolov7_trt_ros.report.accuracy.label_set import hardest_first, LabelledFrame

    files = LabelFolder(work, args.format)
    with open_runner(args) as run:
        looked = _look(args, drives, work, run)
        for record in looked.values():
            for text in (*record.get('warnings', ()), *label_report.reasons(record)):
                output.warn(text)
        usable = [record for record in looked.values() if 'error' not in record]
        if not usable:
            raise InputError(f'nothing to label: {next(iter(looked.values()))["error"]}')
        frames = hardest_first([
            from_record(LabelledFrame, each, 'a frame')
            for record in usable for each in record['frames']
        ])[:args.most]
        files.begin(frames, usable[0]['classes'], _info(args, usable[0]['backend']))
        facts = {name: record['facts'] for name, record in looked.items()}
        written = _write_pictures(args, drives, facts, frames, work, files, run)
    index = files.index.relative_to(work.path).as_posix()
    result = label_report.label_record(args, index, frames, written, looked)
    label_report.print_report(args, files.index, result)
    if uses_dask(args) or len(drives) > 1:
        write_files(work, result, label_report.label_page(args, result, frames))
    return 1 if any(each['failed'] for each in result['drives'].values()) else 0


def _look(
    args: argparse.Namespace, drives: Mapping[str, Path], work: WorkFolder, run: Runner
) -> dict[str, dict[str, Any]]:
    """Return the detections of each recording, from this run or an earlier one."""
    from yolov7_trt_ros.cli.fleet.label_tasks import look_at
    from yolov7_trt_ros.cli.work.work_folder import source_facts

    facts = {name: source_facts(path, work.path) for name, path in drives.items()}
    looked: dict[str, dict[str, Any]] = {}
    for name, path in drives.items():
        record = work.done(name)
        if record is not None:
            _check_unchanged(path, record['facts'], work)
            looked[name] = record

    # a second look depends on the frames before it: all or nothing of a recording is kept
    def journal(name: str) -> Path | None:
        return None if args.second_look != 'off' else work.state_file(
            f'{name} {facts[name]}', '.jsonl')

    def keep(name: str, record: dict[str, Any]) -> None:
        if source_facts(drives[name], work.path) != facts[name]:
            changed.append(name)
            return
        work.keep(name, record | {'facts': facts[name]})
        if (path := journal(name)) is not None:
            path.unlink()

    missing = [
        Task(name, (name, path, journal(name)))
        for name, path in drives.items() if name not in looked
    ]
    changed: list[str] = []
    looked |= run_all(run, look_at, args, missing, keep)
    looked |= {
        name: {'error': f'{drives[name]} was written to while it was read'}
        for name in changed
    }
    return {name: looked[name] | {'facts': facts[name]} for name in drives}


def _write_pictures(
    args: argparse.Namespace, drives: Mapping[str, Path], facts: Mapping[str, str],
    frames: list[LabelledFrame], work: WorkFolder, files: LabelFolder, run: Runner,
) -> int:
    """Write the missing pictures, then the index of all that exist, even if some failed."""
    from yolov7_trt_ros.cli.fleet.label_tasks import frame_key, stem_in, write_frames
    from yolov7_trt_ros.report.accuracy.label_set import yolo_text

    wanted: dict[str, dict[str, tuple[str, str]]] = collections.defaultdict(dict)
    for frame in frames:
        key = frame_key(frame.source, frame.index)
        wanted[frame.drive][key] = stem_in(args.format, frame), yolo_text(frame)
    tasks = [
        Task(name, (drives[name], work.path, of_drive)) for name, of_drive in wanted.items()
    ]
    for name in wanted:
        _check_unchanged(drives[name], facts[name], work)
    results = run_all(
        run, write_frames, args, tasks, lambda name, result: None, 'recordings written')
    for name in wanted:
        _check_unchanged(drives[name], facts[name], work)
    work.clean()
    written = files.finish()
    if problems := list(failures(results).values()):
        more = f', and {len(problems) - 1} more recordings' if len(problems) > 1 else ''
        raise InputError(
            f'{problems[0]}{more}; {written} of {len(frames)} pictures are in {work.path}, which '
            'can be used as it is. The same command continues'
        )
    return written


def _check_unchanged(path: Path, facts: str, work: WorkFolder) -> None:
    from yolov7_trt_ros.cli.work.work_folder import source_facts

    if source_facts(path, work.path) != facts:
        raise InputError(
            f'{path} has changed since {work.path} was started: choose another folder'
        )


def _info(args: argparse.Namespace, backend: str) -> dict[str, Any]:
    """Return how the COCO file was made: nothing that changes from run to run."""
    return {
        'description': 'made by yolov7_trt label, not checked by a person',
        'model': args.model, 'second_model': args.second_model, 'backend': backend,
        'score_threshold': args.score_threshold, 'every': args.every,
    }
