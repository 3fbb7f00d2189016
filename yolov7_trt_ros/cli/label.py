"""
Make a labelled data set of recordings, to be corrected and to train with.

Pictures lie beside the labels: --format coco writes images/ and
annotations/instances_default.json, --format yolo writes images/train, labels/train and data.yaml.
With --second-model the frames on which the two models agree least come first, in the COCO file and
in hardest_first.txt.

The same command goes on where it was interrupted. A folder that is not its own is refused, and
label files that somebody has changed are not replaced. What cannot be read is reported and passed
over; the exit status is then 1.

Examples
--------
  yolov7_trt label drive.mcap -o labels --format coco --every 10
  yolov7_trt label day1/*.mcap clip.mp4 -o labels --format yolo --class-map 'car=car,bus=car,*='
  yolov7_trt label drive.mcap -o labels --format coco --second-model yolov7.onnx --most 200

"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, interruption, look_arguments, output, targets
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.errors import InputError, ModelFormatError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.cli.label_folder import LabelFolder
    from yolov7_trt_ros.cli.work_folder import WorkFolder
    from yolov7_trt_ros.report.label_set import LabelledFrame

FORMATS = ('coco', 'yolo')  # a test compares them with what the writer knows
_LARGEST_MAP_BYTES = 1 << 20
_SHOWN_CLASSES = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'paths', nargs='+', metavar='PATH', help='bag, video, picture or folder of pictures'
    )
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='DATASET',
        help='folder of the data set: a new or empty one, or one to go on with',
    )
    parser.add_argument(
        '--format', required=True, choices=FORMATS, help='of the labels',
    )
    parser.add_argument(
        '--class-map', default='', metavar='A=B,C=D',
        help='what classes are called in the data set, or a file with one A=B a line; several may '
        "become one, 'A=' leaves one out, '*=' all that are not named",
    )
    parser.add_argument(
        '--second-model', default='', metavar='M',
        help='model to find hard frames with: those on which it disagrees come first',
    )
    parser.add_argument(
        '--most', type=int, metavar='N', help='write the first N frames alone (default: all)'
    )
    parser.add_argument('--every', type=int, default=1, metavar='N', help='take each N-th frame')
    parser.add_argument(
        '--topics', type=split_names, default=[], metavar='A,B',
        help='image topics of bags (default: all)',
    )
    parser.add_argument(
        '--recursive', '-r', action='store_true', help='enter the folders in folders too'
    )
    arguments.add_max_pixels_argument(parser)
    arguments.add_detect_arguments(parser)
    look_arguments.add_look_arguments(parser)
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 when a recording or frame could not be used."""
    from yolov7_trt_ros.cli import open_detectors
    from yolov7_trt_ros.cli.drives import name_drives
    from yolov7_trt_ros.cli.work_folder import WorkFolder
    from yolov7_trt_ros.cli.work_settings import settings_of
    from yolov7_trt_ros.replay.file_kinds import local_path

    for name, value in (('every', args.every), ('most', args.most)):
        if value is not None and value < 1:
            raise SettingError(f'--{name} must be at least 1, got {value}')
    paths = [local_path(path) for path in args.paths]
    args.class_map = _class_map(args.class_map)
    folder = expand_home(args.output)
    targets.check_folder('--output', folder)
    targets.check_json(args.json, paths, made=[folder])
    work = WorkFolder(folder, 'label', settings_of(args, paths))
    try:
        with interruption.told(lambda: f'the same command goes on with {folder}'), work:
            return _run(args, name_drives(paths), work)
    finally:
        open_detectors.close_all()


def _class_map(text: str) -> dict[str, str]:
    """Return the renames of `--class-map`, be they in a file."""
    from yolov7_trt_ros.engine.plain_file import read_plain_file
    from yolov7_trt_ros.report.class_renames import parse_renames

    path = expand_home(text) if text and '=' not in text else None
    if path is None:
        return parse_renames(text)
    try:
        return parse_renames(read_plain_file(path, _LARGEST_MAP_BYTES).decode('utf-8-sig'))
    except (OSError, ValueError, ModelFormatError) as exc:
        raise SettingError(f'--class-map {path} cannot be read: {exc}') from exc


def _run(args: argparse.Namespace, drives: Mapping[str, Path], work: WorkFolder) -> int:
    from yolov7_trt_ros.cli.label_folder import LabelFolder
    from yolov7_trt_ros.report.label_set import hardest_first, LabelledFrame

    files = LabelFolder(work, args.format)
    looked = {name: _look(args, name, path, work) for name, path in drives.items()}
    usable = {name: record for name, record in looked.items() if 'error' not in record}
    for record in looked.values():
        for text in (*record.get('warnings', ()), *_reasons(record)):
            output.warn(text)
    if not usable:
        raise InputError(f'nothing to label: {next(iter(looked.values()))["error"]}')
    frames = hardest_first([
        LabelledFrame.of_record(each) for record in usable.values() for each in record['frames']
    ])[:args.most]
    first = next(iter(usable.values()))
    files.begin(frames, first['classes'], _info(args, first['backend']))
    facts = {name: record['facts'] for name, record in usable.items()}
    _write_pictures(args, drives, facts, frames, work, files)
    written = files.finish()
    failed = {name: _reasons(record) for name, record in looked.items()}
    _tell(args, files, frames, written, looked, failed)
    return 1 if any(failed.values()) else 0


def _look(
    args: argparse.Namespace, name: str, path: Path, work: WorkFolder
) -> dict[str, Any]:
    """Return what was found in a recording, now or in an earlier run."""
    from yolov7_trt_ros.cli.label_tasks import look_at
    from yolov7_trt_ros.cli.work_folder import source_facts

    facts = source_facts(path, work.path)
    record = work.done(name)
    if record is None:
        # what is looked at twice depends on the frames before: all or nothing is kept of it
        journal = None if args.second_look != 'off' else work.state_file(
            f'{name} {facts}', '.jsonl')
        record = look_at(args, name, path, journal, output.progress_bar) | {'facts': facts}
        if 'error' not in record:
            if source_facts(path, work.path) != facts:
                return {'error': f'{path} was written to while it was looked at'}
            work.keep(name, record)
            if journal is not None:
                journal.unlink()
    else:
        _check_unchanged(path, record['facts'], work)
    return record


def _write_pictures(
    args: argparse.Namespace, drives: Mapping[str, Path], facts: Mapping[str, str],
    frames: list[LabelledFrame], work: WorkFolder, files: LabelFolder,
) -> None:
    """Write what is missing; where that fails, the index of what is there is written first."""
    from yolov7_trt_ros.cli.label_tasks import frame_key, stem_in, write_frames
    from yolov7_trt_ros.report.label_set import yolo_text

    wanted: dict[str, dict[str, tuple[str, str]]] = collections.defaultdict(dict)
    for frame in frames:
        key = frame_key(frame.source, frame.index)
        wanted[frame.drive][key] = stem_in(args.format, frame), yolo_text(frame)
    for name, of_drive in wanted.items():
        _check_unchanged(drives[name], facts[name], work)
        with output.progress_bar(f'pictures of {name}', len(of_drive)) as advance:
            problem = write_frames(args, drives[name], work.path, of_drive, advance)
        _check_unchanged(drives[name], facts[name], work)
        if problem:
            written = files.finish()
            raise InputError(
                f'{problem}; {written} of {len(frames)} pictures are in {work.path}, which can be '
                'used as it is. The same command goes on'
            )


def _check_unchanged(path: Path, facts: str, work: WorkFolder) -> None:
    from yolov7_trt_ros.cli.work_folder import source_facts

    if source_facts(path, work.path) != facts:
        raise InputError(
            f'{path} has changed since {work.path} was begun: choose another folder'
        )


def _info(args: argparse.Namespace, backend: str) -> dict[str, Any]:
    """Return what COCO's file tells of how it was made: nothing that changes from run to run."""
    return {
        'description': 'made by yolov7_trt label, not checked by a person',
        'model': args.model, 'second_model': args.second_model, 'backend': backend,
        'score_threshold': args.score_threshold, 'every': args.every,
    }


def _reasons(record: dict[str, Any]) -> list[str]:
    return [record['error']] if 'error' in record else list(record['failed'])


def _tell(
    args: argparse.Namespace, files: LabelFolder, frames: list[LabelledFrame], written: int,
    looked: Mapping[str, dict[str, Any]], failed: Mapping[str, list[str]],
) -> None:
    names = next(record['classes'] for record in looked.values() if 'classes' in record)
    counts = collections.Counter(names[box.class_id] for frame in frames for box in frame.boxes)
    doubted = [frame for frame in frames if frame.doubt and frame.doubt.missed + frame.doubt.new]
    rows = [
        ('data set', str(files.index)), ('pictures', str(written)),
        ('failed', str(sum(map(len, failed.values())))),
        ('labels', f'{counts.total()} (' + ', '.join(
            f'{name} {count}' for name, count in counts.most_common(_SHOWN_CLASSES)) + ')'),
    ]
    if args.second_model:
        rows.append(('hard frames', f'{len(doubted)}, on which a model misses what the other has'))
    output.say(output.format_table(rows), file=output.report_stream(args.json))
    if args.json:
        output.write_json(args.json, {
            'output': str(args.output), 'format': args.format, 'index': str(files.index),
            'pictures': written, 'labels': dict(counts.most_common()),
            'hard_frames': len(doubted) if args.second_model else None,
            'drives': {
                name: {
                    'path': str(path), 'failed': failed[name],
                    'frames': sum(frame.drive == name for frame in frames),
                } for name, path in zip(looked, args.paths, strict=True)
            },
            'versions': output.installed_versions(),
        })
