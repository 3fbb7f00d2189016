"""Crops and merging give, bit by bit, what they gave when they went look by look."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.boxes import box_areas, box_iou
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.looks import merge_looks as merging
from yolov7_trt_ros.core.looks.crops import choose_crops, Crop, CropShape, EVEN, MOST_TARGETS
from yolov7_trt_ros.core.looks.look_memory import LookMemory
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.looks.merge_looks import Look, merge_looks

# ---- as it was


def former_crops(boxes_xyxy, weights, source_wh, shape, most, least_weight):
    heaviest = np.argsort(-weights, kind='stable')[:MOST_TARGETS]
    boxes, left_over = boxes_xyxy[heaviest], weights[heaviest].astype(np.float64)
    windows = former_windows(boxes, source_wh, shape)
    holds = former_holding(windows, boxes, source_wh, shape.margin_px + EVEN)
    crops: list[Crop] = []
    while len(crops) < most and len(windows):
        worth = holds @ left_over
        best = int(np.argmax(worth))
        if not worth[best] > least_weight:
            break
        crop = former_centred(boxes[holds[best] & (left_over > 0)], source_wh, shape)
        held = former_holding(np.array([crop]), boxes, source_wh, shape.margin_px)[0]
        left_over[held] = 0.0
        crops.append(crop)
    return crops


def former_windows(boxes, source_wh, shape):
    axes, margin_px = [], shape.margin_px + EVEN
    for axis, side in enumerate(shape.size_in(source_wh)):
        low = boxes[:, axis].astype(np.float64) - margin_px
        high = boxes[:, axis + 2].astype(np.float64) + margin_px - side
        begins = np.stack([low, (low + high) / 2, high], axis=1)
        axes.append(np.clip(begins, 0, source_wh[axis] - side))
    left = np.repeat(axes[0], 3, axis=1).ravel()
    top = np.tile(axes[1], (1, 3)).ravel()
    width, height = shape.size_in(source_wh)
    return np.stack([left, top, left + width, top + height], axis=1)


def former_holding(windows, boxes, source_wh, margin_px):
    inner = former_inner(windows, source_wh, margin_px)
    low = boxes[None, :, :2] >= inner[:, None, :2]
    high = boxes[None, :, 2:] <= inner[:, None, 2:]
    return low.all(axis=2) & high.all(axis=2)


def former_inner(windows, source_wh, margin_px):
    inner = windows.astype(np.float64)
    for axis in (0, 1):
        inner[:, axis] = np.where(windows[:, axis] <= 0, -np.inf, inner[:, axis] + margin_px)
        inner[:, axis + 2] = np.where(
            windows[:, axis + 2] >= source_wh[axis], np.inf, inner[:, axis + 2] - margin_px
        )
    return inner


def former_centred(boxes, source_wh, shape):
    middle = (boxes[:, :2].min(axis=0) + boxes[:, 2:].max(axis=0)) / 2
    begin, size = [], shape.size_in(source_wh)
    for axis, side in enumerate(size):
        place = int((float(middle[axis]) - side / 2) // EVEN) * EVEN
        begin.append(min(max(place, 0), source_wh[axis] - side))
    return Crop(begin[0], begin[1], begin[0] + size[0], begin[1] + size[1])


def former_merge(first, looks, asked, sure_score):
    whole = merging._Found(first.boxes_xyxy, first.scores, first.class_ids)
    shown = [former_uncut(look, first.source_wh) for look in looks]
    shown = [
        former_without_parts(
            each, look.crop, [whole, *shown[:index], *shown[index + 1:]], first.source_wh
        )
        for index, (look, each) in enumerate(zip(looks, shown, strict=True))
    ]
    seconds = former_joined(shown)
    partners = former_partners(whole, seconds)
    paired = partners >= 0
    scores = seconds.scores.copy()
    scores[paired] = merging._pair_scores(
        whole.scores[partners[paired]], seconds.scores[paired], sure_score
    )
    alone = np.ones(len(whole.scores), bool)
    alone[partners[paired]] = False
    merged = former_joined([whole.chosen(alone), seconds._replace(scores=scores)])
    return merging._selected(merged, first.source_wh, asked)


def former_uncut(look, source_wh):
    offset = np.array([look.crop.left, look.crop.top] * 2, np.float32)
    boxes = look.found.boxes_xyxy + offset
    return merging._Found(boxes, look.found.scores, look.found.class_ids).chosen(
        ~former_beyond(boxes, look.crop, source_wh, merging.CUT_PX)
    )


def former_without_parts(found, crop, others, source_wh):
    near = np.flatnonzero(former_beyond(found.boxes, crop, source_wh, merging.NEAR_PX))
    if not len(near):
        return found
    reach = np.array([crop], np.float32)
    wider = former_joined(
        [each.chosen(former_shares(reach, each.boxes)[0] > 0) for each in others]
    )
    wider = wider.chosen(former_beyond(wider.boxes, crop, source_wh, 0.0))
    inside = former_shares(found.boxes[near], wider.boxes) >= merging.MOST_OF_IT
    inside &= found.class_ids[near][:, None] == wider.class_ids[None, :]
    whole = np.ones(len(found.scores), bool)
    whole[near[inside.any(axis=1)]] = False
    return found.chosen(whole)


def former_beyond(boxes, crop, source_wh, margin_px):
    left, top, right, bottom = former_inner(np.array([crop]), source_wh, margin_px)[0]
    return (
        (boxes[:, 0] < left) | (boxes[:, 1] < top)
        | (boxes[:, 2] > right) | (boxes[:, 3] > bottom)
    )


def former_shares(boxes, wider):
    low = np.maximum(boxes[:, None, :2], wider[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], wider[None, :, 2:])
    sides = np.maximum(high - low, 0)
    areas = np.maximum(box_areas(boxes), np.finfo(np.float32).tiny)
    return np.asarray(sides[..., 0] * sides[..., 1] / areas[:, None], np.float32)


def former_partners(whole, seconds):
    partners = np.full(len(seconds.scores), -1, np.intp)
    if not len(whole.scores) or not len(partners):
        return partners
    overlap = box_iou(seconds.boxes, whole.boxes)
    overlap[seconds.class_ids[:, None] != whole.class_ids[None, :]] = 0.0
    near = np.flatnonzero(overlap.max(axis=1) >= merging.SAME_IOU)
    for index in near[np.argsort(-seconds.scores[near], kind='stable')]:
        best = int(np.argmax(overlap[index]))
        if overlap[index, best] >= merging.SAME_IOU:
            partners[index] = best
            overlap[:, best] = 0.0
    return partners


def former_joined(parts):
    return merging._Found(
        np.concatenate([np.empty((0, 4), np.float32), *(part.boxes for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.empty(0, np.int32), *(part.class_ids for part in parts)]),
    )


# ---- the same


def crowd(rng, wh, count, px, whole_pixels=False):
    """Return boxes in heaps; in whole pixels and with few scores many things are equal."""
    heap = rng.integers(0, 1 + count // 5, count)
    middles = (rng.uniform(0, 1, (1 + count // 5, 2)) * wh)[heap] + rng.normal(0, 4, (count, 2))
    sides = rng.uniform(2, px, (1 + count // 5, 2))[heap] * rng.uniform(0.8, 1.2, (count, 2))
    boxes = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1)
    scores = np.exp(rng.uniform(np.log(0.001), 0, count))
    if whole_pixels:
        boxes, scores = np.round(boxes / 4) * 4, np.ceil(scores * 4) / 4
    boxes = np.clip(boxes, 0, [*wh, *wh])
    order = np.argsort(-scores)
    return Detections(
        boxes[order].astype(np.float32), scores[order].astype(np.float32),
        rng.integers(0, 3, count).astype(np.int32), wh,
    )


def zoomed(rng, found, crop, some):
    """Return what a crop may show of some of the boxes of a frame, and other boxes."""
    offset = np.array([crop.left, crop.top] * 2)
    boxes = np.clip(
        found.boxes_xyxy - offset + rng.integers(-2, 3, (len(found), 4)), 0, crop.size_wh * 2
    )
    shown = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes = np.concatenate([boxes[shown], some.boxes_xyxy])
    scores = np.concatenate([found.scores[shown], some.scores]) * rng.choice([0.5, 1.0])
    class_ids = np.concatenate([found.class_ids[shown], some.class_ids])
    order = np.argsort(-scores, kind='stable')
    return Detections(
        boxes[order].astype(np.float32), scores[order].astype(np.float32), class_ids[order],
        crop.size_wh,
    )


SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(0, 90)


@settings(deadline=None, max_examples=100)
@given(
    SEEDS, COUNTS, st.booleans(), st.integers(40, 900), st.integers(40, 900),
    st.integers(32, 200), st.integers(0, 14), st.integers(-1, 7), st.floats(0, 0.6),
)
def test_crops_are_placed_as_before(
    seed, count, whole_pixels, width, height, half_px, margin_px, most, least
):
    found = crowd(np.random.default_rng(seed), (width, height), count, half_px, whole_pixels)
    weights = found.scores * (1 - found.scores)
    asked = (
        found.boxes_xyxy, weights, (width, height), CropShape(2 * half_px, margin_px), most, least
    )
    assert choose_crops(*asked) == former_crops(*asked)


WH = (400, 301)
SETTINGS = (
    DetectSettings(), DetectSettings(score_threshold=0.001, max_detections=300),
    DetectSettings(score_threshold=0, iou_threshold=1.0, class_agnostic=True),
    DetectSettings(score_threshold=0.4, class_thresholds=((1, 0.1),), max_detections=5),
)


@pytest.mark.parametrize('compared', [merging.MOST_COMPARED, 50])
@settings(deadline=None, max_examples=100)
@given(
    SEEDS, COUNTS, st.lists(st.integers(0, 30), max_size=5), st.booleans(),
    st.sampled_from(SETTINGS), st.sampled_from([0.0, 0.5, 0.9]),
)
def test_looks_are_merged_as_before(compared, seed, count, counts, whole_pixels, asked, sure):
    rng = np.random.default_rng(seed)
    first, looks = crowd(rng, WH, count, 150, whole_pixels), []
    for each in counts:
        left, top = 2 * int(rng.integers(0, 137)), 2 * int(rng.integers(0, 87))
        crop = Crop(left, top, left + 128, top + 127 + (top == 172) * 2)
        some = crowd(rng, crop.size_wh, each, 90, whole_pixels)
        looks.append(Look(crop, zoomed(rng, first, crop, some)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, 'MOST_COMPARED', compared)
        merged = merge_looks(first, looks, asked, sure)
    expected = former_merge(first, looks, asked, sure)
    for left, right in zip(vars(merged).values(), vars(expected).values(), strict=True):
        assert np.array_equal(left, right)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.lists(COUNTS, min_size=2, max_size=6), st.sampled_from([None, (0,), (0, 2)]))
def test_a_stream_is_remembered_as_before(seed, counts, class_ids):
    rng, options = np.random.default_rng(seed), LookOptions(object_px=40)
    meant = None if class_ids is None else frozenset(class_ids)
    memory, former = LookMemory(options, meant), LookMemory(options, meant)
    former._is_meant = lambda boxes, ids: (
        ((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) <= options.object_px)
        & (True if class_ids is None else np.isin(ids, class_ids))
    )
    for count in counts:
        found = crowd(rng, WH, count, 60, whole_pixels=True)
        for left, right in zip(memory.targets(found), former.targets(found), strict=True):
            assert np.array_equal(left, right)
        for each in (memory, former):
            each.remember(found, [Crop(0, 0, 128, 128)])
