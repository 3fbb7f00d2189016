"""Letterbox: laws of the geometry, and agreement with what cv2.resize really does."""

from __future__ import annotations

import math

import cv2
from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.errors import SettingError

sides = st.one_of(st.integers(1, 4096), st.integers(1, 20_000))
sizes = st.tuples(sides, sides)
strides = st.sampled_from([8, 16, 32, 64])


@st.composite
def letterboxes(draw: st.DrawFn) -> Letterbox:
    source = draw(sizes)
    if draw(st.booleans()):
        return fit_letterbox(source, draw(st.tuples(st.integers(1, 1280), st.integers(1, 1280))))
    stride = draw(strides)
    return fit_rectangle(source, stride * draw(st.integers(1, 20)), stride)


def boxes_within(size_wh: tuple[int, int], seed: int, count: int = 20) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, 1, (count, 4)) * np.array(size_wh * 2)
    boxes = np.hstack([
        np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:]),
    ])
    return boxes.astype(np.float32)


@given(letterboxes())
@example(fit_letterbox((1, 10_000), (640, 640)))
@example(fit_letterbox((10_000, 1), (640, 384)))
@example(fit_rectangle((1, 1), 640, 32))
@settings(max_examples=500)
def test_the_scaled_image_lies_centred_within_the_network_input(box: Letterbox) -> None:
    for axis in (0, 1):
        resized, network, offset = box.resized_wh[axis], box.network_wh[axis], box.offset_xy[axis]
        assert 1 <= resized <= network
        assert offset >= 0
        assert 0 <= (network - resized - offset) - offset <= 1


@given(letterboxes())
@settings(max_examples=500)
def test_one_axis_fills_the_network_up_to_a_stride(box: Letterbox) -> None:
    assert any(box.resized_wh[axis] == box.network_wh[axis] for axis in (0, 1))


@given(sizes, st.tuples(st.integers(1, 1280), st.integers(1, 1280)))
@settings(max_examples=500)
def test_the_aspect_ratio_is_kept_to_half_a_pixel(
    source: tuple[int, int], network: tuple[int, int]
) -> None:
    scale = min(network[0] / source[0], network[1] / source[1])
    for side, resized in zip(source, fit_letterbox(source, network).resized_wh, strict=True):
        assert abs(resized - side * scale) <= 0.5 or resized == 1


def to_network(box: Letterbox, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Map boxes (n, 4) from source pixels to network pixels."""
    offset, scale = (np.array(each * 2, np.float64) for each in (box.offset_xy, box.scale_xy))
    return (boxes_xyxy * scale + offset).astype(np.float32)


@given(letterboxes(), st.integers(0, 2**32 - 1))
@settings(max_examples=500)
def test_boxes_come_back_from_the_network(box: Letterbox, seed: int) -> None:
    boxes = boxes_within(box.source_wh, seed)
    there = to_network(box, boxes)
    back = box.to_source(there)
    # float32 resolves 1/8192 of a pixel at 1,000 and network coordinates are magnified on the way
    tolerance = 1e-3 * np.maximum(1, 1 / np.array(box.scale_xy * 2))
    assert np.all(np.abs(back - boxes) <= tolerance)
    assert np.all(np.abs(to_network(box, back) - there) <= 1e-3 * np.maximum(1, box.scale_xy * 2))


@given(sizes.filter(lambda size: max(size) <= 4096), st.integers(0, 2**32 - 1))
def test_boxes_of_usual_images_come_back_within_a_thousandth_of_a_pixel(
    source: tuple[int, int], seed: int
) -> None:
    box = fit_rectangle(source, 640, 32)
    boxes = boxes_within(source, seed)
    assert np.abs(box.to_source(to_network(box, boxes)) - boxes).max() <= 1e-3


@given(letterboxes())
def test_image_corners_map_to_the_corners_of_the_scaled_image(box: Letterbox) -> None:
    (left, top), (width, height) = box.offset_xy, box.resized_wh
    there = to_network(box, np.array([[0, 0, *box.source_wh]], np.float32))
    assert np.allclose(there, [[left, top, left + width, top + height]], atol=1e-3)


@given(letterboxes(), st.integers(0, 2**32 - 1))
def test_boxes_are_clipped_to_the_source(box: Letterbox, seed: int) -> None:
    wild = np.random.default_rng(seed).uniform(-5000, 5000, (20, 4)).astype(np.float32)
    found = box.to_source(wild)
    assert found.dtype == np.float32
    assert np.all(found >= 0)
    assert np.all(found <= np.array(box.source_wh * 2))


def test_no_boxes_stay_no_boxes() -> None:
    box = fit_letterbox((1920, 1080), (640, 640))
    none = np.empty((0, 4), np.float32)
    assert box.to_source(none).shape == to_network(box, none).shape == (0, 4)


# ---- rectangles


@given(sizes, strides, st.integers(1, 20))
@example((1280, 65), 32, 20)  # 32.5 rows: the scaled image must not be narrowed to fit 32
@example((10_000, 1), 32, 20)
@settings(max_examples=500)
def test_the_rectangle_is_the_smallest_multiple_of_the_stride(
    source: tuple[int, int], stride: int, cells: int
) -> None:
    longer = stride * cells
    box = fit_rectangle(source, longer, stride)
    assert max(box.network_wh) == max(box.resized_wh) == longer
    for axis in (0, 1):
        exact = max(1, round(source[axis] * longer / max(source)))
        assert box.resized_wh[axis] == exact
        assert box.network_wh[axis] == stride * math.ceil(exact / stride)


@pytest.mark.parametrize(('source', 'network', 'resized'), [
    ((1920, 1080), (640, 384), (640, 360)),
    ((1080, 1920), (384, 640), (360, 640)),
    ((640, 480), (640, 480), (640, 480)),
    ((500, 500), (640, 640), (640, 640)),
    ((1, 1), (640, 640), (640, 640)),
    ((1, 10_000), (32, 640), (1, 640)),
    ((10_000, 1), (640, 32), (640, 1)),
    ((20_000, 19_999), (640, 640), (640, 640)),
])
def test_known_rectangles(
    source: tuple[int, int], network: tuple[int, int], resized: tuple[int, int]
) -> None:
    box = fit_rectangle(source, 640, 32)
    assert (box.network_wh, box.resized_wh) == (network, resized)


@pytest.mark.parametrize(('longer', 'nearest'), [
    (0, 32), (-32, 32), (1, 32), (31, 32), (639, 640), (641, 640), (100, 96),
])
def test_a_size_off_the_stride_is_refused_with_the_nearest(longer: int, nearest: int) -> None:
    with pytest.raises(SettingError, match=f'stride 32, got {longer}; the nearest is {nearest}'):
        fit_rectangle((640, 480), longer, 32)


# ---- against real pixels


@pytest.mark.parametrize('source', [
    (1920, 1080), (1279, 719), (640, 480), (333, 777), (100, 60), (4000, 300), (641, 641),
])
def test_box_edges_land_where_cv2_puts_them(source: tuple[int, int]) -> None:
    """The edge of a bright block, measured as the sum of grey over a row, to sub-pixels."""
    box = fit_rectangle(source, 640, 32)
    width, height = source
    left, top, right, bottom = width // 4, height // 3, width * 3 // 4, height * 5 // 6
    picture = np.zeros((height, width), np.float32)
    picture[top:bottom, left:right] = 1
    interpolation = cv2.INTER_AREA if max(source) > 640 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, box.resized_wh, interpolation=interpolation)
    across, down = scaled.max(axis=0), scaled.max(axis=1)
    middle_x, middle_y = len(across) // 2, len(down) // 2
    measured = np.array([[
        middle_x - across[:middle_x].sum(), middle_y - down[:middle_y].sum(),
        middle_x + across[middle_x:].sum(), middle_y + down[middle_y:].sum(),
    ]]) + np.array(box.offset_xy * 2)
    predicted = to_network(box, np.array([[left, top, right, bottom]], np.float32))
    assert np.abs(measured - predicted).max() <= 0.02
