"""Boxes: formats, IoU and NMS against slow plain references."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core import boxes as boxes_module
from yolov7_trt_ros.core.boxes import box_areas, box_iou, nms, xyxy_from_cxcywh

Box = tuple[float, float, float, float]


def iou_of(left: Box, right: Box) -> float:
    """Overlap of two boxes in double precision; of two empty ones 0."""
    width = min(left[2], right[2]) - max(left[0], right[0])
    height = min(left[3], right[3]) - max(left[1], right[1])
    shared = max(0.0, width) * max(0.0, height)
    area = sum(max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in (left, right))
    return shared / (area - shared) if area > shared else 0.0


def nms_slowly(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray | None, threshold: float, most: int
) -> list[int]:
    waiting = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    kept: list[int] = []
    for index in waiting:
        rivals = [k for k in kept if classes is None or classes[k] == classes[index]]
        if all(iou_of(boxes[k].tolist(), boxes[index].tolist()) <= threshold for k in rivals):
            kept.append(index)
    return kept[:most]


def random_boxes(rng: np.random.Generator, count: int, spread: float) -> np.ndarray:
    """Boxes on a grid of eighths, so that float32 and float64 agree about IoU exactly enough."""
    corner = rng.uniform(0, spread, (count, 2))
    size = rng.uniform(1, 60, (count, 2))
    return (np.round(np.hstack([corner, corner + size]) * 8) / 8).astype(np.float32)


def no_iou_near(boxes: np.ndarray, threshold: float) -> bool:
    """Whether rounding cannot decide any pair: the references' doubles and our floats agree."""
    pairs = box_iou(boxes, boxes)
    return not np.any(np.abs(pairs - threshold) < 1e-5)


def threshold_between_ious(boxes: np.ndarray) -> float:
    """Middle of the widest gap between the IoUs around 0.5."""
    pairs = box_iou(boxes, boxes)
    near = np.unique(np.append(pairs[(pairs > 0.49) & (pairs < 0.51)], [0.49, 0.51]))
    widest = int(np.argmax(np.diff(near)))
    return float(near[widest:widest + 2].mean())


@pytest.mark.parametrize('chunk', range(8))
def test_nms_equals_the_slow_reference(chunk: int) -> None:
    """2,400 random cases: ties, one class or many, few boxes and more than a block."""
    compared = 0
    for seed in range(300):
        rng = np.random.default_rng((chunk, seed))
        count = int(rng.choice([0, 1, 2, 5, 12, 30, 30, 60]))
        boxes = random_boxes(rng, count, spread=float(rng.choice([5, 60, 400])))
        levels = int(rng.choice([1, 3, 1000]))  # few levels: many equal scores
        scores = (rng.integers(1, levels + 1, count) / levels).astype(np.float32)
        classes = rng.integers(0, int(rng.choice([1, 3, 80])), count).astype(np.int32)
        groups = None if rng.random() < 0.3 else classes
        threshold = float(rng.choice([0.0, 0.3, 0.45, 0.65, 1.0]))
        most = int(rng.choice([1, 3, 300]))
        if 0 < threshold < 1 and not no_iou_near(boxes, threshold):
            continue
        got = nms(boxes, scores, groups, threshold, most)
        assert got.tolist() == nms_slowly(boxes, scores, groups, threshold, most), (chunk, seed)
        compared += 1
    assert compared >= 250


@pytest.mark.parametrize('count', [127, 128, 129, 255, 256, 257, 700])
@pytest.mark.parametrize('spread', [40, 500])
def test_nms_over_block_borders(count: int, spread: float) -> None:
    rng = np.random.default_rng(count)
    boxes = random_boxes(rng, count, spread)
    scores = (rng.integers(1, 20, count) / 20).astype(np.float32)
    classes = rng.integers(0, 4, count).astype(np.int32)
    threshold = threshold_between_ious(boxes)
    for groups in (classes, None):
        got = nms(boxes, scores, groups, threshold, 10_000)
        assert got.tolist() == nms_slowly(boxes, scores, groups, threshold, 10_000)


@given(block=st.integers(1, 20), seed=st.integers(0, 2**32 - 1), most=st.integers(1, 40))
@settings(max_examples=200)
def test_the_block_size_does_not_matter(block: int, seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 40, 80)
    scores = (rng.integers(1, 10, 40) / 10).astype(np.float32)
    classes = rng.integers(0, 3, 40).astype(np.int32)
    whole = nms(boxes, scores, classes, 0.4, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, '_BLOCK', block)
        assert nms(boxes, scores, classes, 0.4, most).tolist() == whole.tolist()


def test_nothing_in_nothing_out() -> None:
    none = nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), None, 0.5, 10)
    assert none.shape == (0,)
    assert none.dtype == np.intp


def test_equal_scores_keep_their_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    scores = np.full(3, 0.5, np.float32)
    assert nms(boxes, scores, None, 0.5, 10).tolist() == [0, 2]


def test_classes_do_not_suppress_each_other_unless_agnostic() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 2, np.float32)
    scores = np.array([0.5, 0.9], np.float32)
    assert nms(boxes, scores, np.array([1, 2]), 0.5, 10).tolist() == [1, 0]
    assert nms(boxes, scores, None, 0.5, 10).tolist() == [1]


def test_an_overlap_equal_to_the_threshold_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU is 1/2 exactly
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, None, 0.5, 10).tolist() == [0, 1]
    assert nms(boxes, scores, None, 0.499, 10).tolist() == [0]


def test_a_suppressed_box_suppresses_nobody() -> None:
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert nms(boxes, scores, None, 0.4, 10).tolist() == [0, 2]


@pytest.mark.parametrize('threshold', [0.0, 0.5, 1.0])
def test_empty_and_inverted_boxes_neither_suppress_nor_fail(threshold: float) -> None:
    boxes = np.array(
        [[5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 1, 1], [0, 0, 10, 0], [2, 2, 8, 8]], np.float32
    )
    scores = np.linspace(1, 0.5, 5, dtype=np.float32)
    assert nms(boxes, scores, None, threshold, 10).tolist() == [0, 1, 2, 3, 4]


def test_huge_coordinates_do_not_fail() -> None:
    boxes = np.array([[-1e18, -1e18, 1e18, 1e18], [0, 0, 1, 1]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8], np.float32), None, 0.5, 10).tolist() == [0, 1]


@given(seed=st.integers(0, 2**32 - 1), left=st.integers(0, 12), right=st.integers(0, 12))
@settings(max_examples=200)
def test_iou_equals_the_plain_reference(seed: int, left: int, right: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = random_boxes(rng, left, 100), random_boxes(rng, right, 100)
    second[::3, 2] = second[::3, 0]  # some without width
    got = box_iou(first, second)
    expected = [[iou_of(a.tolist(), b.tolist()) for b in second] for a in first]
    assert got.dtype == np.float32
    assert np.allclose(got, np.reshape(expected, (left, right)), atol=1e-6)


def test_known_ious() -> None:
    one = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array(
        [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 3]], np.float32
    )
    assert box_iou(one, others)[0].tolist() == pytest.approx([1, 1 / 3, 0, 0.04, 0])
    nothing = np.zeros((1, 4), np.float32)
    assert box_iou(nothing, nothing).tolist() == [[0]]


def test_areas_of_inverted_boxes_are_zero() -> None:
    boxes = np.array([[0, 0, 3, 4], [3, 0, 0, 4], [3, 4, 0, 0]], np.float32)
    assert box_areas(boxes).tolist() == [12, 0, 0]


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_corners_from_centres(dtype: type) -> None:
    corners = xyxy_from_cxcywh(np.array([[10, 20, 4, 6], [0, 0, 0, 0]], dtype))
    assert corners.dtype == np.float32
    assert corners.tolist() == [[8, 17, 12, 23], [0, 0, 0, 0]]
    assert xyxy_from_cxcywh(np.empty((0, 4), dtype)).shape == (0, 4)
