"""Decode: every output form against a double-precision reference of the official formulas."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.decode import (
    Candidates,
    decode_outputs,
    select_detections,
    thresholds_of,
)
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.core.forms.recognise import recognise_model
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle
from yolov7_trt_ros.errors import InferenceError
from yolov7_trt_ros.testing import fake_spec

NETWORK = (128, 96)
STRIDES = (8, 16, 32)
ANCHORS = ANCHOR_SETS['yolov7-tiny']
WHOLE = fit_letterbox(NETWORK, NETWORK)
LOW = DetectSettings(score_threshold=0.05, iou_threshold=0.45)


# ---- a synthetic network and its reference


def make_logits(
    num_classes: int, seed: int, network_wh: tuple[int, int] = NETWORK
) -> list[np.ndarray]:
    """Raw heads (1, 3, h, w, 5 + C), smallest stride first; about one cell in ten is likely."""
    rng = np.random.default_rng(seed)
    heads = []
    for stride in STRIDES:
        shape = (1, 3, network_wh[1] // stride, network_wh[0] // stride, 5 + num_classes)
        head = rng.normal(0, 1.2, shape)
        head[..., 4] = np.where(rng.random(shape[:-1]) < 0.1, 2.0, -5.0) + rng.normal(
            0, 0.5, shape[:-1]
        )
        heads.append(head.astype(np.float32))
    return heads


def reference_grid(
    heads: list[np.ndarray], anchors: Any = ANCHORS, strides: tuple[int, ...] = STRIDES
) -> np.ndarray:
    """YOLOv7's published formulas, cell by cell in double precision: (1, rows, 5 + C)."""
    rows = []
    for head, stride, sizes in zip(heads, strides, anchors, strict=True):
        sigmoid = 1 / (1 + np.exp(-head[0].astype(np.float64)))
        for anchor, (width, height) in enumerate(sizes):
            for y in range(head.shape[2]):
                for x in range(head.shape[3]):
                    s = sigmoid[anchor, y, x]
                    rows.append([
                        (2 * s[0] - 0.5 + x) * stride,
                        (2 * s[1] - 0.5 + y) * stride,
                        (2 * s[2]) ** 2 * width,
                        (2 * s[3]) ** 2 * height,
                        *s[4:],
                    ])
    return np.array([rows])


def spec_of(outputs: list[tuple[str, np.ndarray]], **options: Any) -> ModelSpec:
    network = options.pop('network_wh', NETWORK)
    return recognise_model(
        [TensorInfo('images', (1, 3, network[1], network[0]), 'float32')],
        [TensorInfo(name, value.shape, str(value.dtype)) for name, value in outputs],
        {}, probe_wh=network, values=options.pop('values', None), **options,
    )


def run(
    outputs: list[tuple[str, np.ndarray]], settings: DetectSettings = LOW, **options: Any
) -> Candidates:
    """Recognise, then decode in the order the spec asks for, as an engine does."""
    spec = spec_of(outputs, **options)
    by_name = dict(outputs)
    return decode_outputs(spec, [by_name[name] for name in spec.outputs], settings)


def as_pair(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corner boxes and per-class scores."""
    half = grid[..., 2:4] / 2
    boxes = np.concatenate([grid[..., :2] - half, grid[..., :2] + half], axis=2)
    scores = grid[..., 4:5] * (grid[..., 5:] if grid.shape[2] > 6 else 1)
    return boxes.astype(np.float32), scores.astype(np.float32)


def assert_same(one: Candidates, other: Candidates) -> None:
    assert len(one.scores) > 0
    assert np.array_equal(one.class_ids, other.class_ids)
    assert np.allclose(one.scores, other.scores, atol=1e-5)
    assert np.allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)


def reference_candidates(
    grid: np.ndarray, threshold: float, multi_label: bool = False
) -> list[tuple[int, float, list[float]]]:
    """In the order of the grid's rows, then of the classes."""
    found = []
    for row in grid[0]:
        cx, cy, w, h = row[:4]
        box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        scores = row[4] * row[5:] if len(row) > 6 else row[4:5]
        classes = range(len(scores)) if multi_label else [int(np.argmax(scores))]
        found += [(c, scores[c], box) for c in classes if scores[c] > threshold]
    return found


def assert_equals_reference(found: Candidates, expected: list[Any]) -> None:
    assert len(found.scores) == len(expected) > 0
    assert found.class_ids.tolist() == [c for c, _, _ in expected]
    assert np.allclose(found.scores, [s for _, s, _ in expected], atol=1e-5)
    assert np.allclose(found.boxes_xyxy, [b for _, _, b in expected], atol=1e-2)


# ---- one network in every output form


@pytest.mark.parametrize('num_classes', [1, 2, 80])
@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize('threshold', [0.001, 0.05, 0.4])
def test_grid_and_raw_heads_equal_the_reference(
    num_classes: int, multi_label: bool, threshold: float
) -> None:
    heads = make_logits(num_classes, seed=num_classes)
    grid = reference_grid(heads)
    settings = DetectSettings(score_threshold=threshold, multi_label=multi_label)
    expected = reference_candidates(grid, threshold, multi_label)
    assert_equals_reference(run([('output', grid.astype(np.float32))], settings), expected)
    raw = [(f'head{index}', head) for index, head in enumerate(heads)]
    assert_equals_reference(run(raw, settings, anchors=ANCHORS), expected)


@pytest.mark.parametrize('num_classes', [1, 3, 80])
def test_all_forms_find_the_same(num_classes: int) -> None:
    heads = make_logits(num_classes, seed=7)
    grid = reference_grid(heads)
    boxes, scores = as_pair(grid)
    centres = grid[..., :4].astype(np.float32)
    from_grid = run([('output', grid.astype(np.float32))])
    raw = [('a', heads[0]), ('b', heads[1]), ('c', heads[2])]
    assert_same(from_grid, run(raw, anchors=ANCHORS))
    assert_same(from_grid, run([('boxes', boxes), ('scores', scores)]))
    assert_same(from_grid, run([('x', centres), ('y', scores)], boxes_are_centres=True))
    swapped = [('boxes', scores), ('classes', boxes)]  # as --include-nms names them
    assert_same(from_grid, run(swapped))

    found = select_detections(from_grid, WHOLE, LOW)
    end2end = as_end2end(found)
    for outputs in end2end:
        finished = run(outputs)
        assert finished.suppressed
        again = select_detections(finished, WHOLE, LOW)
        assert np.allclose(again.boxes_xyxy, found.boxes_xyxy, atol=1e-3)
        assert np.array_equal(again.scores, found.scores)
        assert np.array_equal(again.class_ids, found.class_ids)


def as_end2end(found: Detections, room: int = 300) -> list[list[tuple[str, np.ndarray]]]:
    """Return what TensorRT's plugin and ONNX Runtime's NMS give, with rubbish past the count."""
    count = len(found)
    boxes = np.full((1, room, 4), np.nan, np.float32)
    scores = np.full((1, room), np.nan, np.float32)
    classes = np.full((1, room), -1, np.int32)
    boxes[0, :count], scores[0, :count] = found.boxes_xyxy, found.scores
    classes[0, :count] = found.class_ids
    rows = np.column_stack([
        np.zeros(count), found.boxes_xyxy, found.class_ids, found.scores
    ]).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(count)
    return [
        [('num_dets', np.array([[count]], np.int32)), ('det_boxes', boxes),
         ('det_scores', scores), ('det_classes', classes)],
        [('d', classes), ('c', scores), ('b', boxes), ('a', np.array([[count]], np.int32))],
        [('output', rows)],
        [('output', rows[shuffled])],
    ]


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize('flat', [False, True])
def test_heads_of_any_order_name_and_rank(order: tuple[int, ...], flat: bool) -> None:
    heads = make_logits(4, seed=3)
    expected = reference_candidates(reference_grid(heads), LOW.score_threshold)
    shaped = [
        # (1, A, h, w, V) -> (1, A * V, h, w), what the convolution itself gives
        head.transpose(0, 1, 4, 2, 3).reshape(1, -1, *head.shape[2:4]) if flat else head
        for head in heads
    ]
    names = ['354', 'output', 'zebra']
    outputs = [(names[index], shaped[index]) for index in order]
    assert_equals_reference(run(outputs, anchors=ANCHORS), expected)


def test_four_heads_of_a_p6_model() -> None:
    rng = np.random.default_rng(5)
    network, strides = (128, 128), (8, 16, 32, 64)
    heads = [rng.normal(0, 1.5, (1, 3, 128 // s, 128 // s, 7)).astype(np.float32) for s in strides]
    anchors = ANCHOR_SETS['yolov7-p6']
    grid = reference_grid(heads, anchors, strides)
    expected = reference_candidates(grid, LOW.score_threshold)
    raw = [(f'{index}', head) for index, head in enumerate(heads)]
    assert_equals_reference(run(raw, network_wh=network), expected)
    as_grid = [('output', grid.astype(np.float32))]
    assert_equals_reference(run(as_grid, network_wh=network), expected)


def test_raw_heads_beside_a_grid_are_ignored() -> None:
    heads = make_logits(4, seed=3)
    grid = reference_grid(heads).astype(np.float32)
    outputs = [('354', heads[0]), ('output', grid), ('366', heads[1]), ('378', heads[2])]
    assert spec_of(outputs).outputs == ('output',)
    assert_same(run(outputs), run([('output', grid)]))


def test_float16_outputs() -> None:
    heads = make_logits(4, seed=3)
    grid = reference_grid(heads)
    settings = DetectSettings(score_threshold=0.3)
    expected = reference_candidates(grid, 0.3)
    for outputs, options in (
        ([('output', grid.astype(np.float16))], {}),
        ([(str(i), head.astype(np.float16)) for i, head in enumerate(heads)],
         {'anchors': ANCHORS}),
    ):
        found = run(outputs, settings, **options)
        assert found.scores.dtype == found.boxes_xyxy.dtype == np.float32
        assert abs(len(found.scores) - len(expected)) <= 1
        best = np.argsort(-found.scores)[:5]
        for index in best:
            distance = min(np.abs(np.array(box) - found.boxes_xyxy[index]).max()
                           for _, _, box in expected)
            assert distance < 0.5


def test_the_score_of_one_class_is_objectness_alone() -> None:
    grid = np.zeros((1, 756, 6), np.float32)
    grid[0, 5] = [50, 50, 20, 20, 0.8, 0.1]
    assert run([('output', grid)]).scores.tolist() == [np.float32(0.8)]


def test_multi_label_gives_one_candidate_per_class() -> None:
    grid = np.zeros((1, 756, 8), np.float32)
    grid[0, 5] = [50, 50, 20, 20, 0.5, 0.9, 0.7, 0.01]
    best = run([('output', grid)])
    every = run([('output', grid)], dataclasses.replace(LOW, multi_label=True))
    assert best.class_ids.tolist() == [0]
    assert every.class_ids.tolist() == [0, 1]
    assert every.scores.tolist() == pytest.approx([0.45, 0.35])


def test_logits_beyond_float32_exp_are_harmless() -> None:
    heads = make_logits(3, seed=1)
    heads[0][0, 0, 0, 0] = [-500, 500, -500, 500, 500, 500, -500, -500]
    with np.errstate(all='raise', under='ignore', over='raise'):
        found = run([(str(i), head) for i, head in enumerate(heads)], anchors=ANCHORS)
    first = found.boxes_xyxy[np.argmax(found.scores)]
    assert first.tolist() == pytest.approx([-4, 12 - 26, -4, 12 + 26])


# ---- thresholds


@pytest.mark.parametrize('form', ['grid', 'raw', 'pair'])
def test_threshold_1_finds_nothing_and_0_everything_above_it(form: str) -> None:
    heads = make_logits(2, seed=2)
    grid = reference_grid(heads)
    outputs = {
        'grid': [('output', grid.astype(np.float32))],
        'raw': [(str(i), head) for i, head in enumerate(heads)],
        'pair': [('b', as_pair(grid)[0]), ('s', as_pair(grid)[1])],
    }[form]
    options = {'anchors': ANCHORS} if form == 'raw' else {}
    assert len(run(outputs, DetectSettings(score_threshold=1.0), **options).scores) == 0
    every = run(outputs, DetectSettings(score_threshold=0.0), **options)
    assert len(every.scores) == grid.shape[1]
    none = select_detections(
        run(outputs, DetectSettings(score_threshold=1.0), **options), WHOLE, LOW
    )
    assert len(none) == 0 and none.source_wh == NETWORK


def test_finished_detections_are_thresholded_too() -> None:
    found = Detections(
        np.array([[0, 0, 9, 9], [20, 20, 40, 40]], np.float32),
        np.array([0.9, 0.2], np.float32), np.array([1, 2], np.int32), NETWORK,
    )
    for outputs in as_end2end(found):
        assert run(outputs, DetectSettings(score_threshold=0.5)).class_ids.tolist() == [1]


@pytest.mark.parametrize('count', [-3, 0, 500])
def test_a_count_out_of_range_is_held_to_what_there_is(count: int) -> None:
    outputs = [
        ('num_dets', np.array([[count]], np.int32)), ('boxes', np.ones((1, 100, 4), np.float32)),
        ('scores', np.ones((1, 100), np.float32)), ('classes', np.zeros((1, 100), np.int32)),
    ]
    assert len(run(outputs).scores) == (100 if count == 500 else 0)


# ---- NaN and infinity


@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize(('form', 'column'), [
    ('grid', 0), ('grid', 3), ('grid', 4), ('grid', 6), ('raw', 0), ('raw', 4), ('raw', 6),
    ('pair', 0), ('pair', 4),
])
def test_bad_numbers_of_a_candidate_are_an_inference_error(
    form: str, column: int, bad: float, multi_label: bool
) -> None:
    heads = make_logits(2, seed=2)
    heads[1][0, 1, 2, 3, 4:] = 4  # surely a candidate
    row = 3 * 16 * 12 + (1 * 6 + 2) * 8 + 3
    grid = reference_grid(heads).astype(np.float32)
    boxes, scores = as_pair(grid)
    if form == 'grid':
        grid[0, row, column] = bad
        outputs = [('output', grid)]
    elif form == 'raw':
        heads[1][0, 1, 2, 3, column] = bad
        outputs = [(str(i), head) for i, head in enumerate(heads)]
        if bad == np.inf and column != 4:
            return  # a sigmoid takes infinity to 1
    else:
        (boxes if column < 4 else scores)[0, row, column % 4] = bad
        outputs = [('b', boxes), ('s', scores)]
    options = {'anchors': ANCHORS} if form == 'raw' else {}
    with pytest.raises(InferenceError, match='NaN or infinite'):
        run(outputs, dataclasses.replace(LOW, multi_label=multi_label), **options)


def test_objectness_of_minus_infinity_is_an_inference_error() -> None:
    heads = make_logits(2, seed=2)
    heads[0][0, 0, 0, 0, 4] = -np.inf
    with pytest.raises(InferenceError, match='1 objectness logit value'):
        run([(str(i), head) for i, head in enumerate(heads)], anchors=ANCHORS)


@pytest.mark.parametrize('index', range(4))
def test_bad_numbers_of_a_finished_model_are_an_inference_error(index: int) -> None:
    found = Detections(
        np.array([[0, 0, 9, 9]], np.float32), np.array([np.nan], np.float32),
        np.array([0], np.int32), NETWORK,
    )
    with pytest.raises(InferenceError, match='NaN or infinite'):
        run(as_end2end(found)[index])


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_random_bits_give_detections_or_inference_error(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    grid = reference_grid(make_logits(3, seed=0)).astype(np.float32)
    chosen = rng.integers(0, grid.shape[1], rows)
    grid[0, chosen] = rng.integers(0, 2**32, (rows, 8), np.uint32).view(np.float32)
    try:
        with np.errstate(all='ignore'):
            found = select_detections(run([('output', grid)]), WHOLE, LOW)
    except InferenceError:
        return
    assert np.all((found.scores >= 0) & (found.scores <= 1))
    assert np.all(found.boxes_xyxy[:, 2:] > found.boxes_xyxy[:, :2])


# ---- select_detections


def candidates(*found: tuple[list[float], float, int], suppressed: bool = False) -> Candidates:
    return Candidates(
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([class_id for _, _, class_id in found], np.int32),
        suppressed,
    )


def test_boxes_are_mapped_to_source_pixels_and_clipped() -> None:
    box = fit_rectangle((1920, 1080), 640, 32)  # 640 x 360 in 640 x 384, 12 above
    found = select_detections(
        candidates(([10, 22, 110, 112], 0.9, 0), ([-50, -50, 700, 500], 0.8, 1)), box, LOW
    )
    assert found.boxes_xyxy.tolist() == [[30, 30, 330, 300], [0, 0, 1920, 1080]]
    assert found.source_wh == (1920, 1080)


@pytest.mark.parametrize('suppressed', [False, True])
def test_boxes_in_the_border_are_dropped_and_take_no_place(suppressed: bool) -> None:
    box = fit_rectangle((1920, 1080), 640, 32)
    found = select_detections(
        candidates(
            ([10, 0, 50, 11], 0.9, 0), ([10, 374, 50, 384], 0.8, 0), ([20, 30, 20, 40], 0.7, 0),
            ([10, 100, 50, 150], 0.6, 0), suppressed=suppressed,
        ),
        box, DetectSettings(max_detections=1),
    )
    assert found.scores.tolist() == [np.float32(0.6)]


@pytest.mark.parametrize('suppressed', [False, True])
def test_the_best_come_first_and_no_more_than_asked_for(suppressed: bool) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 90, (500, 2))
    boxes = np.hstack([corner, corner + 2]).astype(np.float32)
    scores = rng.uniform(0.3, 1, 500).astype(np.float32)
    many = Candidates(boxes, scores, np.zeros(500, np.int32), suppressed)
    found = select_detections(many, WHOLE, DetectSettings(max_detections=7))
    every = select_detections(many, WHOLE, DetectSettings(max_detections=1000))
    assert len(found) == 7
    assert np.all(np.diff(found.scores) <= 0)
    assert np.array_equal(found.boxes_xyxy, every.boxes_xyxy[:7])


@pytest.mark.parametrize('suppressed', [False, True])
def test_the_class_filter(suppressed: bool) -> None:
    found = candidates(
        ([0, 0, 10, 10], 0.9, 0), ([20, 0, 30, 10], 0.8, 1), ([40, 0, 50, 10], 0.7, 2),
        suppressed=suppressed,
    )

    def classes(wanted: frozenset[int] | None) -> list[int]:
        settings = DetectSettings(class_ids=wanted)
        return select_detections(found, WHOLE, settings).class_ids.tolist()

    assert classes(None) == [0, 1, 2]
    assert classes(frozenset({2, 0, 77})) == [0, 2]
    assert classes(frozenset()) == []


@pytest.mark.parametrize('suppressed', [False, True])
def test_classes_have_thresholds_of_their_own(suppressed: bool) -> None:
    found = candidates(
        ([0, 0, 10, 10], 0.9, 0), ([20, 0, 30, 10], 0.5, 1), ([40, 0, 50, 10], 0.3, 2),
        suppressed=suppressed,
    )

    def classes(*thresholds: tuple[int, float], **others: Any) -> list[int]:
        settings = DetectSettings(class_thresholds=thresholds, **others)
        return select_detections(found, WHOLE, settings).class_ids.tolist()

    assert classes() == [0, 1, 2]
    assert classes((1, 0.6), (2, 0.1)) == [0, 2]
    assert classes((1, 0.5)) == [0, 2], 'above, not at'
    assert classes((2, 0.2), score_threshold=0.6) == [0, 2]
    assert classes((0, 0.1), (2, 0.1), class_ids=frozenset({1, 2})) == [1, 2]
    assert classes((0, 0.95), (77, 0.0)) == [1, 2]


def test_what_is_below_its_own_threshold_neither_suppresses_nor_takes_a_place() -> None:
    found = candidates(([0, 0, 10, 10], 0.5, 0), ([0, 0, 10, 10], 0.4, 1))
    settings = DetectSettings(
        class_thresholds=((0, 0.6),), class_agnostic=True, max_detections=1, max_candidates=1
    )
    assert select_detections(found, WHOLE, settings).class_ids.tolist() == [1]


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_thresholds_of_classes_choose_what_a_low_one_finds(seed: int, multi_label: bool) -> None:
    """Of a model that gives rows: as if a low threshold's result were sorted out afterwards."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.uniform(0, 90, (60, 4)), rng.random((60, 4))], 1)
    spec = dataclasses.replace(fake_spec(('a', 'b', 'c')), outputs=('output',))
    thresholds = {0: float(rng.random()), 2: float(rng.random())}
    settings = DetectSettings(
        score_threshold=0.2, class_thresholds=tuple(thresholds.items()), multi_label=multi_label,
        iou_threshold=1.0, max_detections=1000,
    )
    low = dataclasses.replace(settings, score_threshold=0.0, class_thresholds=())
    output = [rows[np.newaxis].astype(np.float32)]
    found = select_detections(decode_outputs(spec, output, settings), WHOLE, settings)
    every = select_detections(decode_outputs(spec, output, low), WHOLE, low)
    kept = [
        score > np.float32(thresholds.get(int(class_id), 0.2))
        for score, class_id in zip(every.scores, every.class_ids, strict=True)
    ]
    assert np.array_equal(found.boxes_xyxy, every.boxes_xyxy[kept])
    assert np.array_equal(found.class_ids, every.class_ids[kept])


def test_a_filtered_class_does_not_suppress() -> None:
    found = candidates(([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 10], 0.8, 1))
    settings = DetectSettings(class_ids=frozenset({1}), class_agnostic=True)
    assert select_detections(found, WHOLE, settings).class_ids.tolist() == [1]


def test_class_agnostic() -> None:
    found = candidates(([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 10], 0.8, 1))
    assert len(select_detections(found, WHOLE, DetectSettings())) == 2
    assert len(select_detections(found, WHOLE, DetectSettings(class_agnostic=True))) == 1


@given(seed=st.integers(0, 2**32 - 1), most=st.integers(1, 60), levels=st.integers(1, 12))
@settings(max_examples=200)
def test_only_the_best_candidates_enter_nms(seed: int, most: int, levels: int) -> None:
    """As if all were sorted, ties by their order, and cut off after max_candidates."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (50, 2))
    boxes = np.hstack([corner, corner + 15]).astype(np.float32)
    scores = (rng.integers(1, levels + 1, 50) / levels).astype(np.float32)
    classes = rng.integers(0, 2, 50).astype(np.int32)
    first = np.argsort(-scores, kind='stable')[:most]
    cut = select_detections(
        Candidates(boxes, scores, classes), WHOLE, DetectSettings(max_candidates=most)
    )
    sorted_first = select_detections(
        Candidates(boxes[first], scores[first], classes[first]), WHOLE, DetectSettings()
    )
    assert np.array_equal(cut.boxes_xyxy, sorted_first.boxes_xyxy)
    assert np.array_equal(cut.scores, sorted_first.scores)


def test_a_score_above_one_is_reported_as_one() -> None:
    found = select_detections(candidates(([0, 0, 10, 10], 1.001, 0)), WHOLE, LOW)
    assert found.scores.tolist() == [1]


def test_the_layouts_of_this_file_are_all_there_are() -> None:
    assert {layout.name for layout in OutputLayout} == {
        'GRID', 'RAW_HEADS', 'BOXES_AND_SCORES', 'LABELLED', 'END2END_TRT', 'END2END_ORT'
    }


def test_the_least_score_of_each_class_is_its_own_in_whatever_order() -> None:
    settings = DetectSettings(score_threshold=0.5, class_thresholds=((7, 0.25), (2, 0.75)))
    classes = np.array([0, 2, 5, 7, 9, 2**31 - 1], np.int32)
    assert thresholds_of(classes, settings).tolist() == [0.5, 0.75, 0.5, 0.25, 0.5, 0.5]
    for each in (settings, DetectSettings()):
        found = thresholds_of(classes[:0], each)
        assert found.dtype == np.float32 and found.shape == (0,)
