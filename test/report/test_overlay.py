from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.overlay import (
    class_colour,
    draw_detections,
    DrawStyle,
    place_label,
    text_colour,
)


def found(boxes: list[list[float]], size_wh: tuple[int, int]) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(count, 0.5, np.float32),
        np.arange(count, dtype=np.int32), size_wh,
    )


def test_a_box_is_drawn_in_its_class_colour() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    draw_detections(image, found([[100, 200, 300, 400]], (640, 480)), ('person',))
    assert tuple(image[300, 100]) == class_colour(0)
    assert tuple(image[400, 200]) == class_colour(0)
    assert not image[300, 200].any()  # not filled
    assert not image[:150].any() and not image[:, 320:].any()


def test_nothing_found_changes_nothing() -> None:
    image = np.full((48, 64, 3), 7, np.uint8)
    draw_detections(image, Detections.empty((64, 48)), ())
    assert (image == 7).all()


def test_lines_grow_with_the_image() -> None:
    widths = []
    for scale in (1, 4):
        image = np.zeros((480 * scale, 640 * scale, 3), np.uint8)
        box = [100.0 * scale, 200 * scale, 300 * scale, 400 * scale]
        draw_detections(image, found([box], (640 * scale, 480 * scale)), ('person',))
        row = image[300 * scale, : 200 * scale].any(axis=1)
        widths.append(int(row.sum()))
    assert widths[1] >= 2 * widths[0]


@pytest.mark.parametrize('size_wh', [(1, 1), (16, 16), (31, 2000), (3000, 20)])
def test_images_of_any_shape(size_wh: tuple[int, int]) -> None:
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    draw_detections(image, found([[0, 0, *size_wh]], size_wh), ('a class with a long name',))
    assert image.any()


def test_a_name_that_the_font_does_not_have() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    draw_detections(image, found([[10, 50, 90, 90]], (200, 100)), ('Füße 🚗',))
    assert image.any()


def test_colours_are_stable_and_distinct() -> None:
    colours = [np.array(class_colour(index), int) for index in range(80)]
    assert len({tuple(colour) for colour in colours}) == 80
    for one, two in itertools.pairwise(colours):
        assert np.abs(one - two).max() > 60
    assert class_colour(3) == tuple(colours[3])


def test_text_is_readable_on_every_colour() -> None:
    for index in range(80):
        blue, green, red = class_colour(index)
        luminance = 0.114 * blue + 0.587 * green + 0.299 * red
        assert abs(text_colour((blue, green, red))[0] - luminance) > 100


@given(
    st.tuples(st.integers(50, 4000), st.integers(50, 4000)),
    st.tuples(st.integers(-100, 4100), st.integers(-100, 4100)),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_a_label_lies_inside_the_image(
    image_wh: tuple[int, int], corner_xy: tuple[int, int], label_wh: tuple[int, int]
) -> None:
    x, y = place_label(image_wh, corner_xy, label_wh)
    assert 0 <= x <= image_wh[0] - label_wh[0]
    assert 0 <= y <= image_wh[1] - label_wh[1]


def test_labels_do_not_cover_each_other() -> None:
    taken: list[tuple[int, int, int, int]] = []
    for corner in [(100, 100), (100, 100), (102, 101), (98, 99), (110, 105), (150, 100)]:
        x, y = place_label((640, 480), corner, (80, 16), taken)
        label = (x, y, x + 80, y + 16)
        for other in taken:
            assert label[0] >= other[2] or label[2] <= other[0] or (
                label[1] >= other[3] or label[3] <= other[1]
            )
        taken.append(label)
    assert taken[0] == (100, 84, 180, 100)


def test_a_full_image_takes_labels_all_the_same() -> None:
    assert place_label((80, 16), (0, 0), (80, 16), [(0, 0, 80, 16)]) == (0, 0)


def test_labels_can_be_hidden_and_lines_made_wide() -> None:
    plain, wide = np.zeros((2, 480, 640, 3), np.uint8)
    box = found([[100, 200, 300, 400]], (640, 480))
    draw_detections(plain, box, ('person',), DrawStyle(labels=False))
    assert not plain[:195].any()
    draw_detections(wide, box, ('person',), DrawStyle(line_px=9))
    assert wide[300].any(axis=1).sum() >= plain[300].any(axis=1).sum() + 8
