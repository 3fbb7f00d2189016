"""Report of `label`: lines, JSON, and for many recordings a page."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import output

if TYPE_CHECKING:
    from yolov7_trt_ros.report.accuracy.label_set import LabelledFrame
    from yolov7_trt_ros.report.fleet_page import FleetPage

_SHOWN_CLASSES = 12
_WORST = 20


def reasons(record: Mapping[str, Any]) -> list[str]:
    """Return the errors of a recording."""
    return [record['error']] if 'error' in record else list(record['failed'])


def label_record(
    args: argparse.Namespace, index: str, frames: Sequence[LabelledFrame], written: int,
    looked: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return the result as JSON-ready values; the same for the same recordings and settings."""
    names = next(record['classes'] for record in looked.values() if 'classes' in record)
    labels = collections.Counter(names[box.class_id] for frame in frames for box in frame.boxes)
    of_drive = collections.Counter(frame.drive for frame in frames)
    hard = collections.Counter(frame.drive for frame in frames if _lost(frame))
    return {
        'verb': 'label', 'format': args.format, 'index': index, 'pictures': written,
        'labels': dict(sorted(labels.items(), key=lambda each: (-each[1], each[0]))),
        'hard_frames': hard.total() if args.second_model else None,
        'drives': {
            name: {
                'path': str(path), 'frames': of_drive[name], 'failed': reasons(looked[name]),
                'hard_frames': hard[name] if args.second_model else None,
            } for name, path in zip(looked, args.paths, strict=True)
        },
    }


def print_report(args: argparse.Namespace, index: Path, record: dict[str, Any]) -> None:
    """Print the report, and write `--json`."""
    labels = list(record['labels'].items())
    shown = ', '.join(f'{name} {count}' for name, count in labels[:_SHOWN_CLASSES])
    lost = sum(len(each['failed']) for each in record['drives'].values())
    rows = [
        ('data set', str(index)), ('pictures', str(record['pictures'])), ('failed', str(lost)),
        ('labels', f'{sum(record["labels"].values())}' + (f' ({shown})' if shown else '')),
    ]
    if args.second_model:
        rows.append(('hard frames', f'{record["hard_frames"]}, on which a model misses what the '
                     'other finds'))
    with output.report_last(output.format_table(rows), args.json):
        if args.json:
            output.write_json(args.json, {
                'output': str(args.output), **record, 'versions': output.installed_versions(),
            })


def label_page(
    args: argparse.Namespace, record: dict[str, Any], frames: Sequence[LabelledFrame]
) -> FleetPage:
    """Return the page over many recordings, those with most hard frames first."""
    from yolov7_trt_ros.report.fleet_page import FleetPage

    drives = record['drives']
    order = sorted(drives, key=lambda name: (
        -(drives[name]['hard_frames'] or 0), -len(drives[name]['failed']), name))
    return FleetPage(
        'Labels of many recordings',
        'Recordings with most hard frames first, then those with most that failed.',
        [('pictures', str(record['pictures'])),
         ('labels', str(sum(record['labels'].values()))),
         ('hard frames', _number(record['hard_frames']))],
        ('recording', 'frames', 'hard', 'failed'),
        [(name, str(drives[name]['frames']), _number(drives[name]['hard_frames']),
          str(len(drives[name]['failed']))) for name in order],
        {name: each['failed'][0] for name, each in drives.items() if not each['frames']
         and each['failed']},
        ('frame', 'missed', 'new', 'drift'),
        [(frame.stem, str(frame.doubt.missed), str(frame.doubt.new), f'{frame.doubt.drift:.4f}')
         for frame in frames[:_WORST] if frame.doubt],
    )


def _lost(frame: LabelledFrame) -> bool:
    return frame.doubt is not None and frame.doubt.missed + frame.doubt.new > 0


def _number(value: int | None) -> str:
    return '-' if value is None else str(value)
