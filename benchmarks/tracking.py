"""
Track ids: IDF1 and id switches on scenes with known objects, and the cost per frame.

    pip install motmetrics trackers         # who judges, and whom ours is compared with
    python benchmarks/tracking.py identity
    python benchmarks/tracking.py cost
    python benchmarks/tracking.py others    # what a frame costs with `trackers`

The scenes (track_scenes.py) have objects that pass behind each other, missing and false
detections, and detections of low scores; nothing of them is from a camera. IDF1, id switches
and MOTA are those of py-motmetrics, which knows nothing of this package; pairs overlap by 0.5.
`trackers` has trackers of others, which count frames instead of seconds; each class gets one of
its own, with the same threshold and lost time, and ids are given at once, so that all are asked
for the same. Cost is CPU time of the thread, frames of all ways in turns. What is measured is
added to results/tracking.json.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import sys
import time
from typing import Any

from measured_on import measured_on, save
import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from track_scenes import CLASSES, IMAGE_WH, scene, SceneFrame, SceneSettings  # noqa: E402

from yolov7_trt_ros.core.detections import Detections  # noqa: E402  (its folder was just added)
from yolov7_trt_ros.core.detector import DetectSettings  # noqa: E402
from yolov7_trt_ros.core.tracks.track_options import (  # noqa: E402
    BYTETRACK,
    IOU,
    OFF,
    TrackOptions,
)
from yolov7_trt_ros.core.tracks.tracking import Moment, Tracker, TrackSet  # noqa: E402

RESULT = REPOSITORY / 'benchmarks' / 'results' / 'tracking.json'
SETTINGS = DetectSettings()
SCENES = {
    '30 Hz': SceneSettings(rate_hz=30),
    '30 Hz, camera swings': SceneSettings(rate_hz=30, pan_px=300),
    '10 Hz': SceneSettings(rate_hz=10),
    '10 Hz, camera swings': SceneSettings(rate_hz=10, pan_px=150),
    '5 Hz': SceneSettings(rate_hz=5),
}
_NS_PER_US = 1e3
Way = Callable[[SceneFrame], tuple[NDArray[Any], NDArray[Any]]]
"""Returns boxes and ids of what is published of a frame."""


def ours(mode: str) -> Way:
    """Return what follows as the node does."""
    tracker, options = TrackSet().of('scene'), TrackOptions(mode)

    def follow(frame: SceneFrame) -> tuple[NDArray[Any], NDArray[Any]]:
        found = asked(frame.found, options.asked(SETTINGS))
        followed = tracker.follow(found, Moment(frame.stamp_ns, 0), options, SETTINGS, CLASSES)
        assert followed.track_ids is not None
        return followed.boxes_xyxy, followed.track_ids

    return follow


def asked(found: Detections, settings: DetectSettings) -> Detections:
    """Return what a detector gives that is asked so."""
    return found.chosen(found.scores > settings.score_threshold)


def theirs(name: str, rate_hz: float) -> Way:
    """Return a tracker of the package `trackers`, one for each class."""
    import supervision
    import trackers

    values: dict[str, Any] = {
        'lost_track_buffer': 30, 'frame_rate': rate_hz, 'minimum_consecutive_frames': 1,
        'track_activation_threshold': SETTINGS.score_threshold,
    }
    if name == 'ByteTrackTracker':
        values['high_conf_det_threshold'] = SETTINGS.score_threshold
    each = [getattr(trackers, name)(**values) for _ in CLASSES]

    def follow(frame: SceneFrame) -> tuple[NDArray[Any], NDArray[Any]]:
        boxes, ids = [np.empty((0, 4), np.float32)], [np.empty(0, np.int64)]
        for class_id, tracker in enumerate(each):
            found = frame.found.chosen(frame.found.class_ids == class_id)
            followed = tracker.update(supervision.Detections(
                xyxy=found.boxes_xyxy, confidence=found.scores, class_id=found.class_ids
            ))
            kept = (followed.confidence > SETTINGS.score_threshold) & (followed.tracker_id >= 0)
            boxes.append(followed.xyxy[kept])
            ids.append(followed.tracker_id[kept] * len(CLASSES) + class_id)
        return np.concatenate(boxes), np.concatenate(ids)

    return follow


def judged(way: Way, frames: list[SceneFrame]) -> Any:
    """Return motmetrics' record of a scene."""
    import motmetrics

    record = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        boxes, ids = way(frame)
        record.update(frame.numbers.tolist(), ids.tolist(), _distances(frame.boxes, boxes))
    return record


def _distances(objects: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 - IoU by pycocotools, NaN for pairs that overlap by less than 0.5."""
    from pycocotools import mask

    if not len(objects) or not len(boxes):
        return np.empty((len(objects), len(boxes)))
    overlap = mask.iou(_corner_and_size(objects), _corner_and_size(boxes), [0] * len(boxes))
    return np.where(overlap >= 0.5, 1 - overlap, np.nan)


def _corner_and_size(boxes: NDArray[Any]) -> NDArray[np.float64]:
    boxes = boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def measure_identity(args: argparse.Namespace) -> dict[str, Any]:
    """Return how well each way keeps identities, by kind of scene, over all seeds."""
    import motmetrics

    metrics, rows = motmetrics.metrics.create(), []
    for name, settings in SCENES.items():
        ways = {
            f'ours, {IOU}': lambda: ours(IOU), f'ours, {BYTETRACK}': lambda: ours(BYTETRACK),
            'trackers, ByteTrack': lambda rate=settings.rate_hz: theirs('ByteTrackTracker', rate),
            'trackers, SORT': lambda rate=settings.rate_hz: theirs('SORTTracker', rate),
        }
        scenes = [list(scene(settings, seed)) for seed in range(args.seeds)]
        for way, make in ways.items():
            records = [judged(make(), frames) for frames in scenes]
            table = metrics.compute_many(
                records, metrics=['idf1', 'num_switches', 'num_unique_objects', 'mota'],
                generate_overall=True,
            )
            total = table.loc['OVERALL']
            rows.append({
                'scenes': name, 'way': way, 'idf1': round(float(total['idf1']), 4),
                'switches': int(total['num_switches']), 'mota': round(float(total['mota']), 4),
                'objects': int(total['num_unique_objects']),
                'frames': sum(map(len, scenes)),
            })
            print(rows[-1], flush=True)
    return {'seeds': args.seeds, 'rows': rows, 'versions': _versions()}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ('motmetrics', 'trackers', 'scipy')}


def measure_cost(args: argparse.Namespace) -> dict[str, Any]:
    """Return the CPU time of a frame, by number of objects, each way in turns."""
    rows = []
    for objects in (0, 5, 20, 50, 100):
        settings = SceneSettings(objects=max(1, objects), seconds=args.frames / 30)
        frames = list(scene(settings, 1)) if objects else _empty(args.frames)
        took: dict[str, list[float]] = {OFF: [], IOU: [], BYTETRACK: []}
        trackers = {mode: TrackSet().of('scene') for mode in took}
        for frame in frames:
            for mode, samples in took.items():
                samples.append(_time_us(frame, TrackOptions(mode), trackers[mode]))
        warm = args.frames // 10
        rows.append({
            'objects': objects,
            'detections': round(float(np.mean([len(frame.found) for frame in frames])), 1),
            **{mode: {
                f'p{percent}_us': round(float(np.percentile(each[warm:], percent)), 1)
                for percent in (10, 50, 95)
            } for mode, each in took.items()},
        })
        print(rows[-1], flush=True)
    return {'frames': args.frames, 'rows': rows}


def measure_others(args: argparse.Namespace) -> dict[str, Any]:
    """Return the CPU time of a frame of 20 objects with trackers of others, all classes as one."""
    import supervision
    import trackers

    rows = []
    frames = list(scene(SceneSettings(seconds=args.frames / 30), 1))
    for name in ('ByteTrackTracker', 'SORTTracker'):
        tracker, samples = getattr(trackers, name)(), []
        for frame in frames:
            found = supervision.Detections(
                xyxy=frame.found.boxes_xyxy, confidence=frame.found.scores,
                class_id=frame.found.class_ids,
            )
            began_ns = time.thread_time_ns()
            tracker.update(found)
            samples.append((time.thread_time_ns() - began_ns) / _NS_PER_US)
        rows.append({'way': f'trackers, {name}', **{
            f'p{percent}_us': round(float(np.percentile(samples, percent)), 1)
            for percent in (10, 50, 95)
        }})
        print(rows[-1], flush=True)
    return {'frames': args.frames, 'objects': 20, 'rows': rows, 'versions': _versions()}


def _empty(count: int) -> list[SceneFrame]:
    nothing = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    return [
        SceneFrame(1 + index * 33_333_333, *nothing, Detections.empty(IMAGE_WH))
        for index in range(count)
    ]


def _time_us(frame: SceneFrame, options: TrackOptions, tracker: Tracker) -> float:
    """Return what is done for tracking of a frame, as the worker does it; off as well."""
    found = asked(frame.found, options.asked(SETTINGS))
    moment = Moment(frame.stamp_ns, 0)
    began_ns = time.thread_time_ns()
    if options.mode != OFF:
        tracker.follow(found, moment, options, SETTINGS, CLASSES)
    return (time.thread_time_ns() - began_ns) / _NS_PER_US


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = {'identity': measure_identity, 'cost': measure_cost, 'others': measure_others}
    parser.add_argument('what', choices=kinds)
    parser.add_argument('--seeds', type=int, default=5, help='scenes of each kind')
    parser.add_argument('--frames', type=int, default=600, help='of which cost is measured')
    parser.add_argument('-o', '--output', type=Path, default=RESULT)
    args = parser.parse_args()
    result = json.loads(args.output.read_text()) if args.output.is_file() else {}
    result.pop('measured_on', None)
    result[args.what] = {**kinds[args.what](args), 'measured_on': measured_on()}
    save(args.output, result)


if __name__ == '__main__':
    main()
