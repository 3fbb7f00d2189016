"""
Measure a model's average precision on labelled pictures.

Labels are in the COCO format, and AP is measured as COCO defines it: score threshold 0.001,
several classes per box, NMS at IoU 0.65, at most 300 detections per image, computed by
pycocotools. The letterbox is a square unless --rectangular is given. --html shows precision over
recall and a confusion matrix.

With --output DIR each folder of the pictures is a drive: DIR gets drives.json and drives.html,
and if interrupted, the same command continues.

Examples
--------
  yolov7_trt eval --images val2017 --annotations instances_val2017.json --json result.json
  yolov7_trt eval -m yolov7.onnx --images val2017 --annotations part.json --html eval.html
  yolov7_trt eval --images labels/images --annotations drives.json -o evaluated/ --workers 8

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import time
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import (
    arguments,
    engine_arguments,
    interruption,
    labels,
    look_arguments,
    output,
    output_paths,
)
from yolov7_trt_ros.cli.fleet.fleet_arguments import (
    add_fleet_arguments,
    check_fleet_arguments,
    uses_dask,
)
from yolov7_trt_ros.cli.fleet.result import PAGE_FILE
from yolov7_trt_ros.cli.work.output_file import OutputFiles
from yolov7_trt_ros.cli.work.work_settings import model_sha256
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Answer
    from yolov7_trt_ros.replay.run import RunCounter, RunSummary
    from yolov7_trt_ros.report.accuracy.eval_page import Evaluation
    from yolov7_trt_ros.report.accuracy.labels import CocoImage

_SHOWN_CLASSES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        '--images', required=True, type=Path, metavar='DIR', help='folder of the images'
    )
    parser.add_argument(
        '--annotations', required=True, type=Path, metavar='FILE',
        help='labels in COCO instances format',
    )
    arguments.add_allow_missing_argument(parser)
    parser.add_argument(
        '--rectangular', action='store_true',
        help='letterbox to the smallest rectangle that the model accepts, like the node',
    )
    parser.add_argument(
        '--output', '-o', type=Path, metavar='DIR',
        help='also measure each folder of the pictures by itself; results go to DIR',
    )
    add_fleet_arguments(parser)
    arguments.add_json_argument(parser)
    parser.add_argument(
        '--html', type=Path, metavar='FILE',
        help='write a page: precision over recall, confusion matrix, all classes',
    )
    arguments.add_model_arguments(parser)
    look_arguments.add_look_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if an image could not be used."""
    check_fleet_arguments(args)
    look_arguments.check_effect(args)
    if args.output is not None or uses_dask(args):
        return _run_many(args)
    output_paths.check_json(args.json, [args.annotations])
    output_paths.check_file('--html', args.html, 'HTML', [args.annotations])
    output_paths.check_apart({'--json': args.json, '--html': args.html})
    with interruption.explain(OutputFiles(args.html, args.json).describe):
        return _run(args)


def _run_many(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.fleet.eval_drives import run_drives

    if args.output is None:
        raise SettingError('--workers and --dask need a folder for the results: --output DIR')
    if args.html is not None:
        raise SettingError(f'the page of many drives is {args.output}/{PAGE_FILE}: '
                           'leave --html out')
    output_paths.check_folder('--output', args.output)
    output_paths.check_json(args.json, [args.annotations], made=[args.output])
    with interruption.explain(lambda: f'the same command continues with {args.output}'):
        return run_drives(args)


def _run(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.replay.run import RunCounter
    from yolov7_trt_ros.replay.sources import check_kind
    from yolov7_trt_ros.report.accuracy import average_precision as accuracy
    from yolov7_trt_ros.report.accuracy.coco import class_precisions, precision_record
    from yolov7_trt_ros.report.accuracy.confusion import count_confusions
    from yolov7_trt_ros.report.accuracy.eval_page import Evaluation

    annotations = labels.open_annotations(args.annotations)
    folder = expand_home(args.images)
    try:
        images = labels.find_labelled(annotations, folder, allow_missing=args.allow_missing)
    except InputError:
        check_kind(folder, 'pictures', 'eval')  # a bag or a video gets its own message
        raise
    pictures = labels.labelled_pictures(annotations)
    options = arguments.detector_options(args, rectangular=args.rectangular)
    settings = accuracy.accuracy_settings()
    detector = look_arguments.open_looking(args, options)
    try:
        categories = labels.labelled_categories(annotations, detector.spec.class_names)
        if own_nms := accuracy.own_nms_note(detector.spec):
            output.warn(own_nms)
        counter = RunCounter(detector.spec.class_names)
        by_engine: dict[str, str] = {}

        def found(image: CocoImage, answer: Answer) -> None:
            counter.add(answer.found, answer.timings)
            if answer.engine:
                by_engine[image.file_name] = answer.engine

        start = time.perf_counter()
        with output.progress_bar('images', len(images)) as advance:
            records = accuracy.detect_labelled(
                images, folder, detector, settings, categories,
                pictures=pictures, found=found, failed=_warned(counter), advance=advance,
            )
        wall_s = time.perf_counter() - start
    finally:
        detector.close()
    labels.warn_of_notes(pictures)
    classes = class_precisions(records, annotations, images, categories)
    result = precision_record(classes) | {'categories_left_out': list(categories.left_out)}
    summary = counter.summary()
    report = _report(
        result, len(images), summary, wall_s, engine_arguments.engine_rows(detector)
    )
    with output.report_last(report, args.json):
        if args.html:
            confusions = count_confusions(records, annotations, images, categories)
            notes = [own_nms, accuracy.few_images_note(len(images)), *annotations.warnings,
                     *categories.warnings(), *pictures.notes()]
            _write_page(args, Evaluation(
                f'{Path(options.model).name} on {args.annotations.name}', tuple(classes),
                confusions,
                tuple(_page_rows(args, detector.backend, result, summary)),
                tuple(note for note in notes if note), output.installed_versions(), output.now(),
            ))
        if args.json:
            run_record = output.run_record(options, detector.backend, settings, summary)
            del run_record['detections_per_class']
            run_record['model']['sha256'] = model_sha256(options.model)
            run_record |= look_arguments.look_record(args, options, detector)
            if by_engine:
                run_record['engine_of'] = by_engine
            output.write_json(args.json, {**result, 'images': len(images), **run_record})
    return 1 if summary.failed else 0


def _warned(counter: RunCounter) -> Callable[[Exception], None]:
    def failed(reason: Exception) -> None:
        output.warn(reason)
        counter.fail(reason)

    return failed


def _report(
    result: dict[str, Any], images: int, summary: Any, wall_s: float,
    engines: list[tuple[str, str]],
) -> str:
    rows = [
        ('AP', f'{result["ap"]:.3f} (IoU 0.50:0.95)'),
        ('AP50', f'{result["ap50"]:.3f}'),
        ('images', str(images)),
    ]
    rows += [row for row in output.summary_rows(summary, wall_s) if row[0] != 'detections']
    rows += engines
    by_count = sorted(result['per_class'].items(), key=lambda item: -item[1]['instances'])
    rows += [
        (f'AP50 {name}', f'{values["ap50"]:.3f} ({values["instances"]} labelled)')
        for name, values in by_count[:_SHOWN_CLASSES]
    ]
    return output.format_table(rows)


def _write_page(args: argparse.Namespace, found: Evaluation) -> None:
    from yolov7_trt_ros.atomic_file import atomic_write
    from yolov7_trt_ros.report.accuracy.eval_page import as_html

    page = as_html(found).encode(errors='backslashreplace')
    atomic_write(expand_home(args.html), page)


def _page_rows(
    args: argparse.Namespace, backend: str, result: dict[str, Any], summary: RunSummary
) -> list[tuple[str, str]]:
    from yolov7_trt_ros.report.accuracy import average_precision as accuracy

    return [
        ('AP50', f'{result["ap50"]:.4f}'),
        ('AP', f'{result["ap"]:.4f} (mean over IoU 0.50 to 0.95)'),
        ('images', f'{summary.frames} of {args.images}'
         + (f', and {summary.failed} that could not be used' if summary.failed else '')),
        ('labels', str(args.annotations)),
        ('model', f'{args.model}, {backend}'),
        ('network input', f'{"rectangle" if args.rectangular else "square"} of side {args.size}, '
         'where the model leaves it open'),
        ('counted', f'scores of {accuracy.SCORE_THRESHOLD:g} or more, NMS at IoU '
         f'{accuracy.IOU_THRESHOLD:g}, at most {accuracy.MAX_DETECTIONS} detections an image'),
    ]
