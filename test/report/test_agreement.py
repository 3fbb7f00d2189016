"""Agreement of two models: nothing lost is 1, and each kind of loss shows."""

from __future__ import annotations

import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.report.compare.agreement import match, measure_agreement
from yolov7_trt_ros.testing import make_detections

WH = (100, 100)
CAT, DOG = 0, 1
LEFT, RIGHT = (0, 0, 40, 40), (50, 50, 90, 90)


def found(*boxes: tuple[tuple[float, ...], float, int]) -> Detections:
    return make_detections(WH, *boxes)


def random_detections(seed: int, number: int = 60) -> Detections:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (number, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 40, (number, 2))]).astype(np.float32)
    scores = np.sort(rng.random(number).astype(np.float32) ** 2)[::-1].copy()
    return Detections(boxes, scores, rng.integers(0, 3, number).astype(np.int32), WH)


def test_a_model_agrees_with_itself() -> None:
    pictures = [random_detections(seed) for seed in range(5)]
    agreement = measure_agreement(pictures, pictures)
    assert (agreement.weighted, agreement.ap50, agreement.f1) == (1, 1, 1)
    assert agreement.wanted == sum(int((each.scores >= 0.25).sum()) for each in pictures)


def test_strangers_do_not_agree() -> None:
    left = [random_detections(seed) for seed in range(5)]
    right = [random_detections(seed + 50) for seed in range(5)]
    agreement = measure_agreement(left, right)
    assert agreement.weighted < 0.6 and agreement.ap50 < 0.5 and agreement.f1 < 0.6


def test_nothing_on_both_sides_is_agreement_and_on_one_is_not() -> None:
    nothing, something = [Detections.empty(WH)], [found((LEFT, 0.9, CAT))]
    for reference, other, wanted in (
        (nothing, nothing, 1), (nothing, something, 0), (something, nothing, 0), ([], [], 1),
    ):
        agreement = measure_agreement(reference, other)
        assert (agreement.weighted, agreement.ap50, agreement.f1) == (wanted,) * 3


@pytest.mark.parametrize(('other', 'weighted', 'ap50', 'f1'), [
    # a missed one, an invented one, a wrong class, a box gone astray
    ([(LEFT, 0.8, CAT)], 2 * 0.8 / 2.4, 51 / 101, 2 / 3),
    ([(LEFT, 0.8, CAT), (RIGHT, 0.8, DOG), ((0, 50, 40, 90), 0.4, CAT)], 3.2 / 3.6, 1, 4 / 5),
    ([(LEFT, 0.8, CAT), (RIGHT, 0.8, CAT)], 1.6 / 3.2, 51 / 101, 1 / 2),
    ([(LEFT, 0.8, CAT), ((75, 75, 99, 99), 0.8, DOG)], 1.6 / 3.2, 51 / 101, 1 / 2),
    # all there, one with half its score: it falls below the threshold of F1 at most
    ([(LEFT, 0.8, CAT), (RIGHT, 0.4, DOG)], 2.4 / 2.8, 1, 1),
    ([(LEFT, 0.8, CAT), (RIGHT, 0.2, DOG)], 2.0 / 2.6, 1, 2 / 3),
])
def test_each_kind_of_loss(
    other: list[tuple[tuple[float, ...], float, int]], weighted: float, ap50: float, f1: float
) -> None:
    reference = [found((LEFT, 0.8, CAT), (RIGHT, 0.8, DOG))]
    agreement = measure_agreement(reference, [found(*other)])
    assert agreement.weighted == pytest.approx(weighted, abs=1e-4)
    assert agreement.ap50 == pytest.approx(ap50, abs=1e-4)
    assert agreement.f1 == pytest.approx(f1, abs=1e-4)


def test_a_false_alarm_above_the_rest_lowers_the_precision() -> None:
    reference = [found((LEFT, 0.8, CAT))]
    other = [found(((0, 50, 40, 90), 0.9, CAT), (LEFT, 0.7, CAT))]
    assert measure_agreement(reference, other).ap50 == pytest.approx(0.5)


def test_what_pairs_with_an_unsure_one_is_no_false_alarm() -> None:
    reference = [found((LEFT, 0.8, CAT), (RIGHT, 0.2, CAT))]
    other = [found((RIGHT, 0.9, CAT), (LEFT, 0.8, CAT))]
    assert measure_agreement(reference, other).ap50 == 1


def test_sure_ones_are_paired_before_unsure_ones() -> None:
    near, nearer = (0, 0, 40, 32), (0, 0, 40, 38)
    reference = found((near, 0.8, CAT), (nearer, 0.1, CAT))
    assert match(reference, found((LEFT, 0.9, CAT))).tolist() == [0]
    twice = found((LEFT, 0.9, CAT), (LEFT, 0.8, CAT), (LEFT, 0.7, CAT))
    assert match(reference, twice).tolist() == [0, 1, -1]
