"""Matching and comparing detections, with pycocotools as the judge of average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import gc
import io
import math
import tracemalloc
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.report.compare.detection_compare import RunComparison
from yolov7_trt_ros.report.compare.detection_match import match_detections
from yolov7_trt_ros.report.compare.frame_pairs import pair_frames
from yolov7_trt_ros.report.compare.limits import exceeded_limits
from yolov7_trt_ros.report.compare.page import as_html, CompareContext
from yolov7_trt_ros.report.compare.result import ComparisonResult, Difference, WORST_FRAMES
from yolov7_trt_ros.report.compare.score_counts import Distribution, PrecisionCurve
from yolov7_trt_ros.report.compare.settings import CompareLimits, CompareSettings

NAMES = ('person', 'car', 'kite')
UNSURE_AREA = 1e12
Item = tuple[Sequence[float], float, int]


def found(*items: Item) -> Detections:
    """Make detections of (box, score, class)."""
    return Detections(
        np.array([item[0] for item in items], np.float32).reshape(-1, 4),
        np.array([item[1] for item in items], np.float32),
        np.array([item[2] for item in items], np.int32), (0, 0),
    )


def random_frame(rng: np.random.Generator, most: int = 12) -> Detections:
    count = int(rng.integers(0, most))
    corners = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 60, (count, 2))], axis=1)
    return Detections(
        boxes.astype(np.float32), rng.uniform(0.05, 1, count).astype(np.float32),
        rng.integers(0, len(NAMES), count).astype(np.int32), (0, 0),
    )


def disturbed(frame: Detections, rng: np.random.Generator) -> Detections:
    """Return the same with boxes and scores moved, some left out and some added."""
    extra = random_frame(rng, 5)
    kept = rng.uniform(size=len(frame)) > 0.2
    boxes = frame.boxes_xyxy + rng.normal(0, 4, frame.boxes_xyxy.shape)
    scores = 0.8 * frame.scores + 0.2 * rng.uniform(0.05, 1, len(frame))  # no two alike
    return Detections(
        np.concatenate([boxes[kept], extra.boxes_xyxy]).astype(np.float32),
        np.concatenate([scores[kept], extra.scores]).astype(np.float32),
        np.concatenate([frame.class_ids[kept], extra.class_ids]), (0, 0),
    )


def random_drive(seed: int, frames: int = 60) -> list[tuple[Detections, Detections]]:
    rng = np.random.default_rng(seed)
    drive = []
    for _ in range(frames):
        frame = random_frame(rng)
        drive.append((frame, disturbed(frame, rng)))
    return drive


def compare(
    drive: Sequence[tuple[Detections, Detections]], settings: CompareSettings | None = None
) -> ComparisonResult:
    comparison = RunComparison(settings or CompareSettings())
    for number, (reference, new) in enumerate(drive):
        comparison.add('/camera/detections', number, reference, new)
    return comparison.result(NAMES)


# ---- matching


def test_the_best_score_takes_the_box_it_overlaps_most() -> None:
    reference = found(([0, 0, 10, 10], 0.9, 0), ([2, 0, 12, 10], 0.8, 0))
    new = found(([2, 0, 12, 10], 0.6, 0), ([1.8, 0, 11.8, 10], 0.7, 0))
    match = match_detections(reference, new, min_iou=0.5, sure_score=0.25)
    assert match.partner.tolist() == [0, 1]
    assert match.iou.tolist() == pytest.approx([80 / 120, 98 / 102])
    assert match.unmatched(2).tolist() == [False, False]


def test_another_class_and_too_little_overlap_are_no_partners() -> None:
    reference = found(([0, 0, 10, 10], 0.9, 0), ([20, 0, 30, 10], 0.9, 1))
    new = found(([0, 0, 10, 10], 0.9, 1), ([24, 0, 34, 10], 0.9, 1))
    match = match_detections(reference, new, min_iou=0.5, sure_score=0.25)
    assert match.partner.tolist() == [-1, -1]
    assert match.unmatched(2).all()
    less = match_detections(reference, new, min_iou=0.4, sure_score=0.25)
    assert less.partner.tolist() == [-1, 1]


def test_a_sure_partner_comes_before_an_unsure_one_that_overlaps_more() -> None:
    reference = found(([0, 0, 10, 10], 0.1, 0), ([1, 0, 11, 10], 0.9, 0))
    new = found(([0, 0, 10, 10], 0.9, 0))
    assert match_detections(
        reference, new, min_iou=0.5, sure_score=0.25).partner.tolist() == [1]


@pytest.mark.parametrize('left, right', [(0, 0), (0, 2), (2, 0)])
def test_frames_without_detections(left: int, right: int) -> None:
    box = ([0, 0, 10, 10], 0.9, 0)
    result = compare([(found(*[box] * left), found(*[box] * right))])
    assert result.total == Difference(0, left, right)
    assert result.ap50 == float(left == right)
    assert (result.iou, result.drift) == (None, None)
    assert result.has_detections == bool(left or right)


# ---- what is told


def test_a_recording_compared_with_itself() -> None:
    drive = [(frame, frame) for frame, _ in random_drive(1)]
    result = compare(drive)
    assert result.ap50 == 1.0
    assert result.total.matched > 100
    assert (result.total.missed, result.total.new, result.total.matched_share) == (0, 0, 1.0)
    assert result.drift is not None and dataclasses.astuple(result.drift) == (0, 0, 0, 0)
    assert result.iou is not None and dataclasses.astuple(result.iou) == (1, 1, 1, 1)
    assert result.worst == ()
    assert exceeded_limits(result, CompareLimits(0, 1, 1, 1)) == []


def test_counts_drift_and_overlap() -> None:
    reference = found(
        ([0, 0, 10, 10], 0.9, 0), ([50, 0, 60, 10], 0.3, 0), ([0, 50, 10, 60], 0.8, 1),
        ([90, 90, 99, 99], 0.1, 2),
    )
    new = found(
        ([0, 0, 10, 10], 0.8, 0), ([50, 0, 60, 8], 0.2, 0), ([80, 0, 90, 10], 0.6, 0),
        ([90, 90, 99, 99], 0.4, 2), ([0, 90, 9, 99], 0.1, 2),
    )
    result = compare([(reference, new)])
    assert result.total == Difference(matched=3, missed=1, new=1)
    assert result.drift is not None and result.iou is not None
    assert result.drift.mean == pytest.approx((0.1 + 0.1 + 0.3) / 3)
    assert result.drift.bias == pytest.approx((-0.1 - 0.1 + 0.3) / 3)
    assert (result.drift.largest, result.drift.p95) == pytest.approx((0.3, 0.3))
    assert result.iou.mean == pytest.approx((1 + 0.8 + 1) / 3)
    assert (result.iou.least, result.iou.p5) == pytest.approx((0.8, 0.8), abs=1e-4)
    car, kite, person = result.classes
    assert (car.name, car.reference, car.difference, car.ap50) == (
        'car', 1, Difference(missed=1), 0.0)
    assert (kite.reference, kite.difference, kite.ap50) == (0, Difference(matched=1), None)
    assert (person.reference, person.difference) == (2, Difference(2, 0, 1))
    assert person.mean_drift == pytest.approx(0.1)
    # the wrong one has the second best score: precision 1 up to half of them, 2/3 after
    assert person.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result.ap50 == pytest.approx((0.0 + person.ap50) / 2)
    assert sum(result.drift_histogram) == 3
    assert result.as_record()['per_class']['person']['missed'] == 0


def test_a_score_that_moves_across_the_threshold_is_drift_not_loss() -> None:
    before, after = found(([0, 0, 9, 9], 0.26, 0)), found(([0, 0, 9, 9], 0.24, 0))
    for drive in ([(before, after)], [(after, before)]):
        result = compare(drive)
        assert result.total == Difference(matched=1)
        assert result.drift is not None and result.drift.largest == pytest.approx(0.02)
        assert result.ap50 == 1.0


def test_ap50_stays_at_iou_one_half_whatever_partners_need() -> None:
    drive = [(found(([0, 0, 10, 10], 0.9, 0)), found(([0, 0, 10, 6], 0.9, 0)))]
    strict = compare(drive, CompareSettings(iou=0.8))
    assert strict.total == Difference(missed=1, new=1)
    assert strict.ap50 == 1.0
    loose = [(found(([0, 0, 10, 10], 0.9, 0)), found(([0, 0, 10, 4], 0.9, 0)))]
    result = compare(loose, CompareSettings(iou=0.3))
    assert (result.total, result.ap50) == (Difference(matched=1), 0.0)


def test_the_worst_frames_are_told_in_order() -> None:
    box = [0, 0, 10, 10]
    drive = [(found((box, 0.5, 0)), found((box, 0.5 + number / 100, 0))) for number in range(30)]
    drive.insert(4, (found((box, 0.5, 0)), found()))
    result = compare(drive)
    assert len(result.worst) == WORST_FRAMES
    assert [frame.stamp_ns for frame in result.worst] == [4, 30, 29, 28, 27, 26, 25, 24, 23, 22]
    assert result.worst[0].difference == Difference(missed=1)
    assert result.worst[1].largest_drift == pytest.approx(0.29)


def test_the_order_of_frames_changes_nothing_but_rounding() -> None:
    drive = random_drive(3)
    one, other = compare(drive), compare(drive[::-1])
    assert one.ap50 == other.ap50
    assert one.total == other.total
    assert one.drift is not None and other.drift is not None
    assert one.drift.p95 == other.drift.p95
    assert one.drift.mean == pytest.approx(other.drift.mean, rel=1e-12)
    assert compare(drive) == one


# ---- average precision


def coco_ap50(drive: Sequence[tuple[Detections, Detections]], sure: float) -> dict[int, float]:
    """AP50 by class of pycocotools; labels below `sure` lie outside the range of areas."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    labels, results = [], []
    for image, (reference, new) in enumerate(drive, start=1):
        for kind, frame in ((labels, reference), (results, new)):
            for (x1, y1, x2, y2), score, number in zip(
                frame.boxes_xyxy.astype(float).tolist(), frame.scores.tolist(),
                frame.class_ids.tolist(), strict=True,
            ):
                kind.append({
                    'id': len(kind) + 1, 'image_id': image, 'category_id': number + 1,
                    'bbox': [x1, y1, x2 - x1, y2 - y1], 'iscrowd': 0, 'score': score,
                    'area': (x2 - x1) * (y2 - y1) if score >= sure else UNSURE_AREA,
                })
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            'info': {}, 'annotations': labels,
            'images': [{'id': n + 1} for n in range(len(drive))],
            'categories': [{'id': n + 1, 'name': name} for n, name in enumerate(NAMES)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), 'bbox')
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ['all']
        evaluation.params.maxDets = [1000]
        evaluation.evaluate()
        evaluation.accumulate()
    return {
        number: float(evaluation.eval['precision'][0, :, number, 0, 0].mean())
        for number in range(len(NAMES))
    }


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('sure', [0.0, 0.4])
def test_average_precision_is_that_of_pycocotools(seed: int, sure: float) -> None:
    drive = random_drive(seed)
    judged = coco_ap50(drive, sure)
    result = compare(drive, CompareSettings(score_threshold=sure))
    ours = {NAMES.index(each.name): each.ap50 for each in result.classes}
    # scores closer than 1/65535 are one step of our curve and two of theirs
    assert ours == pytest.approx(judged, abs=2e-3)
    assert min(judged.values()) < 0.95  # or there would be nothing to tell apart
    assert result.ap50 == pytest.approx(np.mean(list(judged.values())), abs=2e-3)


def test_equal_scores_are_one_step_of_the_curve() -> None:
    curve, scores = PrecisionCurve(), np.full(2, 0.5, np.float32)
    curve.add(scores, np.array([False, True]))
    assert curve.average_precision(1) == pytest.approx(0.5)


def test_percentiles_of_counted_values() -> None:
    values = np.random.default_rng(0).uniform(size=5000).astype(np.float32)
    distribution = Distribution()
    for part in np.split(values, 10):
        distribution.add(part)
    for percent in (0, 5, 50, 95, 100):
        expected = sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]
        assert distribution.percentile(percent) == pytest.approx(expected, abs=1e-5)
    assert distribution.mean == pytest.approx(float(values.mean(dtype=np.float64)))
    assert (distribution.least, distribution.largest) == (values.min(), values.max())
    assert sum(distribution.histogram(50)) == 5000


def test_memory_does_not_grow_with_the_frames() -> None:
    comparison = RunComparison(CompareSettings())
    drive = random_drive(5, 20)

    def add(times: int) -> int:
        for number in range(times):
            for reference, new in drive:
                comparison.add('/camera/detections', number, reference, new)
        gc.collect()  # what waits to be collected has not grown for good
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = add(3)
        assert add(12) - before < 20_000
    finally:
        tracemalloc.stop()


# ---- pairing frames


@dataclasses.dataclass(frozen=True)
class Stamped:
    topic: str
    stamp_ns: int
    detections: Detections = dataclasses.field(default_factory=found)


def paired(
    reference: Sequence[Stamped], new: Sequence[Stamped], **options: int
) -> list[tuple[str, int, str]]:
    return [
        (pair.topic, pair.stamp_ns,
         'both' if pair.reference is not None and pair.found is not None
         else 'A' if pair.found is None else 'B')
        for pair in pair_frames(reference, new, **options)
    ]


def test_frames_are_paired_by_topic_and_stamp() -> None:
    reference = [Stamped('/a', 1), Stamped('/b', 1), Stamped('/a', 2), Stamped('/a', 4)]
    new = [Stamped('/a', 1), Stamped('/a', 2), Stamped('/b', 1), Stamped('/b', 3)]
    assert sorted(paired(reference, new)) == [
        ('/a', 1, 'both'), ('/a', 2, 'both'), ('/a', 4, 'A'), ('/b', 1, 'both'), ('/b', 3, 'B'),
    ]


def test_frames_of_one_stamp_are_paired_in_their_order() -> None:
    first, second = found(([0, 0, 1, 1], 0.5, 0)), found(([0, 0, 1, 1], 0.6, 0))
    reference = [Stamped('/a', 0, first), Stamped('/a', 0, second)]
    pairs = list(pair_frames(reference, [*reference, Stamped('/a', 0)]))
    assert [pair.reference for pair in pairs] == [first, second, None]
    assert [pair.found for pair in pairs[:2]] == [first, second]


def test_few_frames_wait_though_one_side_drops_most() -> None:
    given = {'A': 0, 'B': 0}

    def frames(side: str, every: int) -> Iterator[Stamped]:
        for stamp in range(0, 20_000, every):
            given[side] = stamp
            yield Stamped('/a', stamp)

    apart = 0
    counts = {'both': 0, 'A': 0, 'B': 0}
    for pair in pair_frames(frames('A', 1), frames('B', 3), most_waiting=10):
        apart = max(apart, abs(given['A'] - given['B']))
        counts['both' if pair.reference is not None and pair.found is not None
               else 'A' if pair.found is None else 'B'] += 1
    assert counts == {'both': 6667, 'A': 20_000 - 6667, 'B': 0}
    assert apart <= 6


def test_a_frame_that_waited_too_long_is_given_up() -> None:
    reference = [Stamped('/late', 5), *(Stamped('/a', 5) for _ in range(4))]
    new = [*(Stamped('/b', 5) for _ in range(4)), Stamped('/late', 5)]
    patient = paired(reference, new)
    assert ('/late', 5, 'both') in patient
    hasty = paired(reference, new, most_waiting=2)
    assert ('/late', 5, 'A') in hasty and ('/late', 5, 'B') in hasty
    assert len(hasty) == 10


# ---- limits and page


def test_each_limit_is_told_when_it_is_passed() -> None:
    drive = [(found(([0, 0, 10, 10], 0.9, 0), ([50, 0, 60, 10], 0.9, 1)),
              found(([0, 0, 10, 10], 0.8, 0)))]
    comparison = RunComparison(CompareSettings())
    comparison.add('/a', 1, *drive[0])
    comparison.add_lone('/a', 2, in_reference=True)
    comparison.add_lone('/a', 3, in_reference=False)
    result = comparison.result(NAMES)
    assert [each.option for each in exceeded_limits(result, CompareLimits())] == [
        '--max-drift', '--min-ap50', '--min-matched', '--min-frames']
    found_limits = {each.option: each.value for each in exceeded_limits(result, CompareLimits())}
    assert found_limits == pytest.approx({
        '--max-drift': 0.1, '--min-ap50': 0.5, '--min-matched': 0.5, '--min-frames': 0.5})
    assert exceeded_limits(result, CompareLimits(0.101, 0.5, 0.5, 0.5)) == []
    assert result.frames.as_record()['first_only_in_new'] == [{'topic': '/a', 'stamp_ns': 3}]


def test_values_out_of_their_range() -> None:
    for make in (
        lambda: CompareSettings(iou=0), lambda: CompareSettings(iou=1.5),
        lambda: CompareSettings(score_threshold=-0.1), lambda: CompareLimits(max_drift=2),
        lambda: CompareLimits(min_frames=float('nan')),
    ):
        with pytest.raises(SettingError, match='--'):
            make()


def test_the_page_is_whole_and_escapes_names() -> None:
    comparison = RunComparison(CompareSettings())
    for number, (reference, new) in enumerate(random_drive(2)):
        comparison.add('/cam<era>/detections', number, reference, new)
    comparison.add_lone('/a', 7, in_reference=False)
    names = ('<b>person', 'car&', 'kite')
    result = comparison.result(names)
    page = as_html(result, CompareContext(
        'a.mcap', 'b<.mcap', limits=CompareLimits(max_drift=0.0), class_names=names))
    root = ElementTree.fromstring(page.split('\n', 1)[1])
    text = ' '.join(root.itertext())
    for words in ('<b>person', 'car&', 'b<.mcap', '/cam<era>/detections', 'is over --max-drift',
                  'only in B'):
        assert words in text
    assert len(list(root.iter('{http://www.w3.org/2000/svg}rect'))) >= 5
    empty = as_html(compare([]), CompareContext('a', 'b'))
    assert 'Within the limits' in empty and 'nan' not in empty
