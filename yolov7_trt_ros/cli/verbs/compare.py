"""
Compare the detections of two runs over one recording.

Frames with the same topic and stamp are compared. Detections of the same class that overlap by
--iou or more are matched, the best scores first. A detection with a score of --score-threshold or
more and without a match is missed (if in A) or new (if in B). AP50 uses the detections of A as
labels. Record both bags with a threshold below the one given here; otherwise a score that moves
across it counts as a lost detection.

With --drives A and B are folders of bags; bags of the same name are compared. DIR gets
drives.json and drives.html, and if interrupted, the same command continues.

The exit status is 0 within the limits, 1 if one is exceeded, 2 for wrong usage.

Examples
--------
  yolov7_trt replay drive.mcap -o new.mcap --score-threshold 0.1
  yolov7_trt compare reference.mcap new.mcap
  yolov7_trt compare reference/ new/ --max-drift 0.1 --min-ap50 0.9 --html page.html --json -
  yolov7_trt compare references/ replayed/ --drives -o compared/ --workers 8

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, interruption, output, output_paths
from yolov7_trt_ros.cli.bag_pair import BagPair, only_frames_note
from yolov7_trt_ros.cli.fleet.fleet_arguments import (
    add_fleet_arguments,
    check_fleet_arguments,
    uses_dask,
)
from yolov7_trt_ros.cli.fleet.result import PAGE_FILE
from yolov7_trt_ros.cli.work.output_file import OutputFiles
from yolov7_trt_ros.core.plain_text import listed, printable
from yolov7_trt_ros.core.units import in_seconds
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.report.compare.settings import CompareLimits, CompareSettings

if TYPE_CHECKING:
    from yolov7_trt_ros.report.compare.limits import Exceeded
    from yolov7_trt_ros.report.compare.page import CompareContext
    from yolov7_trt_ros.report.compare.result import ComparisonResult

DEFAULTS = dataclasses.asdict(CompareSettings()) | dataclasses.asdict(CompareLimits())
_SHOWN_CLASSES = 12
_SHOWN_LONE = 3
_SHOWN_BAGS = 3
_MANY = '--drives and --output DIR'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'reference', type=Path, metavar='A', help='reference: bag folder, .mcap or .db3 file'
    )
    parser.add_argument('new', type=Path, metavar='B', help='bag to compare with the reference')
    arguments.add_topics_argument(parser, 'topics of detections', 'X,Y')
    _add_number(parser, 'iou', 'IOU', 'minimum overlap of matched detections',
                limits='above 0, at most 1')
    _add_number(parser, 'score-threshold', 'S', 'minimum score of what must be matched', '-s')
    limits = parser.add_argument_group('limits')
    _add_number(limits, 'max-drift', 'D', 'maximum score change of 95 %% of matched detections')
    _add_number(limits, 'min-ap50', 'AP', 'minimum AP50 of B against A')
    _add_number(limits, 'min-matched', 'P', 'minimum share of matched in matched, missed and new')
    _add_number(limits, 'min-frames', 'P', "minimum share of A's frames that B must have")
    parser.add_argument(
        '--drives', action='store_true', help='compare bags of the same name in folders A and B'
    )
    parser.add_argument(
        '--output', '-o', type=Path, metavar='DIR', help='folder for the results of --drives'
    )
    add_fleet_arguments(parser)
    arguments.add_json_argument(parser)
    parser.add_argument(
        '--html', type=Path, metavar='FILE', help='write a page with the frames that differ most'
    )
    parser.add_argument(
        '--images', type=Path, metavar='BAG',
        help='bag with the images for the page (default: A or B, if they have them)',
    )


def _add_number(
    parser: argparse._ActionsContainer, name: str, metavar: str, meaning: str, *short: str,
    limits: str = '0..1',
) -> None:
    parser.add_argument(
        f'--{name}', *short, type=float, default=DEFAULTS[name.replace('-', '_')],
        metavar=metavar, help=f'{meaning}, {limits} (default: %(default)s)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if a limit is exceeded or a part could not be read."""
    check_fleet_arguments(args)
    if args.drives or args.output is not None or uses_dask(args):
        return _run_many(args)
    bags_given = [args.reference, args.new, args.images]
    if args.images is not None and args.html is None:
        raise SettingError('--images are for the page: give --html FILE too')
    _point_to_drives(args)
    output_paths.check_json(args.json, bags_given)
    output_paths.check_file('--html', args.html, 'HTML', bags_given)
    output_paths.check_apart({'--json': args.json, '--html': args.html})
    with interruption.explain(OutputFiles(args.json, args.html).describe):
        return _run(args)


def _point_to_drives(args: argparse.Namespace) -> None:
    """
    Point to `--drives` if A or B holds many recordings.

    Raises
    ------
    SettingError
        It is no bag, but a folder of bags.

    """
    from yolov7_trt_ros.replay.file_kinds import recordings_in

    for path in (args.reference, args.new):
        bags, files = recordings_in(expand_home(path))
        if bags:
            raise SettingError(
                f'{path} is not a bag, but a folder of bags ({listed(bags, _SHOWN_BAGS)}): give '
                f'two of the bags, or compare all with {_MANY}'
            )
        if files:
            output.warn(
                f'{path} has no metadata.yaml, and {listed(files, _SHOWN_BAGS)} are read as one '
                f'recording: to compare each with the file of its name, give {_MANY}'
            )


def _run_many(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.fleet.compare_drives import run_drives

    if not args.drives or args.output is None:
        raise SettingError('many drives are compared with --drives and --output DIR')
    if args.html is not None:
        raise SettingError(f'the page of many drives is {args.output}/{PAGE_FILE}: '
                           'leave --html out')
    output_paths.check_folder('--output', args.output)
    output_paths.check_json(args.json, made=[args.output])
    with interruption.explain(lambda: f'the same command continues with {args.output}'):
        return run_drives(args)


def _run(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.compare_pictures import find_holders, read_pictures
    from yolov7_trt_ros.report.compare.detection_compare import RunComparison
    from yolov7_trt_ros.report.compare.limits import exceeded_limits
    from yolov7_trt_ros.report.compare.page import CompareContext
    from yolov7_trt_ros.report.compare.settings import CompareLimits, CompareSettings

    settings = CompareSettings(args.iou, args.score_threshold)
    limits = CompareLimits(args.max_drift, args.min_ap50, args.min_matched, args.min_frames)
    holders = find_holders(args)
    bags = BagPair(expand_home(args.reference), expand_home(args.new), args.topics)
    comparison = RunComparison(settings)
    bags.compare(comparison)
    result = comparison.result(tuple(bags.class_ids))
    exceeded = exceeded_limits(result, limits)
    if not result.has_detections:
        output.warn(only_frames_note(settings.score_threshold))
    record = {
        'reference': str(args.reference), 'new': str(args.new), 'topics': list(bags.topics),
        'settings': dataclasses.asdict(settings), 'limits': dataclasses.asdict(limits),
        **result.as_record(), 'damaged': bags.damaged,
        'exceeded': [dataclasses.asdict(each) for each in exceeded],
        'within_limits': not exceeded and not bags.damaged,
        'versions': output.installed_versions(),
    }
    with output.report_last(_report(args, result, exceeded, bags.damaged), args.json):
        if args.json:
            output.write_json(args.json, record)
        if args.html:
            pictures = read_pictures(result.worst, holders)
            _write_page(args, result, CompareContext(
                str(args.reference), str(args.new), settings, limits, len(bags.damaged),
                tuple(bags.class_ids), pictures.found, pictures.error, record['versions'],
                output.now(),
            ))
    return 0 if record['within_limits'] else 1


# ---- report


def _report(
    args: argparse.Namespace,
    result: ComparisonResult,
    exceeded: Sequence[Exceeded],
    damaged: Sequence[str],
) -> str:
    from yolov7_trt_ros.report.compare.page import summary_rows

    rows = [('reference', str(args.reference)), ('compared', str(args.new)),
            *summary_rows(result)]
    parts = [output.format_table(rows)]
    if result.classes:
        parts.append('\n'.join(_class_lines(result)))
    if lines := _frame_lines(result):
        parts.append('\n'.join(['frames to look at', *lines]))
    verdict = [f'beyond the limit: {each.text}' for each in exceeded]
    if damaged:
        verdict.append(f'{len(damaged)} parts or messages could not be read')
    parts.append('\n'.join(verdict) or 'within the limits')
    return '\n\n'.join(parts)


def _class_lines(result: ComparisonResult) -> list[str]:
    """Return the classes as lines, those with most detections in the reference first."""
    shown = sorted(result.classes, key=lambda each: (-each.reference, each.name))
    width = max(len('class'), *(len(each.name) for each in shown[:_SHOWN_CLASSES]))
    lines = [f'{"class":<{width}}     A  matched  missed   new  drift    AP50']
    for each in shown[:_SHOWN_CLASSES]:
        ap50 = '     -' if each.ap50 is None else f'{each.ap50:.4f}'
        counts = each.difference
        lines.append(
            f'{printable(each.name):<{width}} {each.reference:5d}  {counts.matched:7d}  '
            f'{counts.missed:6d} {counts.new:5d}  {each.mean_drift:.4f}  {ap50}'
        )
    if len(shown) > _SHOWN_CLASSES:
        lines.append(f'and {len(shown) - _SHOWN_CLASSES} more classes')
    return lines


def _frame_lines(result: ComparisonResult) -> list[str]:
    """Return the frames that only one bag has, the first of them, and those that differ most."""
    frames = result.frames
    lines = [
        f'{printable(topic)}  {in_seconds(stamp_ns)}  only in {bag}'
        for bag, lone in (('A', frames.only_in_reference), ('B', frames.only_in_new))
        for topic, stamp_ns in lone.first[:_SHOWN_LONE]
    ]
    for each in result.worst:
        counts = each.difference
        lines.append(
            f'{printable(each.topic)}  {in_seconds(each.stamp_ns)}  missed {counts.missed}, '
            f'new {counts.new}, drift up to {each.largest_drift:.4f}, '
            f'IoU down to {each.least_iou:.4f}'
        )
    return lines


def _write_page(
    args: argparse.Namespace, result: ComparisonResult, context: CompareContext
) -> None:
    from yolov7_trt_ros.atomic_file import atomic_write
    from yolov7_trt_ros.report.compare.page import as_html

    page = as_html(result, context).encode(errors='backslashreplace')
    atomic_write(expand_home(args.html), page)
