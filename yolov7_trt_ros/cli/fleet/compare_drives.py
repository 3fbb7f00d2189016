"""`compare` over many drives: one task per pair of bags, one report, worst first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.bag_pair import BagPair, only_frames_note
from yolov7_trt_ros.cli.compare_pictures import find_holders, read_pictures
from yolov7_trt_ros.cli.fleet.drives import find_bags
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
    from yolov7_trt_ros.report.compare.result import FrameDifference
    from yolov7_trt_ros.report.fleet_page import FleetPage

_WORST = 10


def run_drives(args: argparse.Namespace) -> int:
    """Compare all pairs; the exit status is 1 if one exceeds a limit or has no result."""
    firsts, seconds = (
        find_bags(expand_home(path).absolute()) for path in (args.reference, args.new)
    )
    for name in sorted(set(seconds) - set(firsts)):
        output.warn(f'only B has {name}: not compared')
    folder = expand_home(args.output)
    pairs = {name: (firsts[name], seconds[name]) for name in firsts if name in seconds}
    with WorkFolder(folder, 'compare', settings_of(args, [])) as work:
        kept = KeptResults(work, pairs)
        results = kept.done()
        missing = [Task(name, pair) for name, pair in pairs.items() if name not in results]
        if missing:
            with open_runner(args) as run:
                results |= run_all(run, compare_drive, args, missing, kept.keep, 'drives')
        results |= {
            name: {'error': f'B has no bag of this name in {args.new}'}
            for name in set(firsts) - set(seconds)
        }
        results = {name: results[name] for name in firsts}
        failed = warn_of_failures(results)
        warn_of_notes(results, 'warnings', 'damaged', 'exceeded')
        record, page = _merged(args, pairs, results, failed)
        write_results(args, work, record, page)
    return 1 if failed or record['beyond'] else 0


def compare_drive(
    args: argparse.Namespace, reference: Path, new: Path, show: output.Show = output.no_progress
) -> dict[str, Any]:
    """
    Compare one pair of bags.

    Raises
    ------
    InputError
        One bag cannot be used, or they have no frame in common.

    """
    from yolov7_trt_ros.report.compare.detection_compare import RunComparison
    from yolov7_trt_ros.report.compare.limits import exceeded_limits
    from yolov7_trt_ros.report.compare.settings import CompareLimits, CompareSettings

    warnings: list[str] = []
    bags = BagPair(
        reference, new, args.topics, warn=lambda text: warnings.append(str(text)), show=show
    )
    comparison = RunComparison(CompareSettings(args.iou, args.score_threshold))
    bags.compare(comparison)
    names = tuple(bags.class_ids)
    result = comparison.result(names)
    limits = CompareLimits(args.max_drift, args.min_ap50, args.min_matched, args.min_frames)
    if not result.has_detections:
        warnings.append(only_frames_note(args.score_threshold))
    exceeded = [each.text for each in exceeded_limits(result, limits)]
    return {
        **result.as_record(), 'exceeded': exceeded, 'damaged': bags.damaged,
        'within_limits': not exceeded and not bags.damaged, 'warnings': warnings,
        'class_names': list(names), 'drawn': [_boxes(frame) for frame in result.worst],
    }


def _boxes(frame: FrameDifference) -> list[dict[str, Any]]:
    """Return the detections of a frame in A and in B, JSON-ready."""
    return [
        {name: getattr(each, name).tolist() for name in ('boxes_xyxy', 'scores', 'class_ids')}
        for each in (frame.reference, frame.found)
    ]


def _frame(record: dict[str, Any], boxes: Sequence[dict[str, Any]]) -> FrameDifference:
    """Return a frame from its record and its boxes."""
    import numpy as np

    from yolov7_trt_ros.core.detections import Detections
    from yolov7_trt_ros.report.compare.result import Difference, FrameDifference

    reference, found = (
        Detections(
            np.array(each['boxes_xyxy'], np.float32).reshape(-1, 4),
            np.array(each['scores'], np.float32), np.array(each['class_ids'], np.int32), (0, 0),
        ) for each in boxes
    )
    return FrameDifference(
        record['topic'], record['stamp_ns'],
        Difference(record['matched'], record['missed'], record['new']),
        record['largest_drift'], record['least_iou'], reference, found,
    )


def _merged(
    args: argparse.Namespace, pairs: Mapping[str, Sequence[Path]],
    results: Mapping[str, dict[str, Any]], failed: Mapping[str, str],
) -> tuple[dict[str, Any], FleetPage]:
    """Return all results as a record and a page, largest differences first."""
    from yolov7_trt_ros.report.compare.frame_drawing import STYLE
    from yolov7_trt_ros.report.compare.result import Difference
    from yolov7_trt_ros.report.fleet_page import FleetPage

    whole = {name: each for name, each in results.items() if name not in failed}
    order = sorted(whole, key=lambda name: _rank(name, whole[name]))
    total = sum((Difference(*(each['detections'][key] for key in ('matched', 'missed', 'new')))
                 for each in whole.values()), Difference())
    frames = sum(each['frames']['compared'] for each in whole.values())
    beyond = [name for name in order if not whole[name]['within_limits']]
    worst = sorted(
        ((name, _frame(record, boxes)) for name, each in whole.items()
         for record, boxes in zip(each['worst_frames'], each['drawn'], strict=True)),
        key=lambda pair: (*pair[1].rank, pair[0]),
    )[:_WORST]
    record = {
        'verb': 'compare', 'reference': str(args.reference), 'new': str(args.new),
        'frames': frames, 'detections': dataclasses.asdict(total), 'beyond': beyond,
        'failed': dict(failed),
        'worst_frames': [
            {'drive': name, 'topic': frame.topic, 'stamp_ns': frame.stamp_ns,
             **dataclasses.asdict(frame.difference)} for name, frame in worst
        ],
        'drives': {
            name: {key: value for key, value in each.items() if key != 'drawn'}
            for name, each in whole.items()
        },
    }
    rows = [(name, 'within' if whole[name]['within_limits'] else 'BEYOND',
             *_row(whole[name])) for name in order]
    page = FleetPage(
        f'{args.new} against {args.reference}',
        'Drives that exceed a limit first, then those with the smallest share matched.',
        [('drives', f'{len(whole)} of {len(results)}, {len(beyond)} beyond a limit'),
         ('frames', f'{frames} compared'),
         ('detections', f'{total.matched} matched, {total.missed} missed, {total.new} new '
          f'({100 * total.matched_share:.2f} % matched)')],
        ('drive', 'limits', 'frames', 'matched', 'missed', 'new', 'drift, p95', 'AP50'), rows,
        failed, drawn=_drawings(args, pairs, whole, worst), style=STYLE,
    )
    return record, page


def _rank(name: str, result: dict[str, Any]) -> tuple[Any, ...]:
    share = result['detections']['matched_share']
    return result['within_limits'], share, result['ap50'], name


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    found, drift = result['detections'], result['score_drift']
    return (str(result['frames']['compared']), str(found['matched']), str(found['missed']),
            str(found['new']), f'{drift["p95"]:.4f}' if drift else '-', f'{result["ap50"]:.4f}')


def _drawings(
    args: argparse.Namespace, pairs: Mapping[str, Sequence[Path]],
    results: Mapping[str, dict[str, Any]], worst: Sequence[tuple[str, FrameDifference]],
) -> list[str]:
    """Return the worst frames with the boxes of both runs over their pictures, as HTML."""
    from yolov7_trt_ros.report.compare.page import frame_section
    from yolov7_trt_ros.report.compare.settings import CompareSettings

    parts = []
    images = {} if args.images is None else find_bags(expand_home(args.images))
    for number, (name, frame) in enumerate(worst, 1):
        reference, new = pairs[name]
        try:
            holders = find_holders(argparse.Namespace(
                html=True, images=images.get(name), reference=reference, new=new))
        except InputError as exc:
            output.warn(exc)
            holders = []
        picture = read_pictures([frame], holders).found.get((frame.topic, frame.stamp_ns))
        parts.append(frame_section(
            f'{number}. {name}: ', frame, CompareSettings(args.iou, args.score_threshold),
            results[name]['class_names'], picture, f'picture-{number}',
        ))
    return parts
