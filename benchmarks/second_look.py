"""
One look or two: average precision and CPU time of both, on one thread of ONNX Runtime.

    python benchmarks/second_look.py pictures        # the 326 labelled pictures
    python benchmarks/second_look.py mosaics         # 2x2 of them: frames larger than the network
    python benchmarks/second_look.py mosaics --tiles # tiles of all of it; results/tiles.json
    python benchmarks/second_look.py video --video traffic.mp4
    python benchmarks/second_look.py widen --model yolov5n_640_grid.onnx -o free.onnx
    python benchmarks/second_look.py draw            # docs/images/second_look.png

Each picture goes through every way in turn, so that other load hits all alike; what counts is the
CPU time of the process, decoding of the picture apart. Average precision is pycocotools' with its
areas: small is below 32 x 32 pixels. A video has no labels: agreement is with a whole frame at
1280, by the measure of `compare`. A grid model of one size is widened to any without its decoding,
which is where the size is baked in. What is measured is added to results/second_look.json.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
import contextlib
import io
import json
from pathlib import Path
import re
import sys
import time
from typing import Any, NamedTuple

import cv2
from measured_on import measured_on, save
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from yolov7_trt_ros.atomic_file import atomic_write  # noqa: E402
from yolov7_trt_ros.bank.looks.look_trial import open_looks  # noqa: E402  (its folder was added)
from yolov7_trt_ros.bank.looks.second_look import SecondLook  # noqa: E402
from yolov7_trt_ros.bank.looks.tiled_look import SURE_SCORE, TiledLook  # noqa: E402
from yolov7_trt_ros.core.detections import Detections  # noqa: E402
from yolov7_trt_ros.core.detector import Detector, DetectSettings  # noqa: E402
from yolov7_trt_ros.core.image import ImageView  # noqa: E402
from yolov7_trt_ros.core.looks.crops import CropShape, cut, tile  # noqa: E402
from yolov7_trt_ros.core.looks.look_options import LookOptions  # noqa: E402
from yolov7_trt_ros.core.looks.merge_looks import Look, merge_looks  # noqa: E402
from yolov7_trt_ros.core.looks.tiles import read_tiles, TileOptions  # noqa: E402
from yolov7_trt_ros.core.units import NS_PER_MS  # noqa: E402
from yolov7_trt_ros.engine.looks import look_engines  # noqa: E402
from yolov7_trt_ros.engine.open import open_detector  # noqa: E402
from yolov7_trt_ros.engine.options import DetectorOptions  # noqa: E402
from yolov7_trt_ros.onnx_tools.model_file import load_model, serialise  # noqa: E402
from yolov7_trt_ros.onnx_tools.strip_decoding import strip_decoding  # noqa: E402
from yolov7_trt_ros.report.accuracy.average_precision import accuracy_settings  # noqa: E402
from yolov7_trt_ros.report.accuracy.coco import coco_records, CocoAnnotations  # noqa: E402
from yolov7_trt_ros.report.compare.detection_match import match_detections  # noqa: E402

VISION = REPOSITORY.parent / 'shared' / 'data' / 'vision'
RESULT = REPOSITORY / 'benchmarks' / 'results' / 'second_look.json'
TILES_RESULT = RESULT.with_name('tiles.json')
PICTURE = REPOSITORY / 'docs' / 'images' / 'second_look.png'
NANO = VISION / 'models' / 'yolox_nano_rows3_fp16w.onnx'
REFERENCE = 'whole frame, 640'
SQUARE = 'whole frame, 640 square'
_SURE, _MATCH_IOU = 0.25, 0.5


class Way(NamedTuple):
    """A way of looking: its name, how it is opened, and a way of its own to detect, if any."""

    name: str
    detector: Detector


class SwitchedByScene:
    """Whole frames at a small size, and at a large one too where small objects are in doubt."""

    def __init__(self, small: Detector, large: Detector, small_px: float = 32.0) -> None:
        self._small, self._large, self._small_px = small, large, small_px

    def detect(self, image: ImageView, settings: DetectSettings) -> Any:
        """Look once, or once more."""
        found, timings = self._small.detect(image, settings)
        sides = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).max(axis=1, initial=0)
        weight = (found.scores * (1 - found.scores))[sides < self._small_px].sum()
        return self._large.detect(image, settings) if weight > 0.5 else (found, timings)


class Tiled:
    """A whole frame at a small size, and all tiles of it."""

    def __init__(self, whole_frame: Detector, tiles: Detector, side_px: int) -> None:
        self._whole, self._tiles = whole_frame, tiles
        self._shape = CropShape(side_px, side_px // 16)

    def detect(self, image: ImageView, settings: DetectSettings) -> Any:
        """Look at all of it."""
        found, timings = self._whole.detect(image, settings)
        looks = [
            Look(crop, self._tiles.detect(cut(image, crop), settings)[0])
            for crop in tile(image.size_wh, self._shape)
        ]
        return merge_looks(found, looks, settings, LookOptions().max_score), timings


def whole(model: Path, size: int, *, square: bool = False) -> Detector:
    """Open a model for whole frames."""
    return open_detector(options_of(model, size, square=square))


def options_of(model: Path, size: int = 640, *, square: bool = False) -> DetectorOptions:
    """Return the options of one thread."""
    return DetectorOptions(
        model=str(model), backend='onnx', network_size=size, rectangular=not square, threads=1
    )


def twice(model: Path, *, crops: Path | None = None, **values: Any) -> Detector:
    """Open a model that looks twice."""
    look = LookOptions(mode='on', model=str(crops or ''), **values)
    engines = look_engines(options_of(model), look)
    return open_looks(
        look, once=lambda: open_detector(engines.once), first=lambda: open_detector(engines.first),
        second=lambda: open_detector(engines.second),
    )


def ways_for_pictures(model: Path, int8: Path | None) -> list[Way]:
    """Return what is compared on pictures no larger than the network input."""
    ways = [
        Way(SQUARE, whole(model, 640, square=True)),
        *(Way(f'whole frame, {size}', whole(model, size)) for size in (640, 480, 416, 320)),
        *(Way(f'416 + {most} crops', twice(model, max_crops=most)) for most in (1, 3)),
        Way('480 + 2 crops', twice(model, first_size=480, max_crops=2)),
        Way('320 or 640, by scene', SwitchedByScene(whole(model, 320), whole(model, 640))),
        Way('320 + all tiles of 320', Tiled(whole(model, 320), whole(model, 320), 320)),
    ]
    if int8 is not None:
        ways += [
            Way('whole frame, 416, INT8', whole(int8, 416)),
            Way('416 INT8 + 3 crops FP32', twice(int8, crops=model)),
        ]
    return ways


def ways_for_mosaics(model: Path, _: Path | None) -> list[Way]:
    """Return what is compared on larger frames."""
    return [
        Way(SQUARE, whole(model, 640, square=True)),
        *(Way(f'whole frame, {size}', whole(model, size)) for size in (1280, 640, 416, 320)),
        *(Way(f'{first} + {most} crops', twice(model, first_size=first, max_crops=most))
          for first, most in ((416, 3), (416, 6), (320, 6), (320, 10))),
        *(Way(f'{first} + {most} crops of 192 px', twice(
            model, first_size=first, crop_px=192, crop_size=192, object_px=96, max_crops=most
        )) for first, most in ((416, 3), (320, 6), (480, 4))),
        *(Way(f'{first} + {most} crops of 256 px', twice(
            model, first_size=first, crop_px=256, crop_size=256, object_px=192, max_crops=most
        )) for first, most in ((480, 3), (512, 2))),
        *(Way(f'480 + {most} crops of small objects, {worth:g}, {size}', twice(
            model, first_size=480, crop_px=192, crop_size=size, object_px=48, min_score=0.005,
            min_worth=worth, max_crops=most,
        )) for most, size, worth in ((4, 288, 0.1), (4, 320, 0.13), (4, 320, 0.15))),
    ]


class TilesAlone:
    """All tiles of a frame, without the frame as a whole."""

    def __init__(self, engine: Detector, tiles: TileOptions) -> None:
        self._engine, self._tiles = engine, tiles

    def detect(self, image: ImageView, settings: DetectSettings) -> Any:
        """Look at all of it."""
        looks = [
            Look(crop, self._engine.detect(cut(image, crop), settings)[0])
            for crop in self._tiles.place(image.size_wh)
        ]
        return merge_looks(Detections.empty(image.size_wh), looks, settings, SURE_SCORE), None


def ways_for_tiles(model: Path, _: Path | None) -> list[Way]:
    """Return what is compared on pictures of any size."""
    four = TileOptions(read_tiles('2x2'))
    return [
        *(Way(f'whole frame, {size}', whole(model, size)) for size in (1280, 640, 416)),
        *(Way(f'2x2 tiles of {size}', TiledLook(whole(model, size), four)) for size in (640, 416)),
        Way('2x2 tiles of 416 alone', TilesAlone(whole(model, 416), four)),
    ]


def ways_for_video(model: Path) -> list[Way]:
    """Return what is compared on a video."""
    return [
        *(Way(f'whole frame, {size}', whole(model, size)) for size in (1280, 640, 416)),
        *(Way(f'416 + {most} crops', twice(model, max_crops=most)) for most in (3, 6)),
    ]


def run(
    ways: list[Way], pictures: Iterator[tuple[int, ImageView]], settings: DetectSettings
) -> tuple[dict[str, dict[int, Detections]], dict[str, list[float]]]:
    """Return what each way has found in each picture, and the CPU milliseconds it took."""
    found: dict[str, dict[int, Detections]] = {way.name: {} for way in ways}
    took_ms: dict[str, list[float]] = {way.name: [] for way in ways}
    for number, (key, image) in enumerate(pictures):
        for place in range(len(ways)):
            way = ways[(number + place) % len(ways)]
            began = time.process_time_ns()
            detections, _ = way.detector.detect(image, settings)
            took_ms[way.name].append((time.process_time_ns() - began) / NS_PER_MS)
            found[way.name][key] = detections
        if number % 20 == 0:
            print(f'{number} pictures', file=sys.stderr, flush=True)
    return found, took_ms


def row_of(name: str, took_ms: dict[str, list[float]], reference: str) -> dict[str, Any]:
    """Return what a way costs: CPU time, and the median over pictures of what part that is."""
    mine, other = np.array(took_ms[name]), np.array(took_ms[reference])
    return {
        'way': name, 'cpu_ms': round(float(mine.mean()), 2),
        'cost': round(float(mine.sum() / other.sum()), 3),
        'cost_median': round(float(np.median(mine) / np.median(other)), 3),
    }


def precision(
    found: dict[int, Detections], truth: Any, annotations: CocoAnnotations, names: Any
) -> dict[str, float]:
    """Return pycocotools' average precision, with its areas."""
    from pycocotools.cocoeval import COCOeval

    categories = annotations.categories_of(names)
    records = [
        record for key, each in found.items() for record in coco_records(key, each, categories)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(records), 'bbox')
        evaluation.params.imgIds = sorted(found)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats
    return {
        name: round(float(stats[index]), 4)
        for name, index in (('ap', 0), ('ap50', 1), ('small', 3), ('medium', 4), ('large', 5))
    }


def labelled(kind: str, limit: int | None) -> tuple[Any, Callable[[], Iterator[Any]]]:
    """Return labels as pycocotools has them, and what gives the pictures."""
    from pycocotools.coco import COCO

    record = json.loads((VISION / 'val2017' / 'instances.json').read_text())
    files = {each['id']: VISION / 'val2017' / 'images' / each['file_name']
             for each in record['images']}
    groups = [[each] for each in record['images']]
    if kind == 'mosaics':
        groups = [record['images'][index:index + 4]
                  for index in range(0, len(record['images']) - 3, 4)]
    groups = groups[:limit]
    if kind == 'mosaics':
        record = mosaic_labels(record, groups)
    index = COCO()
    index.dataset = record
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()

    def pictures() -> Iterator[tuple[int, ImageView]]:
        for group in groups:
            parts = [cv2.imread(str(files[each['id']])) for each in group]
            pixels = parts[0] if len(parts) == 1 else mosaic(parts)
            yield group[0]['id'], ImageView.from_array(pixels)

    return index, pictures


def mosaic(parts: list[Any]) -> Any:
    """Return four pictures side by side, each in a quarter of 640 x 640 or 640 x 480."""
    width = max(part.shape[1] for part in parts)
    height = max(part.shape[0] for part in parts)
    canvas = np.full((2 * height, 2 * width, 3), 114, np.uint8)
    for number, part in enumerate(parts):
        top, left = number // 2 * height, number % 2 * width
        canvas[top:top + part.shape[0], left:left + part.shape[1]] = part
    return canvas


def mosaic_labels(record: dict[str, Any], groups: list[list[Any]]) -> dict[str, Any]:
    """Return labels of mosaics, each with the number of its first picture."""
    place: dict[int, tuple[int, int, int]] = {}
    images = []
    for group in groups:
        width = max(each['width'] for each in group)
        height = max(each['height'] for each in group)
        images.append({'id': group[0]['id'], 'width': 2 * width, 'height': 2 * height})
        for number, each in enumerate(group):
            place[each['id']] = (group[0]['id'], number % 2 * width, number // 2 * height)
    annotations = []
    for each in record['annotations']:
        if each['image_id'] in place:
            key, left, top = place[each['image_id']]
            x, y, width, height = each['bbox']
            annotations.append({
                **{name: each[name] for name in ('id', 'category_id', 'area', 'iscrowd')},
                'image_id': key, 'bbox': [x + left, y + top, width, height],
            })
    return {'images': images, 'annotations': annotations, 'categories': record['categories']}


def measure_labelled(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return precision and cost of each way."""
    kinds = {'pictures': ways_for_pictures, 'mosaics': ways_for_mosaics}
    ways = (ways_for_tiles if args.tiles else kinds[kind])(args.model, args.int8)
    ways = [way for way in ways if re.search(args.ways, way.name)]
    truth, pictures = labelled(kind, args.limit)
    annotations = CocoAnnotations(VISION / 'val2017' / 'instances.json')
    found, took_ms = run(ways, pictures(), accuracy_settings())
    names = ways[0].detector.spec.class_names
    reference = REFERENCE if args.tiles else SQUARE
    rows = [
        row_of(way.name, took_ms, reference)
        | {'cost_of_rectangle': row_of(way.name, took_ms, REFERENCE)['cost']}
        | precision(found[way.name], truth, annotations, names)
        | crops_of(way)
        for way in ways
    ]
    return {'pictures': len(took_ms[REFERENCE]), 'cost': f'of {reference}', 'rows': rows}


def crops_of(way: Way) -> dict[str, str]:
    """Return how many crops a way has looked at, without their wall time."""
    if not isinstance(way.detector, SecondLook):
        return {}
    return {'crops': way.detector.status()['second look'].partition(', ')[0]}


def measure_video(args: argparse.Namespace) -> dict[str, Any]:
    """Return how far each way agrees with the whole frame at 1280, and what it costs."""
    ways, settings = ways_for_video(args.model), DetectSettings(score_threshold=0.1)

    def pictures() -> Iterator[tuple[int, ImageView]]:
        capture = cv2.VideoCapture(str(args.video))
        for number in range(args.limit or 100):
            read, pixels = capture.read()
            if not read:
                return
            yield number, ImageView.from_array(pixels).of_stream(args.video.name)

    found, took_ms = run(ways, pictures(), settings)
    rows = [
        row_of(way.name, took_ms, REFERENCE)
        | agreement(found['whole frame, 1280'], found[way.name]) | crops_of(way)
        for way in ways
    ]
    return {'frames': len(took_ms[REFERENCE]), 'cost': f'of {REFERENCE}', 'rows': rows}


def agreement(
    reference: dict[int, Detections], found: dict[int, Detections]
) -> dict[str, float]:
    """Return matched / (matched + missed + new), as `compare` counts sure detections."""
    matched = missed = new = 0
    for key, wanted in reference.items():
        match = match_detections(wanted, found[key], min_iou=_MATCH_IOU, sure_score=_SURE)
        sure = found[key].scores >= _SURE
        of_sure = match.partner[sure]
        matched += int((of_sure >= 0).sum())
        new += int((of_sure < 0).sum())
        missed += int((match.unmatched(len(wanted)) & (wanted.scores >= _SURE)).sum())
    return {
        'agreement': round(matched / max(1, matched + missed + new), 4),
        'matched': matched, 'missed': missed, 'new': new,
    }


def widen(source: Path, target: Path) -> None:
    """Write a grid model without its decoding, with a free height and width."""
    model = load_model(source)
    if strip_decoding(model, open_detector(options_of(source)).spec) is None:
        raise SystemExit(f'{source} has no decoding that can be cut off')
    sides = model.graph.input[0].type.tensor_type.shape.dim[2:]
    for side, name in zip(sides, ('height', 'width'), strict=True):
        side.dim_param = name
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField('shape')
    atomic_write(target, serialise(model))


def draw(result: dict[str, Any]) -> None:
    """Draw precision of small objects and of all over cost, for both sets."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), layout='constrained')
    for column, kind in enumerate(('pictures', 'mosaics')):
        for line, measure in enumerate(('ap', 'small')):
            draw_one(axes[line][column], result[kind]['rows'], measure, kind)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=80)
    print(f'written: {PICTURE}')


def draw_one(axis: Any, rows: list[dict[str, Any]], measure: str, kind: str) -> None:
    """Draw one measure of one set."""
    rows = [row for row in rows if row['cost'] < 1.6]
    for is_whole, colour, label in (
        (True, '#808793', 'one look'), (False, '#3b7dd8', 'two looks or more')
    ):
        chosen = [row for row in rows if row['way'].startswith('whole') is is_whole]
        axis.plot([row['cost'] for row in chosen], [row[measure] for row in chosen], 'o',
                  color=colour, label=label)
    label_points(axis, rows, measure)
    axis.set_title(f'{kind}: {"AP" if measure == "ap" else "AP of small objects"}', fontsize=10)
    axis.set_xlabel('CPU time, of the square whole frame at 640', fontsize=8)
    axis.set_xlim(right=max(row['cost'] for row in rows) * 1.18)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def label_points(axis: Any, rows: list[dict[str, Any]], measure: str) -> None:
    """Name the points; on the left if another point is close on the right."""
    axis.margins(y=0.12)
    rows = sorted(rows, key=lambda row: row['cost'])
    high = max(row[measure] for row in rows) - min(row[measure] for row in rows)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        is_close = after is not None and (
            after['cost'] - row['cost'] < 0.08 and abs(after[measure] - row[measure]) < high / 12
        )
        axis.annotate(row['way'].removeprefix('whole frame, '), (row['cost'], row[measure]),
                      xytext=(-4 if is_close else 4, 4), textcoords='offset points', fontsize=7,
                      ha='right' if is_close else 'left')


def main() -> None:
    """Measure or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=('pictures', 'mosaics', 'video', 'widen', 'draw'))
    parser.add_argument('--model', type=Path, default=NANO)
    parser.add_argument('--int8', type=Path, help='the same model, quantised')
    parser.add_argument('--video', type=Path)
    parser.add_argument('--limit', type=int, help='pictures or frames at most')
    parser.add_argument('--ways', default='', help='only those whose name this pattern finds')
    parser.add_argument('--name', default='', help='of the result (default: what is measured)')
    parser.add_argument('--tiles', action='store_true', help='compare tiles instead of crops')
    parser.add_argument('-o', '--output', type=Path, help='file of results, or of a widened model')
    args = parser.parse_args()
    args.output = args.output or (TILES_RESULT if args.tiles else RESULT)
    if args.what == 'widen':
        widen(args.model, args.output)
        return
    result = json.loads(args.output.read_text()) if args.output.is_file() else {}
    if args.what == 'draw':
        draw(result)
        return
    measured = measure_video(args) if args.what == 'video' else measure_labelled(args.what, args)
    for row in measured['rows']:
        print(row)
    result.pop('measured_on', None)
    result[args.name or args.what] = {
        'model': args.model.name, **measured, 'measured_on': measured_on()
    }
    save(args.output, result)


if __name__ == '__main__':
    main()
