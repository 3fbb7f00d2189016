"""`eval` over many drives: one task per folder of the data set, one overall AP."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
import posixpath
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, labels, look_arguments, output
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
    from yolov7_trt_ros.core.detector import Answer
    from yolov7_trt_ros.report.accuracy.categories import Categories
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
    from yolov7_trt_ros.report.accuracy.labels import CocoImage
    from yolov7_trt_ros.report.fleet_page import FleetPage

Drives = Mapping[str, Sequence['CocoImage']]
_WORST = 20


def run_drives(args: argparse.Namespace) -> int:
    """Measure on all drives; the exit status is 1 if one, or a picture, could not be used."""
    pictures, folder = expand_home(args.images), expand_home(args.output)
    annotations = labels.open_annotations(args.annotations)
    images = labels.find_labelled(annotations, pictures, allow_missing=args.allow_missing)
    drives = group_by_drive(images)
    with WorkFolder(folder, 'eval', settings_of(args, [args.annotations])) as work:
        kept = KeptResults(work, {
            name: [args.annotations, *(pictures / each.file_name for each in of_drive)]
            for name, of_drive in drives.items()
        })
        results = kept.done()
        tasks = [
            Task(name, (name, [each.file_name for each in of_drive]))
            for name, of_drive in drives.items() if name not in results
        ]
        if tasks:
            with open_runner(args) as run:
                results |= run_all(run, detect_drive, args, tasks, kept.keep, 'drives')
        results = {name: results[name] for name in drives}
        failed = warn_of_failures(results)
        warn_of_notes(results, 'failed', 'notes')
        record, page = _merged(args, annotations, drives, results, failed)
        write_results(args, work, record, page)
    return 1 if failed or record['failed_frames'] else 0


def group_by_drive(images: Sequence[CocoImage]) -> dict[str, list[CocoImage]]:
    """Return images by their folder in the annotation file, one per drive of `label`."""
    drives: dict[str, list[CocoImage]] = {}
    for image in images:
        drives.setdefault(posixpath.dirname(image.file_name) or '.', []).append(image)
    return drives


@lru_cache(maxsize=1)
def _annotations(path: Path, _changed_ns: int) -> CocoAnnotations:
    """Return an annotation file, read once per worker."""
    return labels.open_annotations(path, lambda text: None)


def detect_drive(
    args: argparse.Namespace, name: str, files: Sequence[str],
    show: output.Show = output.no_progress,
) -> dict[str, Any]:
    """
    Detect in the labelled pictures of one drive.

    Returns
    -------
    Detections in COCO's result format, and errors.

    """
    from yolov7_trt_ros.report.accuracy import average_precision as accuracy

    path = expand_home(args.annotations)
    annotations = _annotations(path, path.stat().st_mtime_ns)
    wanted = set(files)
    images = [image for image in annotations.images if image.file_name in wanted]
    options = arguments.detector_options(args, rectangular=args.rectangular)
    detector = look_arguments.kept_looking(args, options)
    categories = annotations.categories_of(detector.spec.class_names)
    pictures = labels.labelled_pictures(annotations)
    failed: list[str] = []
    by_engine: dict[str, str] = {}

    def found(image: CocoImage, answer: Answer) -> None:
        if answer.engine:
            by_engine[image.file_name] = answer.engine

    with show(name, len(images)) as advance:
        records = accuracy.detect_labelled(
            images, expand_home(args.images), detector, accuracy.accuracy_settings(), categories,
            pictures=pictures, found=found, failed=lambda exc: failed.append(str(exc)),
            advance=advance, is_part=True,
        )
    return {
        'records': records, 'frames': len(images) - len(failed), 'failed': failed,
        'notes': list(pictures.notes()), 'classes': list(detector.spec.class_names),
        **({'engine_of': by_engine} if by_engine else {}),
        'own_nms': accuracy.own_nms_note(detector.spec),
    }


def _merged(
    args: argparse.Namespace, annotations: CocoAnnotations, drives: Drives,
    results: Mapping[str, dict[str, Any]], failed: Mapping[str, str],
) -> tuple[dict[str, Any], FleetPage]:
    """Return all results as a record and a page, drives with the lowest AP50 first."""
    from yolov7_trt_ros.report.accuracy.coco import evaluate_coco
    from yolov7_trt_ros.report.fleet_page import FleetPage

    whole = {name: each for name, each in results.items() if name not in failed}
    of_model = next(iter(whole.values()))
    if of_model.get('own_nms'):
        output.warn(of_model['own_nms'])
    categories = labels.labelled_categories(annotations, tuple(of_model['classes']))
    every = [image for name in whole for image in drives[name]]
    found = evaluate_coco(
        [each for result in whole.values() for each in result['records']], annotations, every,
        categories,
    )
    shown: dict[str, dict[str, Any]] = {
        name: {'frames': result['frames'], 'failed': result['failed'], **_precision(
            result['records'], annotations, drives[name], categories),
            **({'engine_of': result['engine_of']} if 'engine_of' in result else {})}
        for name, result in whole.items()
    }
    order = sorted(shown, key=lambda name: (
        shown[name]['ap50'] is None, shown[name]['ap50'] or 0.0, name))
    worst = _worst_pictures(whole, annotations, drives, categories)
    frames = sum(each['frames'] for each in whole.values())
    lost = sum(len(each['failed']) for each in whole.values())
    record = {
        'verb': 'eval', **found, 'categories_left_out': list(categories.left_out),
        'images': frames, 'failed_frames': lost, 'failed': dict(failed),
        'worst_frames': [{'file_name': name, 'mistakes': count} for name, count in worst],
        'drives': shown,
    }
    page = FleetPage(
        f'{Path(args.model).name} on the drives of {args.annotations.name}',
        'Drives with the lowest AP50 first.',
        [('AP50', f'{found["ap50"]:.4f}'), ('AP', f'{found["ap"]:.4f} (IoU 0.50:0.95)'),
         ('images', f'{frames}, and {lost} that could not be used'),
         ('drives', f'{len(whole)} of {len(results)}')],
        ('drive', 'images', 'failed', 'AP50', 'AP'),
        [(name, str(shown[name]['frames']), str(len(shown[name]['failed'])),
          *(_number(shown[name][key]) for key in ('ap50', 'ap'))) for name in order],
        failed, ('picture', 'objects missed, invented, or confused'),
        [(name, str(count)) for name, count in worst],
    )
    return record, page


def _precision(
    records: Sequence[dict[str, Any]], annotations: CocoAnnotations,
    images: Sequence[CocoImage], categories: Categories,
) -> dict[str, float | None]:
    """Return the average precision of one drive, None if it has no labels."""
    from yolov7_trt_ros.report.accuracy.coco import evaluate_coco

    try:
        found = evaluate_coco(records, annotations, images, categories)
    except InputError:
        return {'ap50': None, 'ap': None}
    return {'ap50': found['ap50'], 'ap': found['ap']}


def _worst_pictures(
    whole: Mapping[str, dict[str, Any]], annotations: CocoAnnotations, drives: Drives,
    categories: Categories,
) -> list[tuple[str, int]]:
    """Return the pictures with most mistakes, without unlabelled ones."""
    from yolov7_trt_ros.report.accuracy.confusion import count_confusions

    counted = []
    for name, result in whole.items():
        of_image: dict[int, list[dict[str, Any]]] = {}
        for each in result['records']:
            of_image.setdefault(each['image_id'], []).append(each)
        for image in drives[name]:
            if annotations.labels[image.image_id]:
                try:
                    confusions = count_confusions(
                        of_image.get(image.image_id, []), annotations, [image], categories)
                except InputError:  # labels of classes that the model lacks
                    continue
                mistakes = sum(
                    count for (truth, found), count in confusions.counts.items() if truth != found
                )
                counted.append((image.file_name, mistakes))
    worst = sorted((each for each in counted if each[1]), key=lambda each: (-each[1], each[0]))
    return worst[:_WORST]


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.4f}'
