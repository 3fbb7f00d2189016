"""Laws of crops: within the frame, no more than asked for, and their targets whole."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.image import ENCODINGS, PixelLayout
from yolov7_trt_ros.core.looks.crops import choose_crops, Crop, CropShape, cut, holding, tile
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.testing import encoded_view, smooth_picture

SIDES = st.integers(32, 120).map(lambda half: 2 * half)


@st.composite
def frames(draw):
    """Return a frame's size, a shape of crops, and targets that fit into one."""
    source_wh = draw(st.integers(20, 900)), draw(st.integers(20, 900))
    shape = CropShape(draw(SIDES), draw(st.integers(0, 8)))
    most_px = shape.side_px - 2 * shape.margin_px - 4 - 1e-3  # float32 may make it a little more
    boxes = []
    for _ in range(draw(st.integers(0, 12))):
        wh = [draw(st.floats(1, min(most_px, side))) for side in source_wh]
        low = [draw(st.floats(0, side - own)) for side, own in zip(source_wh, wh, strict=True)]
        boxes.append([*low, low[0] + wh[0], low[1] + wh[1]])
    weights = [draw(st.floats(0.01, 0.25)) for _ in boxes]
    return (
        source_wh, shape, np.array(boxes, np.float32).reshape(-1, 4),
        np.array(weights, np.float32),
    )


@settings(deadline=None, max_examples=40)
@given(frames(), st.integers(0, 5))
def test_crops_are_few_enough_of_one_size_and_within_the_frame(frame, most):
    source_wh, shape, boxes, weights = frame
    crops = choose_crops(boxes, weights, source_wh, shape, most)
    assert len(crops) <= most
    for crop in crops:
        assert crop.left >= 0 and crop.top >= 0
        assert crop.right <= source_wh[0] and crop.bottom <= source_wh[1]
        assert crop.size_wh == shape.size_in(source_wh)


@settings(deadline=None, max_examples=40)
@given(frames())
def test_each_target_is_whole_in_some_crop_and_no_crop_is_without_one_of_its_own(frame):
    source_wh, shape, boxes, weights = frame
    crops = choose_crops(boxes, weights, source_wh, shape, len(boxes))
    if not len(boxes):
        assert crops == []
        return
    holds = holding(np.array(crops), boxes, source_wh, shape.margin_px)
    assert holds.any(axis=0).all()
    for index in range(len(crops)):
        assert (holds[index] & ~holds[:index].any(axis=0)).any()


@settings(deadline=None, max_examples=40)
@given(frames(), st.floats(0, 0.6))
def test_the_most_worthwhile_comes_first_and_what_is_worth_too_little_not_at_all(frame, least):
    source_wh, shape, boxes, weights = frame
    crops = choose_crops(boxes, weights, source_wh, shape, 5, least)
    assert crops == choose_crops(boxes, weights, source_wh, shape, 9, least)[:5]
    left, worth = weights.astype(np.float64), []
    for crop in crops:
        held = holding(np.array([crop]), boxes, source_wh, shape.margin_px)[0]
        worth.append(left[held].sum())
        left[held] = 0
    assert all(each > least for each in worth)


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 900), st.integers(20, 900), SIDES, st.integers(0, 12))
def test_tiles_show_the_whole_frame_and_overlap_by_two_margins(width, height, side_px, margin_px):
    shape = CropShape(side_px, margin_px)
    crops = tile((width, height), shape)
    seen = np.zeros((height, width), bool)
    for crop in crops:
        assert crop.size_wh == shape.size_in((width, height))
        seen[crop.top:crop.bottom, crop.left:crop.right] = True
    assert seen.all()
    for axis in (0, 1):
        begins = sorted({crop[axis] for crop in crops})
        ends = sorted({crop[axis + 2] for crop in crops})
        assert all(
            end - begin >= 2 * margin_px for end, begin in zip(ends, begins[1:], strict=False)
        )


@pytest.mark.parametrize('name', sorted({each.name for each in ENCODINGS.values()}))
def test_a_crop_shows_what_is_there_in_every_encoding(name):
    rgb = smooth_picture(64, 48)
    image, crop = encoded_view(rgb, name, step_padding=4), Crop(10, 8, 42, 40)
    view = cut(image, crop)
    assert view.size_wh == (32, 32) and view.encoding is image.encoding
    whole = to_bgr(image)[8:40, 10:42].astype(int)
    inner = slice(2, -2)  # a mosaic's colours at the border come from fewer neighbours
    assert np.abs(to_bgr(view).astype(int) - whole)[inner, inner].max() <= 1


@pytest.mark.parametrize(('name', 'size_wh', 'layout'), [
    ('bayer_rggb8', (161, 121), (2, 2)), ('bayer_grbg8', (161, 120), (81, 65)),
    ('bayer_rggb8', (160, 120), (81, 65)), ('uyvy', (160, 121), (81, 65)),
    ('nv12', (160, 120), (81, 65)),
])
def test_windows_show_the_same_colours_whatever_is_odd(name, size_wh, layout):
    image = encoded_view(smooth_picture(*size_wh), name)
    whole, inner = to_bgr(image).astype(int), slice(2, -2)
    tiles = TileOptions(layout, 0.1).place(size_wh)
    target = np.array([[0, 0, *size_wh]], np.float32) - [-30, -30, 2, 2]  # low and right
    crops = choose_crops(
        target.astype(np.float32), np.ones(1, np.float32), size_wh, CropShape(150, 2), 1
    )
    assert len(tiles) > 1 and len(crops) == 1
    for crop in (*tiles, *crops, *tile(size_wh, CropShape(80, 2))):
        seen = to_bgr(cut(image, crop)).astype(int)
        there = whole[crop.top:crop.bottom, crop.left:crop.right]
        assert np.abs(seen - there)[inner, inner].max() <= 1


def test_a_crop_is_a_view_of_the_same_memory():
    for name, kind in ENCODINGS.items():
        image = encoded_view(smooth_picture(64, 48), name)
        shared = np.shares_memory(cut(image, Crop(2, 2, 34, 34)).pixels, image.pixels)
        assert shared == (kind.layout is not PixelLayout.YUV420_SEMI_PLANAR)
